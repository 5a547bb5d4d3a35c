"""What a format costs a search, in points of R1 and mAP, and whether that is shown.

The same queries are asked with and without the format, and people are drawn with replacement
(`bootstrap`): a loss is shown to be small where all of its interval is, shown to be large where all
of it is, and otherwise nothing is shown, at any number of queries. Where no query went wrong or
right the draws all agree, of however few; then the interval ends where the rule of three does
(Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 1983): what n
queries never met may befall 3 / n of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from skyreid.train.evaluate.bootstrap import Interval, difference
from skyreid.train.evaluate.metrics import Measures

Verdict = Literal["passed", "failed", "not shown"]

LARGEST = 0.5
"""Of R1 and mAP, in points (a hundredth of the whole)."""
FEWEST_PEOPLE = 10
"""From which draws of people can show that a loss is small; a large one shows with fewer."""
_RULE_OF_THREE = 3


@dataclass(frozen=True)
class Loss:
    """What one measure of one protocol lost.

    Attributes:
        measure: "R1" or "mAP".
        points: exact minus found; negative where the format is better.
        interval: its 95 % interval, points.
        queries: that were asked.
        people: whom they show.
        verdict: see the module.
        queries_needed: about how many queries of as many people more would show it; 0 where it is.
    """

    measure: str
    points: float
    interval: Interval
    queries: int
    people: int
    verdict: Verdict
    queries_needed: int

    def line(self, what: str) -> str:
        """For people."""
        low, high = self.interval
        said = f"{what} {self.measure}: loses {self.points:.2f} ({low:.2f} to {high:.2f}) points"
        if self.verdict == "not shown":
            return (
                f"{said}, limit {LARGEST}: not shown with {self.queries} queries of "
                f"{self.people} people; about {self.queries_needed} queries would show it"
            )
        return f"{said}, limit {LARGEST}: {self.verdict}"

    def as_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "interval": list(self.interval)}


def losses(exact: Measures, found: Measures) -> tuple[Loss, ...]:
    """R1's and mAP's, of one protocol asked twice; none where no query counts."""
    if not exact.query.size:
        return ()
    both = difference(exact, found)
    changed = bool(((exact.first == 1) != (found.first == 1)).any())
    return tuple(
        _judged(measure, 100 * points, (100 * low, 100 * high), both.queries, both.people, varies)
        for measure, points, (low, high), varies in (
            ("R1", both.rank1, both.rank1_interval, changed),
            (
                "mAP",
                both.average_precision,
                both.average_precision_interval,
                bool((exact.precision != found.precision).any()),
            ),
        )
    )


def _judged(
    measure: str, points: float, interval: Interval, queries: int, people: int, varies: bool
) -> Loss:
    low, high = interval
    if not varies:
        high = 100 * min(1.0, _RULE_OF_THREE / queries)
    verdict: Verdict = "not shown"
    if low > LARGEST:
        verdict = "failed"
    elif high <= LARGEST and people >= FEWEST_PEOPLE:
        verdict = "passed"
    needed = 0
    if verdict == "not shown":
        needed = _needed(points, (low, high), queries, varies)
        needed = max(needed, math.ceil(queries * FEWEST_PEOPLE / people) if people else 0)
    return Loss(measure, points, (low, high), queries, people, verdict, needed)


def _needed(points: float, interval: Interval, queries: int, varies: bool) -> int:
    """How many queries make the interval so narrow that it lies on one side of the limit."""
    if not varies:
        return math.ceil(100 * _RULE_OF_THREE / LARGEST)
    side = interval[1] - points if points <= LARGEST else points - interval[0]
    room = max(abs(LARGEST - points), 0.05)  # a loss on the limit itself would never be shown
    return _rounded_up(queries * (side / room) ** 2)


def _rounded_up(number: float) -> int:
    """To two digits: it is an estimate."""
    step: int = 10 ** max(0, len(str(math.ceil(number))) - 2)
    return math.ceil(number / step) * step


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """One for all: failed where one is, else not shown where one is not."""
    met = set(verdicts)
    if "failed" in met:
        return "failed"
    return "not shown" if "not shown" in met else "passed"


def of_protocols(
    exact: Mapping[str, Measures], found: Mapping[str, Measures]
) -> dict[str, tuple[Loss, ...]]:
    """By protocol, those in which a query counts."""
    table = {name: losses(measures, found[name]) for name, measures in exact.items()}
    return {name: both for name, both in table.items() if both}
