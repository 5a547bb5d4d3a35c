"""Tracklets as the matcher holds them: the latest revision, and where the person has been.

A revision replaces the one before it in everything that is evidence of who somebody is. What stays
of earlier revisions is only the path: one ground position for each moment that was reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Ground, Sighting, View

Float64 = NDArray[np.float64]
PATH_GAP_S = 60.0
"""Between two positions of one path. No tracker follows somebody unseen for so long: the device's
clock was set, and in between lies no path but that of the clock."""


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One tracklet at its latest known revision.

    ``path`` float64 [N, 6] holds time in seconds since ``EPOCH`` of the matcher's caller (plain
    UTC seconds lose nothing below a microsecond), east and north in metres, and the covariance
    (ee, en, nn) in m², ascending in time; N is 0 where no position is known.
    """

    key: TrackKey
    model_key: str
    sighting: Sighting
    path: Float64

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


def begin(key: TrackKey, model_key: str, sighting: Sighting) -> Tracklet:
    """A tracklet known by one sighting."""
    return Tracklet(key, model_key, sighting, _extended(np.zeros((0, 6)), sighting))


def revised(tracklet: Tracklet, model_key: str, sighting: Sighting) -> Tracklet:
    """The tracklet after one more sighting of it, whichever order they come in.

    The higher revision is the evidence; the path keeps the positions of both.
    """
    path = _extended(tracklet.path, sighting)
    if sighting.revision <= tracklet.sighting.revision:
        return Tracklet(tracklet.key, tracklet.model_key, tracklet.sighting, path)
    return Tracklet(tracklet.key, model_key, sighting, path)


def _extended(path: Float64, sighting: Sighting) -> Float64:
    ground: Ground | None = sighting.ground
    if ground is None:
        return path
    time_s = sighting.captured_at_ns / 1e9
    row = [
        time_s,
        ground.east_m,
        ground.north_m,
        ground.cov_ee_m2,
        ground.cov_en_m2,
        ground.cov_nn_m2,
    ]
    if len(path) and np.abs(path[:, 0] - time_s).min() > PATH_GAP_S:
        path = path[:0]
    at = int(np.searchsorted(path[:, 0], time_s))
    if at < len(path) and path[at, 0] == time_s:
        return path
    return np.insert(path, at, row, axis=0)
