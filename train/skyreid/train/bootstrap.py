"""How far a number of the table may be off: bootstrap intervals over people.

Queries of one person are not independent: whoever is hard to tell from a look-alike is so in every
picture of his. So people are drawn with replacement, each with all of his queries, and the means
over all queries drawn are taken anew. Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, percentile intervals; Field and Welsh, "Bootstrapping clustered data", JRSS B 69 (2007).

The interval is about other people met by the same weights and cameras. It says nothing of other
cameras, and nothing of another seed of the training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.train.metrics import Measures, Score

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20_240_607
_CELLS = 2**20  # draws held at a time

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A score with what it is worth.

    Attributes:
        score: over the valid queries.
        people: how many these queries show.
        rank1: 95 % interval of CMC at rank 1, fractions.
        average_precision: 95 % interval of mAP, fractions.
    """

    score: Score
    people: int
    rank1: Interval
    average_precision: Interval


def estimate(measures: Measures, *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """The means of these queries, with intervals.

    Args:
        measures: of one protocol or a part of one.
        resamples: how often the people are drawn.
        seed: of the draws; the same for everything that is compared.
    """
    names, person = np.unique(measures.people, return_inverse=True)
    people = names.size
    score = measures.score()
    if not people:
        return Estimate(score, 0, (0.0, 0.0), (0.0, 0.0))
    # Of each person: queries, queries right at rank 1, sum of average precisions. [3, P]
    sums = np.stack(
        [
            np.bincount(person, weights=weights, minlength=people)
            for weights in (
                np.ones(person.size),
                (measures.first == 1).astype(np.float64),
                measures.precision,
            )
        ]
    ).astype(np.float64)
    means = _resampled(sums, resamples, seed)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail], axis=1)
    return Estimate(score, people, (float(low[0]), float(high[0])), (float(low[1]), float(high[1])))


def _resampled(sums: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of rows 1 and 2 by row 0 over people drawn with replacement: [2, resamples]."""
    people = sums.shape[1]
    rng = np.random.default_rng(seed)
    means = np.empty((2, resamples))
    chunk = max(1, _CELLS // people)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(0, people, (rows, people))
        drawn += people * np.arange(rows)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=rows * people).reshape(rows, people)
        total = times @ sums.T  # [rows, 3]
        means[:, start : start + rows] = (total[:, 1:] / total[:, :1]).T
    return means
