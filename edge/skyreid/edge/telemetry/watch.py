"""Watches a drone's telemetry by its own picture: the lag in force, and what does not agree."""

from __future__ import annotations

import logging

import numpy as np

from skyreid.contract.device import TelemetryHealth
from skyreid.edge.telemetry.agreement import Comparison
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.track import PoseTrack
from skyreid.edge.video.motion import PictureMotion, Seen

log = logging.getLogger(__name__)

_LOOK_NS = 60_000_000
"""The picture is looked at no more often."""
_FIT_NS = 2_000_000_000
_AGES_MS_S = 0.5
"""Milliseconds by which a lag is less sure with each second since it was seen."""
_LEAST_MS = 10.0
"""No lag is known better: a pose is no moment but a mean over one."""
_CHANGING_SHARE = 0.3
"""Of what a place may be off, so much may change within the window."""
_TOLD_MS = 40.0
"""A lag that has changed by more is logged again."""


class Watch:
    """Compares what is said with what is seen, and knows the lag by it."""

    def __init__(self, options: TelemetryOptions) -> None:
        sigmas = options.sigmas
        self.lag_ms, self.lag_sigma_ms = sigmas.lag_ms, sigmas.lag_sigma_ms
        """In force: by which a pose is older than its time stamp, and standard deviation."""
        self._usual_sigma_ms = sigmas.lag_sigma_ms
        self._adapts = options.lag_ms is None and sigmas.lag_sigma_ms > 0
        self._turn = np.radians(sigmas.attitude_deg)
        self._position_m = sigmas.position_m
        self.fault = ""
        self._seen = False
        self._told_ms: float | None = None
        self._looked_ns = self._fitted_ns = 0
        self._motion, self._comparison = PictureMotion(), Comparison()

    def clear(self) -> None:
        """Other pictures come."""
        self._motion.clear()
        self._comparison.clear()
        self.fault = ""

    @property
    def condition(self) -> TelemetryHealth:
        """For ``health``."""
        return TelemetryHealth(
            lag_ms=round(self.lag_ms, 1),
            lag_error_ms=round(self.lag_sigma_ms, 1),
            lag_seen=self._seen,
        )

    def look(self, frame: Seen, now_ns: int, track: PoseTrack) -> None:
        """Take in a frame, and now and then compare.

        Args:
            frame: the picture.
            now_ns: its moment on the clock of what was said.
            track: what was said.
        """
        if 0 <= now_ns - self._looked_ns < _LOOK_NS:
            return
        self._looked_ns = now_ns
        found = self._motion.step(frame)
        if found is None:
            self._comparison.clear()
            return
        path, anew = found
        self._comparison.add(now_ns, path, anew=anew)
        if 0 <= now_ns - self._fitted_ns < _FIT_NS:
            return
        since_s = max(now_ns - self._fitted_ns, 0) / 1e9
        self._fitted_ns = now_ns
        times, models = track.said
        if not models:
            return
        latest = models[-1]
        range_m = max(float(latest.position[2]), 1.0)
        focal = latest.matrix[0, 0] / latest.width_px
        changing = self._turn + _CHANGING_SHARE * self._position_m / range_m
        agreed = self._comparison.fit(times, models, focal * changing)
        if self._seen:  # the longer ago, the less it is sure to hold
            aged_ms = self.lag_sigma_ms + _AGES_MS_S * min(since_s, 10.0)
            self.lag_sigma_ms = min(aged_ms, max(self._usual_sigma_ms, self.lag_sigma_ms))
        if agreed is None:
            return
        self._say(agreed.fault)
        if agreed.lag_s is None or not self._adapts:
            return
        error_ms = max(1e3 * agreed.error_s, _LEAST_MS)
        if error_ms <= (1.5 * self.lag_sigma_ms if self._seen else self._usual_sigma_ms):
            self._take(1e3 * agreed.lag_s, error_ms)

    def _take(self, lag_ms: float, error_ms: float) -> None:
        self.lag_ms, self.lag_sigma_ms, self._seen = lag_ms, error_ms, True
        if self._told_ms is None or abs(lag_ms - self._told_ms) > _TOLD_MS:
            self._told_ms = lag_ms
            log.info("telemetry lag_ms=%.0f error_ms=%.0f, by the picture", lag_ms, error_ms)

    def _say(self, fault: str) -> None:
        if fault and not self.fault:
            log.warning("%s", fault)
        self.fault = fault
