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
"""A packet farther off is of a drone's clock that was put right, or of another flight."""
_SHIFT_NS, _CONFIRM = 150_000_000, 3
"""So many in a row farther off than this: the stream's time has moved, as a live one's does while
the receiver learns how late its packets are."""


class KlvFeed:
    """Reads the packets that came with each frame.

    The drone's clock is not that of the frames. Every packet has a time of the drone's and a place
    in the stream: their difference is the same for all packets but for how long each of them
    waited, so it is taken as the median of the last ones. The stream's own time is meant, not that
    of capture, and poses are kept by the drone's: whatever becomes of the other clocks, none of
    before it lies among those of after it.
    """

    def __init__(self, origin: Origin, *, fov_deg: float | None = None) -> None:
        """Set up; ``fov_deg`` is the field of view where packets say none."""
        self._origin, self._fov_deg = origin, fov_deg
        self._offsets: deque[int] = deque(maxlen=_WINDOW)
        self._strange: list[int] = []
        self._put_right_ns = 0
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
                self._compare(came_ns - frame.captured_at_ns + frame.media_ns - packet.time_ns)
                said.append((packet.time_ns + self._put_right_ns, model))
        return said

    @property
    def lacks(self) -> str:
        """See ``poses.Feed``."""
        return (
            "no packet of MISB ST 0601 comes beside the video; a transport stream names it KLVA "
            "(ffprobe lists it as klv)"
        )

    def now(self, frame: Picture) -> int:
        """See ``poses.Feed``: on the drone's clock."""
        return frame.media_ns - (median_low(self._offsets) if self._offsets else 0)

    def _compare(self, offset: int) -> None:
        """Take in by how much the stream's time is ahead of the drone's."""
        offset -= self._put_right_ns
        away = offset - median_low(self._offsets) if self._offsets else 0
        if abs(away) > _STEP_NS:
            self._put_right_ns += away
            offset -= away
        elif abs(away) > _SHIFT_NS:
            agree = not self._strange or (self._strange[-1] > offset - away) == (away > 0)
            self._strange = [*self._strange, offset] if agree else [offset]
            if len(self._strange) < _CONFIRM:
                return
            self._offsets.clear()
            self._offsets.extend(self._strange[:-1])
        self._strange.clear()
        self._offsets.append(offset)
