"""The active window as tables: for every two tracklets, what place and time say.

Kept up to date row by row as revisions come in; nothing here looks at pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.server.likelihood import Bool, Float64, place_llr, time_llr
from skyreid.server.tracklets import TrackKey, Tracklet

STEP_S = 0.25
AREA_MIN_M2 = 64.0
NONE, PLACE, TIME = 0, 1, 2


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
        self._stale: set[int] = set()
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
        )

    def _arrays(self) -> tuple[NDArray[np.generic], ...]:
        return (
            self._llr,
            self._kind,
            self._measure,
            self._shared,
            self._forbidden,
            self._together,
        )

    def _size(self, capacity: int) -> None:
        old = self._arrays() if hasattr(self, "_llr") else None
        shape = (capacity, capacity)
        self._llr = np.zeros(shape)
        self._kind = np.zeros(shape, np.int8)
        self._measure = np.zeros(shape)
        self._shared = np.zeros(shape)
        self._forbidden = np.zeros(shape, np.bool_)
        self._together = np.zeros(shape, np.bool_)
        for before, after in zip(old or (), self._arrays(), strict=False):
            after[: len(before), : len(before)] = before

    def _compute(self, at: int) -> None:
        """Everything about row ``at``, both ways."""
        row = self._rows[at]
        for table in self._arrays():
            table[at, :] = 0
            table[:, at] = 0
        here = row.tracklet
        places: list[tuple[int, int, int]] = []  # other row, first and past-last grid point
        gaps: list[tuple[int, bool]] = []  # other row, whether it comes later
        for j, other in enumerate(self._rows):
            if j == at:
                continue
            there = other.tracklet
            overlap = min(here.last_ns, there.last_ns) - max(here.first_ns, there.first_ns)
            camera = (here.key.device, here.key.boot, here.key.camera)
            if camera == (there.key.device, there.key.boot, there.key.camera):
                together = overlap > self._tolerance_ns
                self._set(self._together, at, j, together)
                self._set(self._forbidden, at, j, together)
            if here.model_key != there.model_key:
                self._set(self._forbidden, at, j, True)
            if not len(row.points) or not len(other.points):
                continue
            first = max(row.start, other.start)
            past = min(row.start + len(row.points), other.start + len(other.points))
            if past > first:
                places.append((j, first, past))
            else:
                gaps.append((j, other.start > row.start))
        self._places(at, places)
        self._gaps(at, gaps)

    def _places(self, at: int, found: list[tuple[int, int, int]]) -> None:
        if not found:
            return
        mine, theirs, starts, total = [], [], [], 0
        for j, first, past in found:
            row, other = self._rows[at], self._rows[j]
            mine.append(row.points[first - row.start : past - row.start])
            theirs.append(other.points[first - other.start : past - other.start])
            starts.append(total)
            total += past - first
        a, b = np.concatenate(mine), np.concatenate(theirs)
        offset = a[:, :2] - b[:, :2]
        counts = np.diff([*starts, total])
        # The mean over the shared time, not the sum: errors of one moment are those of the next.
        llr = np.add.reduceat(place_llr(offset, a[:, 2:] + b[:, 2:], self._area_m2), starts)
        distance = np.add.reduceat(np.hypot(offset[:, 0], offset[:, 1]), starts)
        for k, (j, first, past) in enumerate(found):
            self._set(self._llr, at, j, llr[k] / counts[k])
            self._set(self._measure, at, j, distance[k] / counts[k])
            self._set(self._shared, at, j, (past - first) * STEP_S)
            self._set(self._kind, at, j, PLACE)

    def _gaps(self, at: int, found: list[tuple[int, bool]]) -> None:
        if not found:
            return
        path = self._rows[at].tracklet.path
        near, far = [], []
        for j, later in found:
            other = self._rows[j].tracklet.path
            near.append(path[-1] if later else path[0])
            far.append(other[0] if later else other[-1])
        a, b = np.stack(near), np.stack(far)
        gap_s = np.abs(a[:, 0] - b[:, 0])
        llr = time_llr(a[:, 1:3] - b[:, 1:3], a[:, 3:] + b[:, 3:], gap_s, self._area_m2)
        for k, (j, _) in enumerate(found):
            self._set(self._llr, at, j, llr[k])
            self._set(self._measure, at, j, gap_s[k])
            self._set(self._kind, at, j, TIME)

    @staticmethod
    def _set(table: NDArray[np.generic], i: int, j: int, value: float | bool) -> None:
        table[i, j] = value
        table[j, i] = value


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
