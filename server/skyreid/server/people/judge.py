"""From looks to a stated return: how sure, among how many, and whether that is within the rate.

What counts is by how much somebody stands out: their cosine less what others of the gallery come to
who are most alike but for them (a cohort of the query's own; test normalisation: R. Auckenthaler,
M. Carey, H. Lloyd-Thomas 2000). So whoever has look-alikes raises the bar for all of them, and how
often a stranger stands out by so much hardly depends on how many people are known: the more there
are, the more alike others are, too. The constants are fitted on rendered people of whom nothing is
reported (docs/LOG.md). Whether they hold at a site is measured beside it, on people who cannot be
the query because one camera saw both at once: see `Measured`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skyreid.server.matching.priors import Normals, prior_of

COHORT = 10
"""People, the most alike but for the first, whom a score has to stand out of."""
SECOND, OTHERS = 0.35, 0.45
"""What the first and the mean of the rest of them count."""
LEVEL_MIN = 0.9
"""What they come to among some thirty people. Fewer are less alike, and unlike each other besides,
less their own mean: what that says of one who is not among them has not been seen."""
ONE_STANDS_OUT, FALLS = 0.84, 0.29
"""By so much somebody in the gallery stands out for every first comer; by so much more for e times
fewer. In standard deviations of strangers' cosines, as the bundle states them."""
EVEN, SURER = 1.4, 3.7
"""Standing out by so much is as likely who came back as a stranger where half of those who come had
been here before; odds are e**3.7 times that for each standard deviation more."""
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
        others = np.sort(np.asarray(scores, np.float64))[::-1][1 : 1 + COHORT]
        if not len(others):
            return cls(people, LEVEL_MIN)
        rest = others[1:] if len(others) > 1 else others
        level = SECOND * float(others[0]) + OTHERS * float(rest.mean())
        return cls(people, max(LEVEL_MIN, level))

    def beyond(self, score: float) -> float:
        """How many strangers of the gallery are expected at a score or above."""
        over = (score - self.level - ONE_STANDS_OUT) / FALLS
        return min(float(self.people), math.exp(min(-over, 50.0)))


@dataclass(frozen=True)
class Candidate:
    """Somebody who had left, and how much who came looks like that."""

    person: str
    score: float
    """Cosine, in standard deviations of strangers'."""
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
        over = SURER * (each.score - cohort.level - EVEN)
        odds.append(known * math.exp(min(over, 50.0)))
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
