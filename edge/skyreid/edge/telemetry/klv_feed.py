"""KLV beside the video, as a feed of poses: MISB ST 0601, asynchronous and synchronous."""

from __future__ import annotations

from collections import deque
from statistics import median_low

from skyreid.contract import klv
from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import camera_of
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.edge.telemetry.poses import Picture

_WINDOW = 64
"""Packets over which the drone's clock is compared with that of the frames."""
_STEP_NS = 2_000_000_000
"""A packet farther off is of another clock, or of another flight."""


class KlvFeed:
    """Reads the packets that came with each frame.

    The drone's clock is not that of the frames. Every packet has a time of the drone's and a place
    in the stream: their difference is the same for all packets but for how long each of them
    waited, so it is taken as the median of the last ones. The stream's own time is meant: were it
    that of capture, poses of before and after a correction of the camera's clock would be mixed.
    """

    def __init__(self, origin: Origin, *, fov_deg: float | None = None) -> None:
        """Set up; ``fov_deg`` is the field of view where packets say none."""
        self._origin, self._fov_deg = origin, fov_deg
        self._offsets: deque[int] = deque(maxlen=_WINDOW)
        self.fault = ""

    def take(self, frame: Picture) -> list[tuple[int, CameraModel]]:
        """See ``poses.Feed``."""
        self.fault = ""
        said = []
        for came_ns, buffer in frame.telemetry:
            for data in klv.packets_in(buffer):
                try:
                    packet = klv.decode(data)
                    model = camera_of(
                        packet,
                        self._origin,
                        frame.width,
                        frame.height,
                        geoid=geoid_height,
                        fov_deg=self._fov_deg,
                    )
                except InputError as error:
                    self.fault = str(error)
                    continue
                offset = came_ns - frame.captured_at_ns + frame.media_ns - packet.time_ns
                if self._offsets and abs(offset - median_low(self._offsets)) > _STEP_NS:
                    self._offsets.clear()
                self._offsets.append(offset)
                said.append((packet.time_ns, model))
        return [(time_ns + median_low(self._offsets), model) for time_ns, model in said]

    def now(self, frame: Picture) -> int:
        """See ``poses.Feed``."""
        return frame.media_ns
