"""From what a drone says to the pose of each frame, with how far it may be off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel, Pose, moved
from skyreid.contract.device import TelemetryHealth
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.track import KEPT_S, Moment, PoseTrack
from skyreid.edge.telemetry.watch import Watch
from skyreid.edge.video.frame import Planes

Float64 = NDArray[np.float64]

_TELLING_SHARE = 0.02
"""Of a picture's width: a smaller motion is not told. What a slow drone does between two frames is
within what a tracker expects, and less than what a velocity from noisy packets is off by: told of
it at quality ``poor``, one of IDF1 97 had 53 (bench/tracker.py, a hovering drone)."""
_AHEAD_MAX_S = KEPT_S
"""Farther in a frame's future nothing is said: taken in, it would drive out what is said of now."""
_SILENT_S = 5.0
"""Without anything of use it is said."""
_ACCELERATION = (1.0, 5.0)
"""m/s² and degrees/s²: what a drone and its gimbal may do while nothing is said of it."""


class Picture(Protocol):
    """What is asked of a frame: see ``video.frame.Frame``."""

    @property
    def captured_at_ns(self) -> int:
        """UTC."""
        ...

    @property
    def media_ns(self) -> int:
        """On a clock that nobody puts right."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def telemetry(self) -> Sequence[tuple[int, bytes]]:
        """KLV since the frame before: each buffer's capture time, and its bytes."""
        ...

    @property
    def planes(self) -> Planes | None:
        """What is seen, as the decoder wrote it ..."""
        ...

    @property
    def picture(self) -> NDArray[np.uint8] | None:
        """... or in RGB."""
        ...


class Feed(Protocol):
    """A source of telemetry."""

    fault: str
    """What of the latest could not be used; empty = nothing."""

    @property
    def lacks(self) -> str:
        """What has to come and does not, for whoever looks why there is no pose."""
        ...

    def take(self, frame: Picture) -> Sequence[tuple[int, CameraModel]]:
        """What was said since the frame before.

        Time stamps in the clock of ``now``, and the camera, in the frame's pixels.
        """
        ...

    def now(self, frame: Picture) -> int:
        """The frame's own moment, nanoseconds."""
        ...


class TelemetryPoses:
    """Poses of the frames of one camera, from a feed. See ``sighter.Poses``."""

    def __init__(self, feed: Feed, options: TelemetryOptions, *, plane_m: float) -> None:
        """Set up.

        Args:
            feed: what the drone says.
            options: how far it is to be believed.
            plane_m: height above the ground of what `Pose.motion` is right for.
        """
        self._feed, self._options, self._sigmas = feed, options, options.sigmas
        self._plane_m = plane_m
        self._corrected = np.array(options.displacement)
        self._track = PoseTrack()
        self._watch = Watch(options)
        self._ahead = ""
        self._size: tuple[int, int] | None = None
        self._before_ns: int | None = None
        self._said_ns: int | None = None
        self._silent = ""

    @property
    def fault(self) -> str:
        """What could not be used of what came with the latest frame."""
        return self._ahead or self._feed.fault or self._silent or self._watch.fault

    @property
    def condition(self) -> TelemetryHealth:
        """For ``health``."""
        fault = self.fault[:200] or None
        return self._watch.condition.model_copy(update={"fault": fault})

    def at(self, frame: Picture) -> Pose | None:
        """The camera at a frame; None where telemetry has not come, or stays away."""
        if self._size != (frame.width, frame.height):
            self._size = frame.width, frame.height
            self._track.clear()
            self._watch.clear()
        self._ahead = ""
        said, now_ns = self._feed.take(frame), self._feed.now(frame)
        self._note_silence(frame.captured_at_ns, silent=not said)
        for time_ns, model in said:
            ahead_s = (time_ns - now_ns) / 1e9
            if ahead_s > _AHEAD_MAX_S:
                self._ahead = f"telemetry is {ahead_s:.3g} s ahead of the picture: set its clock"
                continue
            self._track.add(time_ns, model.displaced(self._corrected))
        self._watch.look(frame, now_ns, self._track)
        before_ns, lag_ns = self._before_ns, round(self._watch.lag_ms * 1e6)
        gap_max_s = self._options.gap_max_s + lag_ns / 1e9
        moment = self._track.at(now_ns + lag_ns, gap_max_s=gap_max_s)
        self._before_ns = None if moment is None else now_ns
        if moment is None:
            return None
        motion = None
        if before_ns is not None:
            # By its velocity, not by two poses: what each packet is off by is no motion.
            back = moment.model.displaced(moment.velocity * (before_ns - now_ns) / 1e9)
            motion = _told(moved(back, moment.model, self._plane_m), frame.width, frame.height)
        return Pose(moment.model, self._covariance(moment), motion)

    def _note_silence(self, at_ns: int, *, silent: bool) -> None:
        """Say what is missed, where nothing has come for a while."""
        if not silent or self._said_ns is None:
            self._said_ns, self._silent = at_ns, ""
        elif at_ns - self._said_ns > _SILENT_S * 1e9:
            self._silent = f"telemetry.source {self._options.source}: {self._feed.lacks}"

    def _covariance(self, moment: Moment) -> Float64:
        """[6, 6] as `Pose.cov` has it."""
        s = self._sigmas
        turn = np.radians(s.attitude_deg)
        up = np.hypot(s.height_m, self._options.ground_sigma_m)
        known = np.array([s.position_m] * 2 + [up] + [turn] * 3) ** 2
        strayed = moment.away_s**2 / 2
        pushed = np.array([_ACCELERATION[0]] * 3 + [np.radians(_ACCELERATION[1])] * 3) * strayed
        late = moment.velocity * self._watch.lag_sigma_ms / 1e3
        cov: Float64 = np.diag(known + pushed**2) + np.outer(late, late)
        return cov


def _told(motion: Float64, width_px: int, height_px: int) -> Float64 | None:
    """The motion, or None where the middle of the picture hardly moves."""
    middle = np.array([width_px / 2, height_px / 2, 1.0])
    there = motion @ middle
    by = np.linalg.norm(there[:2] / there[2] - middle[:2])
    return motion if by >= _TELLING_SHARE * width_px else None
