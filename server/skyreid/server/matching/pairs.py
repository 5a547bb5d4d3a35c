"""The active window as tables: for every two tracklets, what place and time say.

Kept up to date row by row as revisions come in; nothing here looks at pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import CLOCK_UNKNOWN_MS
from skyreid.server.matching.likelihood import Bool, Float64, Int64, place_llr, time_llr
from skyreid.server.matching.tracklets import Tracklet

STEP_S = 0.25
AREA_MIN_M2 = 64.0
UNRELATED_S = 30.0
"""Two clocks that may differ by more say nothing of each other: in that time a person may be
anywhere (``likelihood.FORGET_S``), so their moments are not compared at all."""
NONE, PLACE, TIME = 0, 1, 2
# What every row is compared by, as columns; start and end are points on the grid of time.
_FACTS = np.dtype(
    [
        (name, np.int64)
        for name in ("first_ns", "last_ns", "camera", "model", "start", "end", "error_ms")
    ]
)


@dataclass(frozen=True, eq=False)
class Tables:
    """What is known of pairs of N tracklets; every array is [N, N] and symmetric."""

    llr: Float64
    """Of place, or of time where the tracklets never coincide; 0 where nothing is known."""
    kind: NDArray[np.int8]
    """``NONE``, ``PLACE`` or ``TIME``."""
    measure: Float64
    """Metres for ``PLACE``, seconds for ``TIME``."""
    shared_s: Float64
    """How long both positions are known."""
    forbidden: Bool
    """Pairs that cannot be one person."""
    together: Bool
    """Pairs seen by one camera at one time: certainly two people."""
    clock_s: Float64
    """How far the two clocks may be apart: both errors together, 0 within one camera; ``inf``
    where the clocks are unrelated."""


@dataclass(frozen=True, eq=False)
class _Row:
    """A tracklet's path on the common grid of time; point k is at (start + k) * STEP_S."""

    tracklet: Tracklet
    start: int
    points: Float64  # [M, 5] east, north, ee, en, nn; M is 0 without positions


class Window:
    """Tracklets and their pair tables. ``put`` and ``drop`` change it, ``tables`` reads it."""

    def __init__(self, *, overlap_tolerance_s: float) -> None:
        self._area_m2 = AREA_MIN_M2
        self._tolerance_ns = round(overlap_tolerance_s * 1e9)
        self._rows: list[_Row] = []
        self._index: dict[TrackKey, int] = {}
        self._numbers: dict[object, int] = {}
        self._stale: set[int] = set()
        self._facts = np.zeros(0, _FACTS)
        self._size(64)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: TrackKey) -> bool:
        return key in self._index

    def tracklet(self, key: TrackKey) -> Tracklet:
        """The tracklet as it was last put; KeyError if it is not here."""
        return self._rows[self._index[key]].tracklet

    def tracklets(self) -> list[Tracklet]:
        """All of them, in order of their keys."""
        return [self.tracklet(key) for key in sorted(self._index)]

    def put(self, tracklet: Tracklet) -> None:
        """Add a tracklet or replace it by its newer self."""
        at = self._index.get(tracklet.key)
        row = _Row(tracklet, *_on_grid(tracklet.path))
        if at is None:
            at = self._index[tracklet.key] = len(self._rows)
            self._rows.append(row)
            if at >= len(self._llr):
                self._size(2 * len(self._llr))
        else:
            self._rows[at] = row
        self._facts[at] = self._fact(row)
        self._stale.add(at)

    def drop(self, key: TrackKey) -> None:
        """Forget a tracklet; no error if it is not here."""
        at = self._index.pop(key, None)
        if at is None:
            return
        last = len(self._rows) - 1
        moved = self._rows.pop()
        if at != last:  # the last row takes the free place
            self._rows[at] = moved
            self._index[moved.tracklet.key] = at
            self._facts[at] = self._facts[last]
            for table in self._arrays():
                table[at, :] = table[last, :]
                table[:, at] = table[:, last]
            if last in self._stale:
                self._stale.add(at)
        self._stale.discard(last)

    def tables(self, keys: Sequence[TrackKey]) -> Tables:
        """The pair tables of some tracklets, in their order."""
        area_m2 = _area(self._rows)
        if area_m2 != self._area_m2:
            self._area_m2 = area_m2
            self._stale = set(range(len(self._rows)))
        for at in sorted(self._stale):
            self._compute(at)
        self._stale.clear()
        order = np.array([self._index[key] for key in keys], np.int64)
        grid = np.ix_(order, order)
        kind = self._kind[grid]
        return Tables(
            self._llr[grid],
            kind,
            self._measure[grid],
            self._shared[grid],
            self._forbidden[grid],
            self._together[grid],
            self._clock[grid],
        )

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return (
            self._llr,
            self._kind,
            self._measure,
            self._shared,
            self._forbidden,
            self._together,
            self._clock,
        )

    def _fact(self, row: _Row) -> tuple[int, int, int, int, int, int, int]:
        """One entry of ``_FACTS``."""
        t, error_ms = row.tracklet, row.tracklet.sighting.clock_error_ms
        # A file without a known start has other times at every replay: each life is a clock alone.
        life = t.key.boot if error_ms >= CLOCK_UNKNOWN_MS else ""
        camera = self._numbers.setdefault((t.key.device, t.key.camera, life), len(self._numbers))
        model = self._numbers.setdefault(t.model_key, len(self._numbers))
        end = row.start + len(row.points)
        return t.first_ns, t.last_ns, camera, model, row.start, end, error_ms

    def _size(self, capacity: int) -> None:
        old = self._arrays() if hasattr(self, "_llr") else None
        facts = np.zeros(capacity, _FACTS)
        facts[: len(self._facts)] = self._facts
        self._facts = facts
        shape = (capacity, capacity)
        self._llr = np.zeros(shape)
        self._kind = np.zeros(shape, np.int8)
        self._measure = np.zeros(shape)
        self._shared = np.zeros(shape)
        self._forbidden = np.zeros(shape, np.bool_)
        self._together = np.zeros(shape, np.bool_)
        self._clock = np.zeros(shape)
        for before, after in zip(old or (), self._arrays(), strict=False):
            after[: len(before), : len(before)] = before

    def _compute(self, at: int) -> None:
        """Everything about row ``at``, both ways."""
        count, row = len(self._rows), self._rows[at]
        for table in self._arrays():
            table[at, :] = 0
            table[:, at] = 0
        facts = self._facts[:count]
        overlap_ns = np.minimum(facts["last_ns"], facts["last_ns"][at])
        overlap_ns -= np.maximum(facts["first_ns"], facts["first_ns"][at])
        own = facts["camera"] == facts["camera"][at]
        together = own & (overlap_ns > self._tolerance_ns)
        together[at] = False
        self._both_ways(self._together, at, np.arange(count), together)
        foreign = facts["model"] != facts["model"][at]
        self._both_ways(self._forbidden, at, np.arange(count), together | foreign)
        clock_s = np.where(own, 0.0, (facts["error_ms"] + facts["error_ms"][at]) / 1e3)
        clock_s[clock_s > UNRELATED_S] = np.inf
        self._both_ways(self._clock, at, np.arange(count), clock_s)
        if not len(row.points):
            return
        known = (facts["end"] > facts["start"]) & np.isfinite(clock_s)
        known[at] = False
        first = np.maximum(facts["start"], row.start)
        past = np.minimum(facts["end"], facts["end"][at])
        self._places(at, np.flatnonzero(known & (past > first)), first, past)
        self._gaps(at, np.flatnonzero(known & (past <= first)))

    def _places(self, at: int, others: Int64, first: Int64, past: Int64) -> None:
        if not len(others):
            return
        row = self._rows[at]
        mine = [row.points[first[j] - row.start : past[j] - row.start] for j in others]
        theirs = []
        for j in others:
            other = self._rows[j]
            theirs.append(other.points[first[j] - other.start : past[j] - other.start])
        a, b = np.concatenate(mine), np.concatenate(theirs)
        offset = a[:, :2] - b[:, :2]
        counts = (past - first)[others]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        # The mean over the shared time, not the sum: errors of one moment are those of the next.
        clock_s = np.repeat(self._clock[at, others], counts)
        covariance = a[:, 2:] + b[:, 2:]
        # Clocks apart are a gap that is not seen: somebody walked for as long.
        llr = np.where(
            clock_s > 0,
            time_llr(offset, covariance, clock_s, self._area_m2),
            place_llr(offset, covariance, self._area_m2),
        )
        llr = np.add.reduceat(llr, starts)
        distance = np.add.reduceat(np.hypot(offset[:, 0], offset[:, 1]), starts)
        self._both_ways(self._llr, at, others, llr / counts)
        self._both_ways(self._measure, at, others, distance / counts)
        self._both_ways(self._shared, at, others, counts * STEP_S)
        self._both_ways(self._kind, at, others, PLACE)

    def _gaps(self, at: int, others: Int64) -> None:
        if not len(others):
            return
        later = self._facts["start"][others] > self._rows[at].start
        path = self._rows[at].tracklet.path
        near = np.where(later[:, None], path[-1], path[0])
        far = np.stack(
            [
                self._rows[j].tracklet.path[0 if late else -1]
                for j, late in zip(others, later, strict=True)
            ]
        )
        gap_s = np.abs(near[:, 0] - far[:, 0])
        offset, covariance = near[:, 1:3] - far[:, 1:3], near[:, 3:] + far[:, 3:]
        llr = time_llr(offset, covariance, gap_s + self._clock[at, others], self._area_m2)
        self._both_ways(self._llr, at, others, llr)
        self._both_ways(self._measure, at, others, gap_s)
        self._both_ways(self._kind, at, others, TIME)

    @staticmethod
    def _both_ways(table: NDArray[Any], at: int, others: Int64, values: NDArray[Any] | int) -> None:
        table[at, others] = values
        table[others, at] = values


def _on_grid(path: Float64) -> tuple[int, Float64]:
    """A path at multiples of ``STEP_S``: number of the first point, and points [M, 5]."""
    if not len(path):
        return 0, np.zeros((0, 5))
    start = round(path[0, 0] / STEP_S)
    end = round(path[-1, 0] / STEP_S)
    moments = np.arange(start, end + 1) * STEP_S
    columns = [np.interp(moments, path[:, 0], path[:, c]) for c in range(1, 6)]
    return start, np.stack(columns, 1)


def _area(rows: Sequence[_Row]) -> float:
    """Where people are, in m², as a power of two: everything is computed anew when it changes.

    The box that holds the middle nine tenths of all positions: a few that were thrown far off by a
    ray near the horizon must not make the site look empty.
    """
    known = [row.points[:, :2] for row in rows if len(row.points)]
    if not known:
        return AREA_MIN_M2
    low, high = np.percentile(np.concatenate(known), [5, 95], axis=0)
    area = float(np.prod((high - low) / 0.9))
    return max(AREA_MIN_M2, 2.0 ** round(float(np.log2(max(area, 1.0)))))
