"""From looks to a stated return: how sure, among how many, and whether that is within the rate.

What counts is by how much somebody stands out: how alike they are to who came, less a part of what
the most alike but for them is. So whoever has look-alikes raises the bar for all of them (test
normalisation by a cohort: R. Auckenthaler, M. Carey, H. Lloyd-Thomas 2000; of one person here, as
the rest of the gallery say no more: docs/LOG.md). The more people are known, the more strangers
stand out, and by a law that one gallery is fitted to as well as another. The constants are fitted
on rendered people of whom nothing is reported. Whether they hold at a site is measured beside it,
on people who cannot be the query because one camera saw both at once: see `Measured`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skyreid.server.matching.priors import Normals, prior_of

SECOND = 0.3
"""What the most alike but for the first counts, whom a score has to stand out of. Nobody counts
less than who is not alike at all: few people, less their own mean, are unlike each other."""
ONE_STANDS_OUT, GROWS, FALLS = 0.45, 2 / 3, 0.3
"""By so much somebody stands out for every first comer, were there one person only; of n people
n**(2/3) times as many do; by so much more e times fewer. In standard deviations of strangers'
cosines, as the bundle states them."""
EVEN, SURER = 0.25, 1.1
"""Who stands out as much as .25 strangers are expected to is as likely who came back as not where
half of those who come had been here before; odds are e**1.1 times that where e times fewer are."""
SURE_MAX = 0.99
"""No return is stated surer: beyond it no count of checked ones has held."""
COHORT_MIN = 30
"""People from whom can be told how alike others are."""
MEASURED_MAX = 5000


def unit_of(priors: Mapping[str, Normals]) -> float:
    """Standard deviation of strangers' centred cosines, as a bundle states it, of all views."""
    pairs = ("aerial-aerial", "aerial-ground", "ground-ground")
    return float(np.mean([prior_of(priors, pair).different_std for pair in pairs]))


@dataclass(frozen=True)
class Cohort:
    """How much the most alike of ``people`` look like who came."""

    people: int
    level: float
    """What others come to, in the unit of scores."""

    @classmethod
    def of(cls, scores: Sequence[float], people: int) -> Cohort:
        """From the scores of the most alike, in any order; the first of them is left out."""
        others = sorted(scores, reverse=True)[1:2]
        return cls(people, SECOND * max([0.0, *others]))

    def beyond(self, score: float) -> float:
        """How many strangers of the gallery are expected at a score or above."""
        over = (score - self.level - ONE_STANDS_OUT) / FALLS - GROWS * math.log(max(1, self.people))
        return min(float(self.people), math.exp(min(-over, 50.0)))


@dataclass(frozen=True)
class Candidate:
    """Somebody who had left, and how much who came looks like that."""

    person: str
    score: float
    """`looks.alike`, in standard deviations of strangers' cosines."""
    gap_s: float


def probabilities(
    candidates: Sequence[Candidate], cohort: Cohort, share: float, half_life_h: float
) -> list[float]:
    """Posterior of each that it is who came; what is left is somebody new, or nobody of these.

    Args:
        candidates: the most alike of all people.
        cohort: how much others look like who came.
        share: of those who come, how many had been here before.
        half_life_h: hours after which half of them look different.
    """
    odds = []
    for each in candidates:
        known = share * 0.5 ** (each.gap_s / 3600 / half_life_h)
        odds.append(known * (EVEN / max(cohort.beyond(each.score), 1e-12)) ** SURER)
    whole = (1 - share) + sum(odds)
    return [min(SURE_MAX, each / whole) for each in odds]


class Measured:
    """How often who cannot be the query would have been accepted: held against the configured rate.

    One value each query: how many strangers are expected (`Cohort.beyond`) as much alike as the
    most alike of those who were in one camera's picture beside it. They are far fewer than a
    gallery has, so where more than a share x of the values is below x, the curve is not true here.
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
    cohort: Cohort, expected: float, probability: float, gap_s: float, looks_h: float,
    measured: Measured, fpir: float,
) -> str:  # fmt: skip
    """Why a return is a suggestion only; "" where it is accepted."""
    if gap_s > 3600 * looks_h:
        return f"gone for over {looks_h:g} h: looks alone are a suggestion"
    if cohort.people < COHORT_MIN:
        return f"{cohort.people} people are too few to say how many look alike"
    if expected > measured.accept_below(fpir) or probability < 0.5:
        return "others look as much alike"
    return ""
