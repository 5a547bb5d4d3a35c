"""Tracklets as the matcher holds them, and the active window of them as columns.

A revision replaces the one before it in everything that is evidence of who somebody is. What stays
of earlier revisions is only the path: one ground position for each moment that was reported. In the
window a tracklet has a row for as long as it is here; nothing is kept of pairs: what place and time
say of two tracklets is computed when it is asked for. Nothing here looks at pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import CLOCK_UNKNOWN_MS, Ground, Sighting, View
from skyreid.server.matching.likelihood import (
    PLACE,
    SEEN,
    STEP_S,
    TIME,
    Bool,
    Float32,
    Float64,
    Int64,
    Tables,
    Unseen,
    on_grid,
    place_llr,
    time_llr,
)

PATH_GAP_S = 60.0
"""Between two positions of one way. No tracker follows somebody unseen for so long: the device's
clock was set, and in between lies no way but that of the clock."""
AREA_MIN_M2 = 64.0
UNRELATED_S = 30.0
"""Two clocks that may differ by more say nothing of each other: in that time a person may be
anywhere (``likelihood.FORGET_S``), so their moments are not compared at all."""
MOMENTS_MAX = 64
"""Moments at which two paths are compared, at most: of a longer common time, evenly spread ones."""
AREA_POINTS = 8192
"""Positions that the area of the site is taken from, at most."""
_QUANTUM = 2.0**-20
"""Embeddings are rounded to this: sums of them are exact, so that their order does not matter."""
# What every row is compared by; start and end are points on the grid of time.
_FACTS = np.dtype(
    [
        ("alive", np.bool_),
        *(
            (name, np.int64)
            for name in ("first_ns", "last_ns", "camera", "eye", "view", "model", "start", "end")
        ),
        ("known", np.int64),  # bit 0: what they look like in colour is known, bit 1: in grey
        ("error_ms", np.int64),
        ("at", np.int64),  # of the first point in the pool
        ("head", np.float64, 6),
        ("tail", np.float64, 6),
    ]
)


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One tracklet at its latest known revision.

    ``path`` float64 [N, 6] holds time in seconds since ``EPOCH`` of the matcher's caller (plain
    UTC seconds lose nothing below a microsecond), east and north in metres, and the covariance
    (ee, en, nn) in m², ascending in time; N is 0 where no position is known. It has every position
    that was told, those of a clock that was wrong then too: see ``way``.
    """

    key: TrackKey
    model_key: str
    sighting: Sighting
    path: Float64
    otherwise: Sighting | None = None
    """The latest before the camera went over from colour to grey, or back: looks of their own."""

    @property
    def view(self) -> View:
        """Where its camera looks from."""
        return self.sighting.view

    @property
    def first_ns(self) -> int:
        """Capture time of its first frame."""
        return self.sighting.first_seen_ns

    @property
    def last_ns(self) -> int:
        """Capture time of its last frame so far."""
        return self.sighting.captured_at_ns

    @property
    def way(self) -> Float64:
        """The part of the path that hangs together with the latest revision: see ``PATH_GAP_S``."""
        if not len(self.path):
            return self.path
        moments, here_s = self.path[:, 0], self.last_ns / 1e9
        if moments[-1] - moments[0] <= PATH_GAP_S and abs(here_s - moments[-1]) <= PATH_GAP_S:
            return self.path
        breaks = np.flatnonzero(np.diff(moments) > PATH_GAP_S) + 1
        for part in np.split(self.path, breaks):
            if len(part) and part[0, 0] - PATH_GAP_S <= here_s <= part[-1, 0] + PATH_GAP_S:
                return part
        return self.path[:0]


def begin(key: TrackKey, model_key: str, sighting: Sighting) -> Tracklet:
    """A tracklet known by one sighting."""
    return Tracklet(key, model_key, sighting, _extended(np.zeros((0, 6)), sighting))


def revised(tracklet: Tracklet, model_key: str, sighting: Sighting) -> Tracklet:
    """The tracklet after one more sighting of it, whichever order they come in.

    The higher revision is the evidence, and the highest otherwise seen; the path keeps all.
    """
    path, latest, other = _extended(tracklet.path, sighting), tracklet.sighting, tracklet.otherwise
    model = tracklet.model_key
    if _age(sighting) > _age(latest):
        model, latest, sighting = model_key, sighting, latest
    if sighting.modality.colourless != latest.modality.colourless:
        other = sighting if other is None else max(other, sighting, key=_age)
    return Tracklet(tracklet.key, model, latest, path, other)


def _age(sighting: Sighting) -> tuple[int, int]:
    return sighting.revision, sighting.seq


def _extended(path: Float64, sighting: Sighting) -> Float64:
    ground: Ground | None = sighting.ground
    if ground is None:
        return path
    time_s = sighting.captured_at_ns / 1e9
    row = (
        time_s,
        ground.east_m,
        ground.north_m,
        ground.cov_ee_m2,
        ground.cov_en_m2,
        ground.cov_nn_m2,
    )
    at = int(np.searchsorted(path[:, 0], time_s))
    if at == len(path) or path[at, 0] != time_s:
        return np.insert(path, at, row, axis=0)
    if row <= tuple(path[at].tolist()):
        return path
    path = path.copy()  # two positions of one moment: the same one in whatever order they come
    path[at] = row
    return path


class Window:
    """Tracklets in rows. ``put`` and ``drop`` change it, ``between`` compares rows."""

    def __init__(self, *, overlap_tolerance_s: float) -> None:
        self.tolerance_ns = round(overlap_tolerance_s * 1e9)
        self.area_m2 = AREA_MIN_M2
        self.rows: dict[TrackKey, int] = {}
        """Row of each tracklet, for as long as it is here."""
        self._facts = np.zeros(64, _FACTS)
        self._unseen = Unseen()
        self._vectors: Float32 = np.zeros((64, 1, 1), np.float32)
        self._unnoted: dict[int, None] = {}  # rows that were put since anybody asked
        self._tracklets: list[Tracklet | None] = []
        self._free: list[int] = []
        self._numbers: dict[object, int] = {}
        self._pool: Float64 = np.zeros((1024, 5))  # points of all paths: east, north, ee, en, nn
        self._filled = 0

    @property
    def facts(self) -> NDArray[np.void]:
        """[rows] what each is compared by. Of revisions that came together the last is noted."""
        self._note_all()
        return self._facts

    @property
    def vectors(self) -> Float32:
        """[rows, L, D] embeddings; of models with fewer dimensions, the rest is zero.

        [:, 0] are those in colour, [:, 1] those without; L is 1 as long as there are none of these.
        """
        self._note_all()
        return self._vectors

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, key: TrackKey) -> bool:
        return key in self.rows

    def tracklet(self, key: TrackKey) -> Tracklet:
        """The tracklet as it was last put; KeyError if it is not here."""
        return self.at(self.rows[key])

    def at(self, row: int) -> Tracklet:
        """The tracklet of a row that is taken."""
        found = self._tracklets[row]
        assert found is not None
        return found

    def tracklets(self) -> list[Tracklet]:
        """All of them, in order of their keys."""
        return [self.tracklet(key) for key in sorted(self.rows)]

    def taken(self) -> Int64:
        """All rows in use, ascending."""
        return np.flatnonzero(self.facts["alive"][: len(self._tracklets)])

    def put(self, tracklet: Tracklet) -> int:
        """Add a tracklet or replace it by its newer self; its row."""
        row = self.rows.get(tracklet.key)
        if row is None:
            row = self._free.pop() if self._free else len(self._tracklets)
            if row == len(self._tracklets):
                self._tracklets.append(None)
                if row >= len(self._facts):
                    self._facts = np.concatenate([self._facts, np.zeros_like(self._facts)])
                    self._vectors = np.concatenate([self._vectors, 0 * self._vectors])
            self.rows[tracklet.key] = row
        self._tracklets[row] = tracklet
        self._unnoted[row] = None
        return row

    def drop(self, key: TrackKey) -> None:
        """Forget a tracklet; no error if it is not here."""
        row = self.rows.pop(key, None)
        if row is not None:
            self._tracklets[row] = None
            self._unnoted.pop(row, None)
            self._facts[row] = np.zeros((), _FACTS)
            self._unseen.put(row, ())
            self._vectors[row] = 0
            self._free.append(row)

    def measure_area(self) -> None:
        """Say anew where people are, in m², as a power of two.

        The box that holds the middle nine tenths of all positions: a few that were thrown far off
        by a bad pose must not make the site look empty.
        """
        rows = self.taken()
        start, end = self.facts["start"][rows], self.facts["end"][rows]
        past = np.cumsum(end - start)
        self.area_m2 = AREA_MIN_M2
        if len(rows) and past[-1]:
            chosen = np.arange(0, past[-1], -(-past[-1] // AREA_POINTS))
            row = np.searchsorted(past, chosen, "right")
            at = self.facts["at"][rows][row] + chosen - (past - end + start)[row]
            low, high = np.percentile(self._pool[at, :2], [5, 95], axis=0)
            area = float(np.prod((high - low) / 0.9))
            self.area_m2 = max(AREA_MIN_M2, 2.0 ** round(float(np.log2(max(area, 1.0)))))

    def where(self, rows: Int64, point: Int64) -> tuple[Float64, Float64, Int64]:
        """Positions on the grid of time, and by how many points the path falls short.

        Args:
            rows: of tracklets with positions; any shape.
            point: on the grid; the same shape, or one that it can be stretched to.

        Returns:
            east and north [...] at the point of the path that is next to it, in metres; [...] how
            far off that is, in points
        """
        start, end = self.facts["start"][rows], self.facts["end"][rows]
        near = np.clip(point, start, end - 1)
        at = self.facts["at"][rows] - start + near
        return self._pool[at, 0], self._pool[at, 1], np.abs(point - near)

    def at_once(self, a: Int64, b: Int64) -> Bool:
        """[P] pairs of rows that one camera saw at once, for longer than is tolerated."""
        one, two = ({name: self.facts[name][rows] for name in SEEN} for rows in (a, b))
        return self._unseen.at_once(a, b, one, two, self.tolerance_ns)

    def stretches(self, rows: Int64) -> tuple[Int64, Int64, Int64]:
        """When rows were seen: see ``Unseen.stretches``."""
        return self._unseen.stretches(self.facts, rows)

    def between(self, a: Int64, b: Int64) -> Tables:
        """What place and time say of the pairs (``a[k]``, ``b[k]``) of rows."""
        one, two = self.facts[a], self.facts[b]
        own = one["camera"] == two["camera"]
        clock_s = np.where(own, 0.0, (one["error_ms"] + two["error_ms"]) / 1e3)
        clock_s[clock_s > UNRELATED_S] = np.inf
        llr, measure, shared_s = np.zeros((3, len(a)))
        kind = np.zeros(len(a), np.int8)
        known = (one["end"] > one["start"]) & (two["end"] > two["start"])
        known &= np.isfinite(clock_s) & (a != b)
        first = np.maximum(one["start"], two["start"])
        past = np.minimum(one["end"], two["end"])
        at = np.flatnonzero(known & (past > first))
        if len(at):
            kind[at] = PLACE
            shared_s[at] = (past - first)[at] * STEP_S
            llr[at], measure[at] = self._places(a[at], b[at], first[at], past[at], clock_s[at])
        at = np.flatnonzero(known & (past <= first))
        if len(at):
            kind[at] = TIME
            llr[at], measure[at] = self._gaps(one[at], two[at], clock_s[at])
        forbidden = self._unseen.at_once(a, b, one, two, self.tolerance_ns)
        return Tables(llr, kind, measure, shared_s, forbidden, clock_s)

    def _places(
        self, a: Int64, b: Int64, first: Int64, past: Int64, clock_s: Float64
    ) -> tuple[Float64, Float64]:
        stride = -(-(past - first) // MOMENTS_MAX)
        counts = -(-(past - first) // stride)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        step = np.arange(int(counts.sum())) - np.repeat(starts, counts)
        point = np.repeat(first, counts) + step * np.repeat(stride, counts)
        base = self.facts["at"] - self.facts["start"]
        one = self._pool[np.repeat(base[a], counts) + point]
        two = self._pool[np.repeat(base[b], counts) + point]
        offset, covariance = one[:, :2] - two[:, :2], one[:, 2:] + two[:, 2:]
        # The mean over the shared time, not the sum: errors of one moment are those of the next.
        apart_s = np.repeat(clock_s, counts)
        moved = apart_s > 0
        llr = np.empty(len(offset))
        llr[~moved] = place_llr(offset[~moved], covariance[~moved], self.area_m2)
        # Clocks apart are a gap that is not seen: somebody walked for as long.
        llr[moved] = time_llr(offset[moved], covariance[moved], apart_s[moved], self.area_m2)
        distance = np.hypot(offset[:, 0], offset[:, 1])
        return np.add.reduceat(llr, starts) / counts, np.add.reduceat(distance, starts) / counts

    def _gaps(
        self, one: NDArray[np.void], two: NDArray[np.void], clock_s: Float64
    ) -> tuple[Float64, Float64]:
        later = (two["start"] > one["start"])[:, None]
        near = np.where(later, one["tail"], one["head"])
        far = np.where(later, two["head"], two["tail"])
        gap_s = np.abs(near[:, 0] - far[:, 0])
        offset, covariance = near[:, 1:3] - far[:, 1:3], near[:, 3:] + far[:, 3:]
        return time_llr(offset, covariance, gap_s + clock_s, self.area_m2), gap_s

    def _note_all(self) -> None:
        for row in self._unnoted:
            self._note(row, self.at(row))
        self._unnoted.clear()

    def _note(self, row: int, t: Tracklet) -> None:
        """Fill in the facts of a row, and its vector."""
        known, dim = 0, len(t.sighting.embedding)
        self._vectors[row] = 0
        for of in (t.sighting, t.otherwise):
            if of is not None and len(of.embedding) == dim:
                grey = int(of.modality.colourless)
                more = (
                    np.maximum((grey + 1, dim), self._vectors.shape[1:]) - self._vectors.shape[1:]
                )
                if more.any():
                    self._vectors = np.pad(self._vectors, ((0, 0), *((0, m) for m in more)))
                self._vectors[row, grey, :dim] = np.round(of.embedding / _QUANTUM) * _QUANTUM
                known |= 1 << grey
        error_ms = t.sighting.clock_error_ms
        # A file without a known start has other times at every replay: each life is a clock alone.
        life = t.key.boot if error_ms >= CLOCK_UNKNOWN_MS else ""
        self._unseen.put(row, t.sighting.pauses)
        start, points = on_grid(way := t.way, t.sighting.pauses)
        if self._filled + len(points) > len(self._pool):
            self._repack(len(points))
        at = self._filled
        self._pool[at : at + len(points)] = points
        self._filled += len(points)
        ends = (way[0], way[-1]) if len(points) else (np.zeros(6), np.zeros(6))
        self._facts[row] = (
            True,
            t.first_ns,
            t.last_ns,
            self._number((t.key.device, t.key.camera, life)),
            self._number((t.key.device, t.key.camera)),
            int(t.view),
            self._number((t.model_key, dim)),
            start,
            start + len(points),
            known,
            error_ms,
            at,
            *ends,
        )

    def _number(self, name: object) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _repack(self, more: int) -> None:
        """Make room in the pool: paths that were replaced leave it."""
        facts = self._facts
        rows = np.flatnonzero(facts["alive"])
        length = (facts["end"] - facts["start"])[rows]
        fresh = np.zeros((2 * (int(length.sum()) + more) + 1024, 5))
        at = 0
        for row, count in zip(rows.tolist(), length.tolist(), strict=True):
            old = int(facts["at"][row])
            fresh[at : at + count] = self._pool[old : old + count]
            facts["at"][row] = at
            at += count
        self._pool, self._filled = fresh, at
