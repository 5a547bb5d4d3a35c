"""Who was lost a moment ago and is found again, so that a new track goes on in their tracklet.

A tracklet knows when somebody was seen, stretch by stretch: between two nobody saw them, and they
may have been followed as somebody else.

As in BoT-SORT (Aharon, Orfaig and Bobrovsky 2022, arXiv 2206.14651) the place says who can be asked
for and the looks say who it is; but of whole tracklets and not of boxes, once, before anything is
said of the new one, and only where nobody else who can be there is nearly as alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import Pose
from skyreid.contract.sighting import MAX_PAUSES, Ground, Pause, pauses_between
from skyreid.edge.people.tracker import assign

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

KEPT_S = 5.0
"""Nobody is asked for who was last seen longer ago."""
TRAIL_S = 1.0
"""So far back it is known where somebody was, for how fast they go."""
PAUSE_S = 0.5
"""Who is in no frame for longer has a pause; a detector misses anybody for less."""


@dataclass(frozen=True)
class RegainTuning:
    """What is measured (docs/LOG.md) and no setting."""

    like_more: float = 0.16
    """So far above the cosine from which on two crops may show one person two looks must be ..."""
    like_more_each_s: float = 0.04
    """... and so much further for each second: more people can have come there."""
    margin: float = 0.1
    """So much more alike than anybody else who can be it."""
    away_max: float = 12.0
    """Gate on the squared Mahalanobis distance of the place (2 dimensions)."""
    away_weight: float = 0.02
    """What 1 of that distance is worth beside a cosine, where several want one."""
    overlap_s: float = 0.5
    """So long a lost one may have been seen beside the new one: in the boxes of whoever passed."""
    place_m: float = 0.4
    """Standard deviation of a place beside its own: somebody half hidden has half a box."""
    turn_m: float = 0.6
    """Standard deviation that each second adds where it is known how fast somebody went ..."""
    walk_m: float = 1.2
    """... and where it is not."""
    trail_min_s: float = 0.4
    """It is known from a trail of this length on."""
    metre: float = 0.6
    """Heights of a person's box in a metre, where there is no place on the ground."""


@dataclass(frozen=True, eq=False)
class Spot:
    """Where somebody was detected: a box in pixels, and the camera then."""

    captured_at_ns: int
    box_xyxy: tuple[float, float, float, float]
    pose: Pose | None


@dataclass(eq=False)
class Trail:
    """When somebody was seen, and where of late."""

    spots: list[Spot] = field(default_factory=list)
    """Where they were detected in the last ``TRAIL_S``, in order; empty before the first only."""
    seen: list[tuple[int, int]] = field(default_factory=list)
    """Stretches (from, until) in nanoseconds, ascending, in which somebody was in no frame for
    ``PAUSE_S`` at most. Each but the last ends with the first frame that was without them: where no
    frame is looked at, nobody is missed."""
    _missed_ns: int | None = None

    @property
    def first_ns(self) -> int:
        """When they were first seen."""
        return self.seen[0][0]

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """When nobody saw them, up to when they were last seen."""
        return pauses_between(self.seen)

    def note(self, spot: Spot) -> None:
        """They were detected."""
        at_ns, missed_ns = spot.captured_at_ns, self._missed_ns
        if self.seen and (missed_ns is None or at_ns - missed_ns <= PAUSE_S * 1e9):
            self.seen[-1] = self.seen[-1][0], at_ns
        else:
            self.seen = _joined([*self._closed(), (at_ns, at_ns)])
        self._missed_ns = None
        self.spots.append(spot)
        while self.spots[0].captured_at_ns < at_ns - TRAIL_S * 1e9:
            del self.spots[0]

    def miss(self, at_ns: int) -> None:
        """A frame was looked at, and they are not in it."""
        self._missed_ns = at_ns if self._missed_ns is None else self._missed_ns

    def and_before(self, lost: Trail) -> None:
        """They had been followed as ``lost``."""
        last = max(self, lost, key=lambda t: t.spots[-1].captured_at_ns)
        ours, theirs = (t.seen if t is last else t._closed() for t in (self, lost))
        self.seen = _joined(sorted([*ours, *theirs]))
        self.spots, self._missed_ns = last.spots, last._missed_ns

    def _closed(self) -> list[tuple[int, int]]:
        if self._missed_ns is None:
            return self.seen
        return [*self.seen[:-1], (self.seen[-1][0], self._missed_ns)]


def _joined(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches in order of their beginnings as those that a pause lies between, not too many."""
    out: list[tuple[int, int]] = []
    for begin, end in stretches:
        if out and begin - out[-1][1] <= PAUSE_S * 1e9:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((begin, end))
    while len(out) > MAX_PAUSES + 1:
        lengths = [two[0] - one[1] for one, two in pairwise(out)]
        at = lengths.index(min(lengths))
        out[at : at + 2] = [(out[at][0], out[at + 1][1])]
    return out


@dataclass(frozen=True, eq=False)
class Known:
    """What somebody is found again by."""

    trail: Trail
    look: Float32
    """[D], L2-normalised."""


_NEVER = -2.0
"""Less than any cosine."""

Locate = Callable[[Spot], Ground | None]
"""A place on the ground; None where the box or the camera does not say."""


def regained(
    new: Sequence[Known],
    lost: Sequence[Known],
    locate: Locate,
    like_min: float,
    tuning: RegainTuning,
) -> list[tuple[int, int]]:
    """Pairs (new, lost) of one person each, as indices; nobody is in two.

    Args:
        new: of whom nothing was said yet.
        lost: who is not seen at the moment.
        locate: where on the ground a box is.
        like_min: from which cosine on two crops may show one person.
        tuning: how near and how alike they must be.
    """
    if not new or not lost:
        return []
    lasts_s = np.array([k.trail.spots[-1].captured_at_ns for k in lost]) / 1e9
    starts_s = np.array([n.trail.spots[0].captured_at_ns for n in new]) / 1e9
    apart_s: Float64 = starts_s[:, None] - lasts_s
    gaps_s = np.maximum(apart_s, 0.0)
    looks = (np.stack([n.look for n in new]) @ np.stack([k.look for k in lost]).T).astype(
        np.float64
    )
    # Who is less alike is neither the one nor a rival: in a crowd most are, and are not placed.
    maybe = looks >= like_min + tuning.like_more - tuning.margin
    maybe &= (apart_s >= -tuning.overlap_s) & (gaps_s <= KEPT_S)
    maybe &= _together_s(new, lost) <= tuning.overlap_s
    if not maybe.any():
        return []
    away = np.full(gaps_s.shape, np.inf)
    for i, j in np.argwhere(maybe):
        away[i, j] = _away(lost[j].trail.spots, new[i].trail.spots, gaps_s[i, j], locate, tuning)
    alike = np.where(away <= tuning.away_max, looks, _NEVER)
    least = like_min + tuning.like_more + tuning.like_more_each_s * gaps_s
    at_once: Bool = _together_s(lost, lost) > tuning.overlap_s
    np.fill_diagonal(at_once, False)
    sure = (alike >= least) & (alike - _rivals(alike, at_once) >= tuning.margin)
    # Who was one person and then another, as it seemed, goes on as the latter: whoever goes on as
    # the former would have been in two places while the latter was seen.
    later = ~at_once & (lasts_s[None] > lasts_s[:, None])
    sure &= ~(sure[:, None, :] & later[None]).any(2)
    cost = np.where(sure, 1 - alike + tuning.away_weight * away, np.inf)
    return assign(cost, 2.0 + tuning.away_weight * tuning.away_max)


def _together_s(some: Sequence[Known], others: Sequence[Known]) -> Float64:
    """[some, others] for how long two were both seen."""
    one, two = _stretches(some), _stretches(others)
    out = np.zeros((len(one), len(two)))
    for k in range(two.shape[1]):
        begin = np.maximum(one[:, None, :, 0], two[None, :, k, None, 0])
        end = np.minimum(one[:, None, :, 1], two[None, :, k, None, 1])
        out += np.maximum(end - begin, 0.0).sum(2)
    return out


def _stretches(people: Sequence[Known]) -> Float64:
    """[people, most, 2] when each was seen, in seconds; of who has fewer, the rest is empty."""
    out = np.zeros((len(people), max(len(p.trail.seen) for p in people), 2))
    for row, person in enumerate(people):
        out[row, : len(person.trail.seen)] = person.trail.seen
    return out / 1e9


def _rivals(alike: Float64, at_once: Bool) -> Float64:
    """How alike each pair's closest rival is, [new, lost]: another new one, or somebody else lost.

    Two who were not seen at once may be one person, and are no rivals.
    """
    rivals: Float64 = np.where(at_once[None], alike[:, None, :], _NEVER).max(2)
    for row in range(len(alike)):
        rest = np.delete(alike, row, 0).max(0, initial=_NEVER)
        rivals[row] = np.maximum(rivals[row], rest)
    return rivals


def _away(
    before: Sequence[Spot], after: Sequence[Spot], gap_s: float, locate: Locate, t: RegainTuning
) -> float:
    """Squared Mahalanobis distance of where somebody appeared from where a lost one can be."""
    step_s = (before[-1].captured_at_ns - before[0].captured_at_ns) / 1e9
    moving = step_s >= t.trail_min_s
    here, there = locate(before[-1]), locate(after[0])
    start = locate(before[0]) if moving else here
    if here is None or there is None or start is None:
        centres, heights = zip(
            *(_middle(s) for s in (before[0], before[-1], after[0])), strict=True
        )
        metre_px = t.metre * (heights[1] + heights[2]) / 2
        at = np.stack(centres) / metre_px
        cov = np.zeros((2, 2))
    else:
        at = np.array([[g.east_m, g.north_m] for g in (start, here, there)])
        cov = _cov(here) + _cov(there)
    pace = (at[1] - at[0]) / step_s if moving else np.zeros(2)
    spread_m = (t.turn_m if moving else t.walk_m) * gap_s
    off = at[2] - at[1] - pace * gap_s
    cov = cov + np.eye(2) * (spread_m**2 + t.place_m**2)
    return float(off @ np.linalg.solve(cov, off))


def _middle(spot: Spot) -> tuple[Float64, float]:
    x0, y0, x1, y1 = spot.box_xyxy
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), y1 - y0


def _cov(place: Ground) -> Float64:
    return np.array(
        [[place.cov_ee_m2, place.cov_en_m2], [place.cov_en_m2, place.cov_nn_m2]], np.float64
    )
