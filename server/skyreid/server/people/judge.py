"""From looks to a stated return: how sure, among how many, and whether that is within the rate.

Everything is told against the query's own cohort: all people in the gallery whom it could be. Their
cosines give the query its own zero and unit (z-norm), and the best of them the tail of strangers
that look alike (an exponential one, from spacings of order statistics: A. Rényi 1953). So whoever
has look-alikes raises the bar for all of them. Whether that tail is true is measured beside it, on
people who cannot be the query because one camera saw both at once: see `Measured`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.server.matching.likelihood import Normals

Float64 = NDArray[np.float64]
ALIKE = 0.4
"""How far scores of one stranger go together, from tracklet to tracklet and from view to view."""
TAIL = 20
"""People, the most alike but for the first, whose scores the tail is taken from."""
TAIL_LEAST = 5
TAIL_PRIOR = 0.3
TAIL_WEIGHT = 10.0
"""Before any score was seen, the tail falls by e in so much; worth so many people."""
LESS = 0.7
"""Of what sets one person apart from others within the hour, so much is left hours later."""
SPREAD = 1.6
"""Standard deviation of a right score, in those of strangers."""
ODD = 0.05
"""Share of right ones that look like anybody (somebody else in the box, other clothes)."""
SURE_MAX = 0.99
"""No return is stated surer: beyond it no count of checked ones has held."""
COHORT_MIN = 30
"""People from whom a tail can be told; with fewer the measured rate must say it alone."""
MEASURED_MIN = 100
MEASURED_MAX = 5000


@dataclass(frozen=True)
class Tail:
    """How many strangers look so much alike, by score, of ``people``."""

    people: int
    count: int
    """Of them at ``start`` or above."""
    start: float
    scale: float
    """By so much more score there are e times fewer."""

    @classmethod
    def of(cls, scores: Sequence[float], people: int) -> Tail:
        """From the scores of the most alike, in any order; the first of them is left out."""
        best = np.sort(np.asarray(scores, np.float64))[::-1][1:]
        count = min(TAIL, max(TAIL_LEAST, people // 10), len(best))
        if count < TAIL_LEAST:
            return cls(people, 1, math.sqrt(2 * math.log(max(people, 2))), TAIL_PRIOR)
        start = float(best[count - 1])
        mean = float((best[: count - 1] - start).mean()) * (count - 1)
        scale = (mean + TAIL_WEIGHT * TAIL_PRIOR) / (count - 1 + TAIL_WEIGHT)
        return cls(people, count + 1, start, scale)

    def beyond(self, score: float) -> float:
        """How many strangers are expected at a score or above."""
        bulk = 0.5 * math.erfc(score / math.sqrt(2)) * self.people
        if score <= self.start:
            return min(float(self.people), max(bulk, float(self.count)))
        return max(bulk, self.count * math.exp(-(score - self.start) / self.scale))

    def density(self, score: float) -> float:
        """Of one stranger's score."""
        return self.beyond(score) / self.people / self.scale


@dataclass(frozen=True)
class Candidate:
    """Somebody who had left, and how much who came looks like that."""

    person: str
    score: float
    """See `strength`."""
    expected: float
    """What it would be on average if they are one person."""
    gap_s: float


def power(normals: Normals) -> float:
    """How far apart a bundle puts one person and strangers, in strangers' standard deviations."""
    return max(0.5, (normals.same_mean - normals.different_mean) / normals.different_std)


def strength(groups: Sequence[tuple[float, Sequence[float]]]) -> tuple[float, float]:
    """One score for a person, about standard normal for strangers, and the mean of a right one.

    Args:
        groups: for each pair of views what sets people apart there (`power`), and the person's
            scores there in standard deviations of the query's cohort.
    """
    weights, values = [], []
    for weight, scores in groups:
        if len(scores):
            alone = math.sqrt(ALIKE + (1 - ALIKE) / len(scores))
            weights.append(weight / alone)
            values.append(float(np.mean(scores)) / alone)
    if not weights:
        return 0.0, 0.0
    w = np.array(weights)
    together = float(ALIKE * w.sum() ** 2 + (1 - ALIKE) * (w**2).sum())
    unit = math.sqrt(together)
    return float(w @ np.array(values)) / unit, LESS * float((w**2).sum()) / unit


def probabilities(
    candidates: Sequence[Candidate], tail: Tail, share: float, half_life_h: float
) -> list[float]:
    """Posterior of each that it is who came; what is left is somebody new, or nobody of these.

    Args:
        candidates: the most alike of all people.
        tail: of strangers.
        share: of those who come, how many had been here before.
        half_life_h: hours after which half of them look different.
    """
    odds = []
    for each in candidates:
        known = 0.5 ** (each.gap_s / 3600 / half_life_h)
        prior = share * known / max(tail.people, 1)
        over = min(0.0, each.score - each.expected) / SPREAD
        right = math.exp(-0.5 * over**2) / (SPREAD * math.sqrt(2 * math.pi))
        stranger = max(tail.density(each.score), 1e-300)
        odds.append(prior * ((1 - ODD) * right / stranger + ODD))
    whole = (1 - share) + sum(odds)
    return [min(SURE_MAX, each / whole) for each in odds]


class Measured:
    """How often who cannot be the query would have been accepted: held against the configured rate.

    One value each query: how many people as much alike as the most alike of those who were in one
    camera's picture beside it were expected. If tails are true, it is below x for x of the queries.
    """

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=MEASURED_MAX)

    def __len__(self) -> int:
        return len(self._values)

    def note(self, expected: float) -> None:
        """One query more."""
        self._values.append(min(1.0, expected))

    def accept_below(self, fpir: float) -> float:
        """Up to how many strangers may be expected where a return is accepted.

        So that the measured rate is not above ``fpir`` either.
        """
        allowed = math.floor(fpir * len(self._values)) + 1
        lowest = sorted(value for value in self._values if value <= fpir)
        return fpir if len(lowest) <= allowed else math.nextafter(lowest[allowed], 0.0)

    def rate(self, fpir: float) -> float:
        """The share of queries for which somebody else would be accepted now; NaN before one."""
        if not self._values:
            return math.nan
        bar = self.accept_below(fpir)
        return sum(value <= bar for value in self._values) / len(self._values)


def why_not(
    tail: Tail, expected: float, probability: float, gap_s: float, looks_h: float,
    measured: Measured, fpir: float,
) -> str:  # fmt: skip
    """Why a return is a suggestion only; "" where it is accepted."""
    if gap_s > 3600 * looks_h:
        return f"gone for over {looks_h:g} h: looks alone are a suggestion"
    if tail.people < COHORT_MIN and len(measured) < MEASURED_MIN:
        return f"{tail.people} people are too few to say how many look alike"
    if expected > measured.accept_below(fpir) or probability < 0.5:
        return "others look as much alike"
    return ""
