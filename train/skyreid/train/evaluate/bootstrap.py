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

from skyreid.contract.errors import InputError
from skyreid.train.evaluate.metrics import Doubles, Ints, Measures, Score

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20_240_607
_CELLS = 2**20  # draws held at a time

Interval = tuple[float, float]

UNDEFINED: Interval = (float("nan"), float("nan"))
"""Of a mean over nothing."""


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


@dataclass(frozen=True)
class Difference:
    """One model's means minus another's over the same queries, with what that is worth.

    Attributes:
        queries: how many both answered.
        people: how many these queries show.
        rank1: difference of CMC at rank 1, fractions.
        rank1_interval: its 95 % interval.
        average_precision: difference of mAP, fractions.
        average_precision_interval: its 95 % interval.
    """

    queries: int
    people: int
    rank1: float
    rank1_interval: Interval
    average_precision: float
    average_precision_interval: Interval


def estimate(measures: Measures, *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """The means of these queries, with intervals.

    Args:
        measures: of one protocol or a part of one.
        resamples: how often the people are drawn.
        seed: of the draws; the same for everything that is compared.
    """
    score = measures.score()
    right = (measures.first == 1).astype(np.float64)
    people, rank1, precision = _intervals(
        measures.people, right, measures.precision, resamples, seed
    )
    return Estimate(score, people, rank1, precision)


def difference(
    ours: Measures, theirs: Measures, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Difference:
    """How much better one model did than another at the same queries.

    Both meet the same draws of people, so what is hard for both cancels: the interval is that of
    the difference, and narrower than two overlapping intervals suggest.

    Args:
        ours: of one protocol or a part of one.
        theirs: of the same one.
        resamples: how often the people are drawn.
        seed: of the draws.

    Raises:
        InputError: when the two were not asked the same queries.
    """
    if not (
        np.array_equal(ours.query, theirs.query) and np.array_equal(ours.people, theirs.people)
    ):
        raise InputError(
            f"cannot compare {ours.query.size} queries with {theirs.query.size} others: "
            "both models must be asked the same"
        )
    right = (ours.first == 1).astype(np.float64) - (theirs.first == 1)
    precision = ours.precision - theirs.precision
    people, right_interval, precision_interval = _intervals(
        ours.people, right, precision, resamples, seed
    )
    count = ours.query.size
    return Difference(
        count,
        people,
        float(right.mean()) if count else float("nan"),
        right_interval,
        float(precision.mean()) if count else float("nan"),
        precision_interval,
    )


def _intervals(
    people: Ints, right: Doubles, precision: Doubles, resamples: int, seed: int
) -> tuple[int, Interval, Interval]:
    """Number of people, and intervals of the means of two values a query [V]."""
    names, person = np.unique(people, return_inverse=True)
    if not names.size:
        return 0, UNDEFINED, UNDEFINED
    # Of each person: queries and the sums of both values. [3, P]
    sums = np.stack(
        [
            np.bincount(person, weights=weights, minlength=names.size)
            for weights in (np.ones(person.size), right, precision)
        ]
    ).astype(np.float64)
    means = _resampled(sums, resamples, seed)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail], axis=1)
    first, second = ((float(a), float(b)) for a, b in zip(low, high, strict=True))
    return names.size, first, second


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
