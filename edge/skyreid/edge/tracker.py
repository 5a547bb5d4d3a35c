"""Which boxes of successive frames are one person: a tracker in numpy, in seconds, not in frames.

Follows ByteTrack (Zhang et al., ECCV 2022, arXiv 2110.06864): strong detections are matched first,
weak ones only continue tracks that found no strong one. It differs in the cost, and in what it
does when two people cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyreid.edge import kalman
from skyreid.edge.assignment import assign
from skyreid.edge.detections import Detections, Float32, Float64, iou
from skyreid.edge.kalman import Noise, State


@dataclass(frozen=True)
class TrackerOptions:
    """How people are followed."""

    score_high: float = 0.4
    """Detections from here on are matched first and may start a track."""
    score_low: float = 0.1
    """Detections below this are not looked at."""
    hits_min: int = 3
    """Detections after which a track is confirmed."""
    lost_max_s: float = 1.0
    """A track that was not detected for this long ends."""
    distance_max: float = 20.0
    """Gate on the squared Mahalanobis distance (4 degrees of freedom)."""
    iou_weight: float = 8.0
    """What an overlap of 1 instead of 0 is worth, in units of squared Mahalanobis distance."""
    noise: Noise = field(default_factory=Noise)


@dataclass(frozen=True, eq=False)
class Track:
    """One followed person in one frame."""

    number: int
    """From 1, never used again."""
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
    state: State
    score: float
    born_s: float
    seen_s: float
    hits: int = 1
    confirmed: bool = False


class Tracker:
    """Follows the people of one camera."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self._live: list[_Live] = []
        self._time_s: float | None = None
        self._next = 1

    def update(
        self, detections: Detections, time_s: float, motion: Float64 | None = None
    ) -> list[Track]:
        """Take in one frame.

        Args:
            detections: of the frame.
            time_s: capture time of the frame in seconds; later than the one before.
            motion: [2, 3] affine that takes pixels of the frame before to pixels of this one.

        Returns:
            Every track that is alive, those without a detection in this frame included. One that
            is missing from the list has ended.
        """
        o = self._options
        step_s = 0.0 if self._time_s is None else max(time_s - self._time_s, 0.0)
        self._time_s = time_s
        for track in self._live:
            if motion is not None:
                track.state = kalman.move(track.state, motion)
            track.state = kalman.predict(track.state, step_s, o.noise)
        strong = np.flatnonzero(detections.scores >= o.score_high)
        weak = np.flatnonzero(
            (detections.scores < o.score_high) & (detections.scores >= o.score_low)
        )
        settled = [t for t in self._live if t.confirmed]
        fresh = [t for t in self._live if not t.confirmed]
        strong, settled = self._match(settled, detections, strong, time_s)
        recent = [t for t in settled if time_s - t.seen_s <= 1.5 * step_s]
        self._match(recent, detections, weak, time_s)
        strong, _ = self._match(fresh, detections, strong, time_s)
        for index in strong:
            self._start(detections, int(index), time_s)
        self._live = [t for t in self._live if self._survives(t, time_s)]
        return [self._public(t, time_s) for t in self._live]

    def _match(
        self,
        tracks: Sequence[_Live],
        detections: Detections,
        candidates: NDArray[np.int64],
        time_s: float,
    ) -> tuple[NDArray[np.int64], list[_Live]]:
        """Pair tracks with candidates; returns the candidates and the tracks that are left."""
        o = self._options
        boxes = detections.boxes[candidates]
        predictions = [t.state for t in tracks]
        if not tracks or not len(boxes):
            return candidates, list(tracks)
        away = kalman.distance(predictions, boxes, o.noise)
        overlap = iou(np.stack([s.box for s in predictions]), boxes)
        cost = np.where(away <= o.distance_max, away + o.iou_weight * (1 - overlap), np.inf)
        pairs = assign(cost, o.distance_max + o.iou_weight)
        for row, column in pairs:
            index = int(candidates[column])
            self._continue(tracks[row], detections, index, time_s)
        rows, columns = {r for r, _ in pairs}, {c for _, c in pairs}
        left = np.array([v for c, v in enumerate(candidates) if c not in columns], np.int64)
        return left, [t for r, t in enumerate(tracks) if r not in rows]

    def _start(self, detections: Detections, index: int, time_s: float) -> None:
        state = kalman.start(detections.boxes[index], self._options.noise)
        score = float(detections.scores[index])
        self._live.append(_Live(self._next, state, score, time_s, time_s))
        self._next += 1

    def _continue(self, track: _Live, detections: Detections, index: int, time_s: float) -> None:
        track.state = kalman.update(track.state, detections.boxes[index], self._options.noise)
        track.score = float(detections.scores[index])
        track.seen_s = time_s
        track.hits += 1
        track.confirmed = track.confirmed or track.hits >= self._options.hits_min

    def _survives(self, track: _Live, time_s: float) -> bool:
        if not track.confirmed:
            return track.seen_s == time_s
        return time_s - track.seen_s <= self._options.lost_max_s

    def _public(self, track: _Live, time_s: float) -> Track:
        return Track(
            number=track.number,
            box_xyxy=track.state.box.astype(np.float32),
            score=track.score,
            hits=track.hits,
            age_s=time_s - track.born_s,
            confirmed=track.confirmed,
            detected=track.seen_s == time_s,
        )
