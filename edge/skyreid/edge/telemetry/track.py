"""Where a drone is at any moment, interpolated between the moments at which it said so.

Places and fields of view are linear between two moments, attitudes turn evenly (spherical linear
interpolation). After the latest moment the drone goes on as it did just before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel

Float64 = NDArray[np.float64]

KEPT_S = 20.0
_SLOPE_S = 0.6
"""Over so long a velocity is taken: one step of noise between two packets is no velocity."""
_HOLE_S = 2.0
"""Between two moments farther apart than this nobody knows what happened."""


@dataclass(frozen=True, eq=False)
class Moment:
    """A drone at one moment."""

    model: CameraModel
    velocity: Float64
    """[6]: east, north, up in m/s, and turns about the camera's own axes in rad/s."""
    away_s: float
    """From the nearest moment that was said."""


class PoseTrack:
    """Poses in the order of their times, of the last 20 s."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._models: list[CameraModel] = []

    def __len__(self) -> int:
        return len(self._times)

    @property
    def said(self) -> tuple[Sequence[int], Sequence[CameraModel]]:
        """Times in order, and what was said of them."""
        return self._times, self._models

    def add(self, time_ns: int, model: CameraModel) -> None:
        """Take in what was said of a moment; packets that overtook each other are put in order."""
        at = bisect_left(self._times, time_ns)
        if at < len(self._times) and self._times[at] == time_ns:
            return
        self._times.insert(at, time_ns)
        self._models.insert(at, model)
        old = bisect_left(self._times, self._times[-1] - int(KEPT_S * 1e9))
        del self._times[:old], self._models[:old]

    def clear(self) -> None:
        """Forget everything: other pictures, or another start of what tells the time."""
        self._times.clear()
        self._models.clear()

    def at(self, time_ns: int, *, gap_max_s: float) -> Moment | None:
        """The drone at a moment; None where nothing is said within ``gap_max_s`` of it."""
        times = self._times
        if not times:
            return None
        after = bisect_left(times, time_ns)
        if 0 < after < len(times) and times[after] - times[after - 1] <= _HOLE_S * 1e9:
            before = after - 1
            share = (time_ns - times[before]) / (times[after] - times[before])
            model = self._models[before].toward(self._models[after], share)
            away_ns = min(time_ns - times[before], times[after] - time_ns)
            return Moment(model, self._velocity(before), away_ns / 1e9)
        nearest = min(after, len(times) - 1)
        if after > 0 and (
            after == len(times) or time_ns - times[after - 1] < times[after] - time_ns
        ):
            nearest = after - 1
        away_s = (time_ns - times[nearest]) / 1e9
        if abs(away_s) > gap_max_s:
            return None
        velocity = self._velocity(nearest)
        return Moment(self._models[nearest].displaced(away_s * velocity), velocity, abs(away_s))

    def _velocity(self, index: int) -> Float64:
        """[6] at a moment: the slope of a straight line through those about it."""
        span, times = int(_SLOPE_S * 1e9), self._times
        last = min(times[index] + span // 2, times[-1])
        low, high = bisect_left(times, last - span), bisect_left(times, last + 1)
        if high - low < 2:
            return np.zeros(6)
        here = self._models[index]
        rows = np.array([here.displacement(model) for model in self._models[low:high]])
        seconds = (np.array(times[low:high]) - times[index]) / 1e9
        seconds = seconds - seconds.mean()
        slope: Float64 = seconds @ rows / float(seconds @ seconds)
        return slope
