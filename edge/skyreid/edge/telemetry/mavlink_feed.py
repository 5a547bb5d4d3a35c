"""MAVLink 2 over UDP or a serial line, as a feed of poses: an autopilot's place, gimbal and lens.

Messages have the time since the autopilot's start, and `boot_clock` knows when that was. They are
read when a frame asks, and wait in the socket or the line until then.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError, PlatformError
from skyreid.contract.geodesy import to_site
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import axes, camera_at
from skyreid.edge.telemetry.boot_clock import BootClock
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.edge.telemetry.lens import Lens
from skyreid.edge.telemetry.mavlink_link import Link
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import Picture

Float64 = NDArray[np.float64]

_BYTES_MAX = 1 << 18
"""Read for one frame at most: a flood must not stop the pictures. Of so many bytes, which take
200 ms to read, a drone says a few thousand."""
_OLD_MS = 2000
"""A place, or a heading, is not carried farther than that to the time of the gimbal."""
_ANEW = 5
"""So many messages in a row of an earlier time since the start: it was started anew."""
_YAW_LOCK, _YAW_OF_VEHICLE, _YAW_OF_EARTH = 16, 32, 64
"""Of GIMBAL_DEVICE_FLAGS; before the last two there was the first alone."""
_HEARD = (
    *("GLOBAL_POSITION_INT", "ATTITUDE", "GIMBAL_DEVICE_ATTITUDE_STATUS", "SYSTEM_TIME"),
    *("CAMERA_FOV_STATUS", "CAMERA_SETTINGS", "TIMESYNC"),
)
_SILENT_NS = 5_000_000_000
"""After so long another may be listened to."""
_COMPANION = 191
"""MAV_COMP_ID_ONBOARD_COMPUTER: who asks for the time."""


class MavlinkFeed:
    """Listens to a link and makes a pose of every attitude of the gimbal."""

    def __init__(
        self, link: Link, origin: Origin, options: TelemetryOptions, lens: Lens | None = None
    ) -> None:
        """Set up; the link is closed with it.

        Raises:
            PlatformError: pymavlink is missing.
        """
        try:
            from pymavlink.dialects.v20 import common
        except ImportError as error:
            link.close()
            raise PlatformError(
                "MAVLink needs pymavlink: pip install 'skyreid[mavlink]'"
            ) from error
        self._link, self._origin, self._options, self._lens = link, origin, options, lens
        self._make_parser = common.MAVLink
        self._parser = self._new_parser()
        self._place: Any = None
        self._attitude: Any = None
        self._fov_deg = options.fov_deg
        self._says_fov = False
        self._latest_ms = self._earlier = 0
        self._clock = BootClock()
        self._system: int | None = None
        self._heard_ns = 0
        self.fault = ""

    def close(self) -> None:
        """Give the link back."""
        self._link.close()

    def take(self, frame: Picture) -> list[tuple[int, CameraModel]]:
        """See ``poses.Feed``."""
        self.fault = ""
        said, size, heard = list[tuple[int, CameraModel]](), 0, 0
        for arrived_ns, data in self._link.read():
            size += len(data)
            if size > _BYTES_MAX:
                self.fault = f"more than {_BYTES_MAX} bytes of MAVLink for one frame: passed over"
                continue
            if self._link.whole:  # no message goes from one datagram into the next
                self._parser = self._new_parser()
            for message in self._parser.parse_buffer(data) or ():
                system = int(message.get_srcSystem())
                if not self._is_ours(message, system, arrived_ns):
                    continue
                heard = heard or system
                if self._begins_anew(message):
                    said.clear()
                try:
                    model = self._hear(message, frame, arrived_ns)
                except InputError as error:
                    self.fault = str(error)
                    continue
                if model is not None:
                    said.append((message.time_boot_ms * 1_000_000, model))
        if heard:
            self._ask(heard)
        start_ns = self._clock.start_ns
        return [(since_ns + start_ns, model) for since_ns, model in said]

    def _is_ours(self, message: Any, system: int, arrived_ns: int) -> bool:
        """Whether a message is of the drone that was heard first and still is."""
        if message.get_type() not in _HEARD:
            return False
        silent = not 0 <= arrived_ns - self._heard_ns < _SILENT_NS
        if system != self._system and (self._system is None or silent):
            if self._system is not None:
                self._forget()
            self._system = system
        if system == self._system:
            self._heard_ns = arrived_ns
            return True
        self.fault = (
            f"MAVLink of the systems {self._system} and {system} comes to one port: {self._system} "
            "is listened to; give each drone a port of its own"
        )
        return False

    def now(self, frame: Picture) -> int:
        """See ``poses.Feed``: the start of the autopilot is known in UTC."""
        return frame.captured_at_ns

    def _begins_anew(self, message: Any) -> bool:
        """Whether the autopilot was started anew: what it said of its start is of another one."""
        at_ms = getattr(message, "time_boot_ms", None)
        if at_ms is None:
            return False
        if at_ms >= self._latest_ms - _OLD_MS:
            self._latest_ms, self._earlier = max(at_ms, self._latest_ms), 0
            return False
        self._earlier += 1
        if self._earlier < _ANEW:
            return False
        self._forget()
        self._latest_ms = at_ms
        return True

    def _forget(self) -> None:
        """What was said so far was another's."""
        self._latest_ms = self._earlier = 0
        self._place = self._attitude = None
        self._clock.clear()

    def _new_parser(self) -> Any:
        parser = self._make_parser(None)
        parser.robust_parsing = True  # noise on the line is no exception
        return parser

    def _ask(self, system: int) -> None:
        """Ask whom we heard for their time, now and then."""
        asked_ns = self._clock.question(time.time_ns())
        if asked_ns is not None:
            mavlink = self._make_parser(None, srcSystem=system, srcComponent=_COMPANION)
            self._link.send(mavlink.timesync_encode(0, asked_ns).pack(mavlink))

    def _hear(self, message: Any, frame: Picture, arrived_ns: int) -> CameraModel | None:
        kind = message.get_type()
        if kind == "SYSTEM_TIME":
            if message.time_unix_usec:
                self._clock.said(message.time_unix_usec * 1_000, message.time_boot_ms * 1_000_000)
        elif kind == "TIMESYNC":
            if message.tc1 > 0:  # an answer
                self._clock.answered(message.ts1, message.tc1, arrived_ns)
        elif kind == "GLOBAL_POSITION_INT":
            self._place = message
        elif kind == "ATTITUDE":
            self._attitude = message
        elif kind == "CAMERA_FOV_STATUS" and 0 < message.hfov < 180:
            self._fov_deg, self._says_fov = float(message.hfov), True
        elif kind == "CAMERA_SETTINGS" and self._lens is not None and not self._says_fov:
            if not np.isnan(message.zoomLevel):  # it does not know
                self._fov_deg = self._lens.fov_deg(float(message.zoomLevel))
        elif kind == "GIMBAL_DEVICE_ATTITUDE_STATUS":
            self._clock.arrived(message.time_boot_ms * 1_000_000, arrived_ns)
            return self._camera(message, frame)
        return None

    def _camera(self, gimbal: Any, frame: Picture) -> CameraModel | None:
        at_ms, place = gimbal.time_boot_ms, self._place
        if place is None or abs(at_ms - place.time_boot_ms) > _OLD_MS:
            return None  # it has just been switched on
        if self._fov_deg is None:
            raise InputError(
                "MAVLink says no field of view: set telemetry.fov_deg, or telemetry.lens"
            )
        looking = _turned([float(part) for part in gimbal.q])
        if self._yaw_frame(gimbal.flags) == "vehicle":
            carrier = self._attitude
            if carrier is None or abs(at_ms - carrier.time_boot_ms) > _OLD_MS:
                return None
            yaw = carrier.yaw + carrier.yawspeed * (at_ms - carrier.time_boot_ms) / 1e3
            looking = axes(float(np.degrees(yaw)), 0.0, 0.0) @ looking
        latitude, longitude = place.lat / 1e7, place.lon / 1e7
        there = to_site(
            self._origin,
            latitude,
            longitude,
            place.alt / 1e3 + geoid_height(latitude, longitude),
        )
        speed = np.array([place.vy, place.vx, -place.vz]) / 100  # north, east, down in cm/s
        there = there + speed * (at_ms - place.time_boot_ms) / 1e3
        return camera_at(there, looking, self._fov_deg, frame.width, frame.height)

    def _yaw_frame(self, flags: int) -> str:
        """What the gimbal's yaw is counted from: the nose, or north."""
        if self._options.yaw_frame != "auto":
            return self._options.yaw_frame
        if flags & (_YAW_OF_VEHICLE | _YAW_OF_EARTH):
            return "vehicle" if flags & _YAW_OF_VEHICLE else "earth"
        return "earth" if flags & _YAW_LOCK else "vehicle"


def _turned(quaternion: list[float]) -> Float64:
    """Rotation [3, 3] of a quaternion w, x, y, z.

    Raises:
        InputError: it is none.
    """
    length = float(np.linalg.norm(quaternion))
    if not 0.9 < length < 1.1:
        raise InputError(f"MAVLink says an attitude of length {length:g}")
    w, x, y, z = (part / length for part in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
