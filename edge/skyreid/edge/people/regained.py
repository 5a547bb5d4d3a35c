"""Who was lost a moment ago and is found again, so that a new track goes on in their tracklet.

As in BoT-SORT (Aharon, Orfaig and Bobrovsky 2022, arXiv 2206.14651) the place says who can be asked
for and the looks say who it is; but of whole tracklets and not of boxes, once, before anything is
said of the new one, and only where nobody else who can be there is nearly as alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import Pose
from skyreid.contract.sighting import Ground
from skyreid.edge.people.assignment import assign

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

KEPT_S = 5.0
"""Nobody is asked for who was last seen longer ago."""
TRAIL_S = 1.0
"""So far back it is known where somebody was, for how fast they go."""


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
    """So long a lost track may have gone on beside the new one: in the boxes of whoever passed."""
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


@dataclass(frozen=True, eq=False)
class Known:
    """What somebody is found again by."""

    first_ns: int
    """When they were first seen."""
    trail: Sequence[Spot]
    """Where they were seen in ``TRAIL_S``, in order; never empty."""
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
    spans = np.array([(k.first_ns, k.trail[-1].captured_at_ns) for k in lost]) / 1e9
    firsts_s = np.array([n.first_ns for n in new]) / 1e9
    starts_s = np.array([n.trail[0].captured_at_ns for n in new]) / 1e9
    apart_s = firsts_s[:, None] - spans[:, 1]
    gaps_s: Float64 = np.maximum(starts_s[:, None] - spans[:, 1], 0.0)
    looks = (np.stack([n.look for n in new]) @ np.stack([k.look for k in lost]).T).astype(
        np.float64
    )
    # Who is less alike is neither the one nor a rival: in a crowd most are, and are not placed.
    maybe = looks >= like_min + tuning.like_more - tuning.margin
    maybe &= (apart_s >= -tuning.overlap_s) & (gaps_s <= KEPT_S)
    away = np.full(gaps_s.shape, np.inf)
    for i, j in np.argwhere(maybe):
        away[i, j] = _away(lost[j].trail, new[i].trail, gaps_s[i, j], locate, tuning)
    alike = np.where(away <= tuning.away_max, looks, _NEVER)
    least = like_min + tuning.like_more + tuning.like_more_each_s * gaps_s
    at_once = _at_once(spans, tuning.overlap_s)
    sure = (alike >= least) & (alike - _rivals(alike, at_once) >= tuning.margin)
    # Who was one person and then another, as it seemed, goes on as the latter: whoever goes on as
    # the former would have been in two places while the latter was seen.
    later = ~at_once & (spans[None, :, 1] > spans[:, None, 1])
    sure &= ~(sure[:, None, :] & later[None]).any(2)
    cost = np.where(sure, 1 - alike + tuning.away_weight * away, np.inf)
    return assign(cost, 2.0 + tuning.away_weight * tuning.away_max)


def _at_once(spans: Float64, overlap_s: float) -> Bool:
    """[lost, lost] who were seen at once, by the ``spans`` [lost, 2] of when: two people."""
    first, last = spans.T
    out: Bool = np.minimum(last[:, None], last) - np.maximum(first[:, None], first) > overlap_s
    np.fill_diagonal(out, False)
    return out


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
