"""Which boxes of successive frames are one person: a tracker in numpy by Hungarian assignment.

It counts in seconds, not in frames. Follows ByteTrack (Zhang et al., ECCV 2022, arXiv 2110.06864):
strong detections are matched first, weak ones only continue tracks that found no strong one. It
differs in the cost, and in what it does when two people cross: position and size count by the
filter's own uncertainty (a likelihood, since overlap alone says little when a walker moves a third
of their width between frames), and so do the looks, because a detector often sees only one of two
people who overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections, Float32, Float64, area, intersection, iou
from skyreid.edge.people import kalman
from skyreid.edge.people.kalman import Noise
from skyreid.edge.people.options import TrackerOptions


@dataclass(frozen=True)
class TrackerTuning:
    """What is measured (docs/LOG.md) and no setting."""

    distance_max: float = 20.0
    """Gate on the squared Mahalanobis distance of a strong detection (4 dimensions)."""
    weak_distance_max: float = 10.0
    """The same for a weak detection."""
    iou_weight: float = 8.0
    """What an overlap of 1 instead of 0 is worth, in units of squared Mahalanobis distance."""
    cost_max: float = 24.0
    """A pair whose distance, overlap and looks together cost so much is no pair."""
    new_iou_max: float = 0.7
    """A detection that overlaps a followed person more than this starts no track."""
    look_weight: float = 6.0
    """What a difference in looks of ``look_sigma`` is worth, in the same units."""
    look_sigma: float = 7.0
    """Root mean square difference of one person's looks between frames, L*a*b* units."""
    look_rate: float = 0.3
    """How fast a track's looks follow those of its detections; less where others cover it."""
    parting_s: float = 1.0
    """How long after somebody appeared in another's box it may turn out that it held both: a couple
    in step, whom the detector took for one."""
    parting_width_max: float = 0.75
    """It did if both are narrower than this much of what it was then."""
    noise: Noise = field(default_factory=Noise)


@dataclass(frozen=True, eq=False)
class Track:
    """One followed person in one frame."""

    number: int
    """From 1; never given to anybody else: see `Tracker.go_on_as`."""
    box_xyxy: Float32
    """float32 [4], filtered, pixels of the frame; may reach out of it."""
    score: float
    """Of the latest detection."""
    hits: int
    """Detections so far."""
    age_s: float
    """Seconds since the first detection."""
    confirmed: bool
    detected: bool
    """False: no detection in this frame, ``box_xyxy`` is a prediction."""


@dataclass(eq=False)
class _Live:
    number: int
    score: float
    born_s: float
    seen_s: float
    hits: int = 1
    confirmed: bool = False
    look: Float32 | None = None
    """Running mean of the detections' looks."""
    out_of: _Live | None = None
    """In whose box this one appeared."""
    of_width: float = 0.0
    """How wide that was then."""


class Tracker:
    """Follows the people of one camera."""

    def __init__(
        self, options: TrackerOptions | None = None, tuning: TrackerTuning | None = None
    ) -> None:
        self._options, self._tuning = options or TrackerOptions(), tuning or TrackerTuning()
        self._live: list[_Live] = []
        self._state = kalman.nothing()  # one row per entry of _live
        self._time_s: float | None = None
        self._usual_s = 0.0  # between two frames
        self._next = 1

    def update(
        self, detections: Detections, time_s: float, motion: Float64 | None = None
    ) -> list[Track]:
        """Take in one frame.

        Args:
            detections: of the frame.
            time_s: capture time of the frame in seconds; later than the one before.
            motion: [3, 3] homography that takes pixels of the frame before to pixels of this one.

        Returns:
            Every track that is alive, those without a detection in this frame included. One that
            is missing from the list has ended.
        """
        o, tuning = self._options, self._tuning
        step_s = 0.0 if self._time_s is None else max(time_s - self._time_s, 0.0)
        self._time_s = time_s
        if step_s > max(o.lost_max_s, 3 * self._usual_s):  # the camera was away: so are they
            self._live, self._state = [], kalman.nothing()
        self._usual_s = step_s
        if motion is not None:
            self._state = kalman.move(self._state, motion)
        self._state = kalman.predict(self._state, step_s, tuning.noise)
        high = detections.scores >= o.score_high
        strong = np.flatnonzero(high)
        weak = np.flatnonzero(~high & (detections.scores >= o.score_low))

        settled = [i for i, t in enumerate(self._live) if t.confirmed]
        fresh = [i for i, t in enumerate(self._live) if not t.confirmed]
        if self._live and len(strong) + len(weak):
            costs = self._weigh(detections)
            pairs, settled, strong = costs.match(settled, strong, tuning.distance_max)
            recent = [i for i in settled if time_s - self._live[i].seen_s <= 1.5 * step_s]
            more, _, _ = costs.match(recent, weak, tuning.weak_distance_max)
            last, _, strong = costs.match(fresh, strong, tuning.distance_max)
            self._continue(pairs + more + last, detections, costs.boxes, time_s)
        if len(strong):
            self._start(strong, detections, time_s)
        self._end(time_s)
        self._part(time_s)
        boxes = self._state.boxes.astype(np.float32)
        return [self._public(t, box, time_s) for t, box in zip(self._live, boxes, strict=True)]

    def _weigh(self, detections: Detections) -> _Costs:
        """What everybody followed and every detection would cost as a pair, all at once."""
        tuning, state = self._tuning, self._state
        boxes = state.boxes
        away = kalman.distance(state, detections.boxes, tuning.noise)
        total = away + tuning.iou_weight * (1 - iou(boxes, detections.boxes))
        if detections.looks is not None:
            total += tuning.look_weight * self._unlike(detections.looks)
        return _Costs(boxes, away, total, kalman.doubt(state, tuning.noise), tuning.cost_max)

    def _continue(
        self, pairs: list[tuple[int, int]], detections: Detections, boxes: Float64, time_s: float
    ) -> None:
        """Take the pairs in; ``boxes`` [N, 4] are those that were predicted."""
        if not pairs:
            return
        rows, columns = np.array(pairs).T
        after = kalman.update(self._state[rows], detections.boxes[columns], self._tuning.noise)
        self._state.mean[rows], self._state.cov[rows] = after.mean, after.cov
        tracks = [self._live[row] for row, _ in pairs]
        if detections.looks is not None:
            free = np.clip(1 - 2 * hidden(boxes)[rows], 0, 1)
            self._look_again(tracks, detections.looks[columns], self._tuning.look_rate * free)
        scores = detections.scores[columns].tolist()
        for track, score in zip(tracks, scores, strict=True):
            track.score = score
            track.seen_s = time_s
            track.hits += 1
            track.confirmed = track.confirmed or track.hits >= self._options.hits_min

    def _look_again(self, tracks: list[_Live], looks: Float32, rates: Float64) -> None:
        """What tracks look like follows what was seen of them, float32 [N, D], at ``rates`` [N]."""
        known = [n for n, track in enumerate(tracks) if track.look is not None]
        if not known:
            return
        before = np.array([tracks[n].look for n in known])
        after = before + rates[known].astype(np.float32)[:, None] * (looks[known] - before)
        for n, look in zip(known, after, strict=True):
            tracks[n].look = look

    def _start(self, candidates: NDArray[np.int64], detections: Detections, time_s: float) -> None:
        seen = [i for i, t in enumerate(self._live) if t.seen_s == time_s]
        overlap = iou(detections.boxes[candidates], self._state[seen].boxes)
        chosen = candidates[overlap.max(1, initial=0.0) <= self._tuning.new_iou_max]
        boxes = detections.boxes[chosen]
        widths = self._state.mean[:, 2, 0]
        within = (
            intersection(boxes, self._state[seen].boxes) / np.maximum(area(boxes), 1e-9)[:, None]
        )
        for index, share in zip(chosen, within, strict=True):
            look = None if detections.looks is None else detections.looks[index]
            score = float(detections.scores[index])
            made = _Live(self._next, score, time_s, time_s, look=look)
            if share.max(initial=0.0) > 0.5:
                other = seen[int(share.argmax())]
                made.out_of, made.of_width = self._live[other], float(widths[other])
            self._live.append(made)
            self._next += 1
        self._state = kalman.join(self._state, kalman.start(boxes, self._tuning.noise))

    def _unlike(self, looks: Float32) -> Float64:
        """Squared difference in looks [tracks, candidates], in units of ``look_sigma``."""
        absent = np.zeros(looks.shape[1], np.float32)
        known = [t.look for t in self._live]
        mine = np.array([absent if look is None else look for look in known])
        away = ((mine[:, None] - looks[None]) ** 2).mean(2) / self._tuning.look_sigma**2
        result: Float64 = away.astype(np.float64)
        result[[look is None for look in known]] = 1.0
        return result

    def _end(self, time_s: float) -> None:
        lost_max_s = self._options.lost_max_s
        alive = [time_s - t.seen_s <= (lost_max_s if t.confirmed else 0.0) for t in self._live]
        if not all(alive):
            self._state = self._state[np.array(alive)]
            self._live = [t for t, stays in zip(self._live, alive, strict=True) if stays]

    def _part(self, time_s: float) -> None:
        """A box that held two people is neither's past: whoever goes on in it begins anew."""
        if all(t.out_of is None for t in self._live):
            return
        widths = {id(t): w for t, w in zip(self._live, self._state.mean[:, 2, 0], strict=True)}
        for track in self._live:
            other = track.out_of
            if other is None or not track.confirmed:
                continue
            wide = max(widths[id(track)], widths.get(id(other), np.inf))
            if time_s - track.born_s > self._tuning.parting_s or id(other) not in widths:
                track.out_of = None
            elif wide < self._tuning.parting_width_max * track.of_width:
                track.out_of = None
                self._renew(other, time_s)

    def begin_anew(self, number: int) -> int:
        """Somebody else goes on in a track: from the next frame on it has another number, returned.

        Raises:
            KeyError: nobody of that number is followed.
        """
        track = next((t for t in self._live if t.number == number), None)
        if track is None:
            raise KeyError(number)
        self._renew(track, self._time_s or 0.0)
        return track.number

    def go_on_as(self, number: int, as_number: int) -> None:
        """Somebody who was lost is found again: from the next frame on they have their old number.

        Raises:
            KeyError: nobody of that number is followed.
        """
        track = next((t for t in self._live if t.number == number), None)
        if track is None:
            raise KeyError(number)
        stays = [t.number != as_number for t in self._live]
        self._state = self._state[np.array(stays)]
        self._live = [t for t in self._live if t.number != as_number]
        track.number = as_number

    def _renew(self, track: _Live, time_s: float) -> None:
        track.number, track.born_s, track.hits = self._next, time_s, 1
        self._next += 1

    def _public(self, track: _Live, box: Float32, time_s: float) -> Track:
        return Track(
            number=track.number,
            box_xyxy=box,
            score=track.score,
            hits=track.hits,
            age_s=time_s - track.born_s,
            confirmed=track.confirmed,
            detected=track.seen_s == time_s,
        )


@dataclass(frozen=True, eq=False)
class _Costs:
    """Of pairs of N who are followed and M detections of one frame."""

    boxes: Float64
    """[N, 4], predicted."""
    away: Float64
    """[N, M] squared Mahalanobis distances."""
    total: Float64
    """[N, M] with overlap and looks."""
    doubt: Float64
    """[N] how unsure each prediction is."""
    cost_max: float

    def match(
        self, tracks: list[int], candidates: NDArray[np.int64], distance_max: float
    ) -> tuple[list[tuple[int, int]], list[int], NDArray[np.int64]]:
        """Pair tracks with candidates, both given as indices.

        Returns:
            Pairs (track, detection), and the tracks and candidates that are left.
        """
        if not tracks or not len(candidates):
            return [], tracks, candidates
        total, away, doubt = self.total, self.away, self.doubt
        if len(tracks) < total.shape[0] or len(candidates) < total.shape[1]:
            these = np.ix_(np.array(tracks), candidates)
            total, away, doubt = total[these], away[these], doubt[tracks]
        possible = (away <= distance_max) & (total < self.cost_max)
        # Whether a pair can be one is a matter of its cost alone; who of several has a detection,
        # of how likely each is: who was hidden a while must not take it from who is seen.
        cost = np.where(possible, total + doubt[:, None], np.inf)
        pairs = assign(cost, self.cost_max + float(doubt.max(initial=0.0)))
        rows, columns = {r for r, _ in pairs}, {c for _, c in pairs}
        left = [c for c in range(len(candidates)) if c not in columns]
        return (
            [(tracks[r], int(candidates[c])) for r, c in pairs],
            [t for r, t in enumerate(tracks) if r not in rows],
            candidates[left],
        )


def hidden(boxes: Float64) -> Float64:
    """Fraction [N], 0 to 1, of each box [N, 4] that nearer ones cover: those that end lower."""
    covered = intersection(boxes, boxes) / np.maximum(area(boxes), 1e-9)[:, None]
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    result: Float64 = np.clip((covered * nearer).sum(1), 0, 1)
    return result


def assign(cost: NDArray[np.float64], cost_max: float) -> list[tuple[int, int]]:
    """Pairs (row, column), each row and column at most once: Hungarian assignment.

    By successive shortest paths with potentials (Kuhn 1955; Jonker and Volgenant 1987), O(n^2 m)
    with the inner loop in numpy: enough for the tens of people of one frame, and it spares the
    device scipy.

    Leaving a pair out costs ``cost_max``: the sum of the costs of the pairs and of ``cost_max``
    for each pair that is missing from min(N, M) is minimal. Pairs of ``cost_max`` or more, and of
    infinite cost, never appear.

    Args:
        cost: float64 [N, M], no NaN.
        cost_max: what it costs not to pair.

    Returns:
        Pairs sorted by row.
    """
    if 0 in cost.shape:
        return []
    limited = np.minimum(cost, cost_max)
    swap = limited.shape[0] > limited.shape[1]
    limited = limited.T if swap else limited
    # Where nobody wants what another wants, each has their best, and no sum can be less.
    columns = limited.argmin(1)
    wanted = columns[limited.min(1) < cost_max].tolist()
    if len(set(wanted)) < len(wanted):
        columns = _solve(limited)
    pairs = [(int(c), r) if swap else (r, int(c)) for r, c in enumerate(columns)]
    return sorted((r, c) for r, c in pairs if cost[r, c] < cost_max)


def _solve(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of every row, for cost [n, m] with n <= m.

    Column m is a dummy from which the search for a free column starts.
    """
    n, m = cost.shape
    row_potential, column_potential = np.zeros(n), np.zeros(m + 1)
    row_of = np.full(m + 1, -1)  # which row a column belongs to
    for row in range(n):
        row_of[m] = row
        column = m
        shortest = np.full(m, np.inf)  # reduced length of the best path to each column
        previous = np.full(m, m)
        visited = np.zeros(m + 1, bool)
        while row_of[column] >= 0:
            visited[column] = True
            here = row_of[column]
            reduced = cost[here] - row_potential[here] - column_potential[:m]
            better = ~visited[:m] & (reduced < shortest)
            shortest[better] = reduced[better]
            previous[better] = column
            nearest = int(np.argmin(np.where(visited[:m], np.inf, shortest)))
            delta = shortest[nearest]
            row_potential[row_of[visited]] += delta
            column_potential[visited] -= delta
            shortest[~visited[:m]] -= delta
            column = nearest
        while column != m:  # turn the path over
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
        row_of[m] = -1
    column_of = np.zeros(n, np.int64)
    owned = np.flatnonzero(row_of[:m] >= 0)
    column_of[row_of[owned]] = owned
    return column_of
