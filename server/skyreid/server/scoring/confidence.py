"""Whether what the server says is true: stated probabilities, and strangers taken for somebody.

A link says that a tracklet shows the person whom the rest of its identity shows, and how sure that
is. It is right if the person whom most of those tracklets show is this one. Whose stated .9 is
right in nine of ten is calibrated; the expected calibration error is the mean distance of the two
over bins (Guo et al., arXiv:1706.04599).

Open set (ISO/IEC 19795-1): whoever is seen for the first time is searched for in vain, and is
falsely identified if accepted into the identity of others (FPIR); whoever was seen before is missed
unless accepted into an identity that mostly shows this person (FNIR). A tracklet counts once, in
the order in which the server first spoke of it; a box that is nobody's is a stranger each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.server.scoring.lineage import Statement

EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""Of bins of stated probability; the last one holds 1."""

Person = Mapping[TrackKey, Hashable]


@dataclass(frozen=True)
class Link:
    """A stated link beside the truth. ``tracks`` are those that it is about."""

    tracks: tuple[TrackKey, ...]
    stated: float
    right: bool
    accepted: bool
    across: bool
    """Between the views: the tracklet that speaks most clearly is of the other one."""


@dataclass(frozen=True)
class Bin:
    """Links stated from ``low`` up to ``high``: how many, their mean, the part that is right."""

    low: float
    high: float
    n: int
    stated: float | None
    right: float | None


@dataclass(frozen=True)
class Calibration:
    """Bins of some links, and their expected calibration error; None where there is no link."""

    bins: tuple[Bin, ...]
    ece: float | None


@dataclass(frozen=True)
class OpenSet:
    """Rates of tracklets; None where there was none of a kind.

    ``first`` were of somebody whom nobody had seen, ``again`` of somebody who had been.
    """

    first: int
    false: int
    again: int
    missed: int

    @property
    def fpir(self) -> float | None:
        """Strangers taken for somebody."""
        return self.false / self.first if self.first else None

    @property
    def fnir(self) -> float | None:
        """Known people who were not found, or taken for somebody else."""
        return self.missed / self.again if self.again else None


@dataclass(frozen=True)
class Confidence:
    """Of everything that was told, or of what is believed in the end."""

    whole: Calibration
    across: Calibration
    open_set: OpenSet


def confidence_of(
    statements: Sequence[Statement],
    order: Iterable[TrackKey],
    person: Person,
    view: Mapping[TrackKey, str],
) -> Confidence:
    """How true statements are; for the open set the first one of each tracklet.

    Args:
        statements: of tracklets in ``person`` and others, which are passed over.
        order: in which the server first spoke of the tracklets.
        person: whom each tracklet shows; None for nobody.
        view: from where each tracklet was seen.
    """
    links = list(links_of(statements, person, view))
    return Confidence(
        calibration(links),
        calibration([link for link in links if link.across]),
        open_set(statements, order, person),
    )


def links_of(
    statements: Iterable[Statement], person: Person, view: Mapping[TrackKey, str]
) -> Iterable[Link]:
    """The links among statements of known tracklets."""
    for said in statements:
        about = [track for track in said.tracks if track in person]
        if said.match is None or not about or not said.others:
            continue
        mine, theirs = _mostly(about, person), _mostly(said.others, person)
        yield Link(
            said.tracks,
            said.match.probability,
            mine is not None and mine == theirs,
            said.match.state == "accepted",
            view[about[0]] != view.get(said.match.other, view[about[0]]),
        )


def calibration(links: Sequence[Link]) -> Calibration:
    """Bins and expected calibration error."""
    stated = np.array([link.stated for link in links], np.float64)
    right = np.array([link.right for link in links], np.float64)
    which = np.clip(np.searchsorted(EDGES, stated, "right") - 1, 0, len(EDGES) - 2)
    bins, off = [], 0.0
    for k, (low, high) in enumerate(pairwise(EDGES)):
        inside = which == k
        n = int(inside.sum())
        if not n:
            bins.append(Bin(low, high, 0, None, None))
            continue
        bins.append(Bin(low, high, n, float(stated[inside].mean()), float(right[inside].mean())))
        off += abs(float((stated[inside] - right[inside]).sum()))
    return Calibration(tuple(bins), off / len(links) if links else None)


def open_set(statements: Iterable[Statement], order: Iterable[TrackKey], person: Person) -> OpenSet:
    """Each tracklet's first statement, against who had been spoken of before it."""
    said: dict[TrackKey, Statement] = {}
    for statement in statements:
        for track in statement.tracks:
            said.setdefault(track, statement)
    seen: set[Hashable] = set()
    before: set[TrackKey] = set()
    first = false = again = missed = 0
    for track in order:
        if track not in person or track not in said:  # without truth, or erased
            continue
        one = said[track]
        sure = one.match is None or one.match.state == "accepted"
        earlier = [t for t in one.others if sure and t in before and t not in one.doubtful]
        who = person[track]
        if who is not None and who in seen:
            again += 1
            missed += not earlier or _mostly(earlier, person) != who
        else:
            first += 1
            false += bool(earlier)
            if who is not None:
                seen.add(who)
        before.add(track)
    return OpenSet(first, false, again, missed)


def _mostly(tracks: Collection[TrackKey], person: Person) -> Hashable:
    """The person whom most of them show; None for nobody, the first one of equals."""
    counts = Counter(person.get(track) for track in tracks)
    return max(counts, key=lambda who: counts[who]) if counts else None


def as_json(found: Confidence) -> dict[str, Any]:
    """``{"bins", "ece", "cross_view": {"bins", "ece"}}``."""
    return {**_calibration_json(found.whole), "cross_view": _calibration_json(found.across)}


def _calibration_json(found: Calibration) -> dict[str, Any]:
    bins = [
        {
            "from": b.low,
            "to": b.high,
            "n": b.n,
            "stated": _short(b.stated),
            "right": _short(b.right),
        }
        for b in found.bins
    ]
    return {"bins": bins, "ece": _short(found.ece)}


def open_set_json(found: OpenSet) -> dict[str, Any]:
    """``{"fpir", "fnir", "first", "again"}``."""
    return {
        "fpir": _short(found.fpir),
        "fnir": _short(found.fnir),
        "first": found.first,
        "again": found.again,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
