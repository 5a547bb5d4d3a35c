"""MAVLink 2 over UDP, as a feed of poses: position, gimbal and field of view of an autopilot.

Messages have the time since the autopilot's start; SYSTEM_TIME says which time of the day that was,
whatever the link takes. An autopilot that has no time yet is taken to be as early as the quickest
of its messages allows: then the link's own lag remains, and belongs in ``telemetry.lag_ms``.
Messages are read when a frame asks, and wait in the socket until then.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError, PlatformError, SettingsError
from skyreid.contract.geodesy import to_site
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import axes, camera_at
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import Picture

Float64 = NDArray[np.float64]

_DATAGRAMS_MAX, _BYTES_MAX = 2000, 1 << 18
"""Read for one frame at most: a flood must not stop the pictures. Of so many bytes, which take
200 ms to read, a drone says a few thousand."""
_OLD_MS = 2000
"""A place, or a heading, is not carried farther than that to the time of the gimbal."""
_ANEW = 5
"""So many messages in a row of an earlier time since the start: it was started anew."""
_YAW_LOCK, _YAW_OF_VEHICLE, _YAW_OF_EARTH = 16, 32, 64
"""Of GIMBAL_DEVICE_FLAGS; before the last two there was the first alone."""


class MavlinkFeed:
    """Listens on a UDP port and makes a pose of every attitude of the gimbal."""

    def __init__(self, host: str, port: int, origin: Origin, options: TelemetryOptions) -> None:
        """Open the port.

        Raises:
            PlatformError: pymavlink is missing.
            SettingsError: the port cannot be had.
        """
        try:
            from pymavlink.dialects.v20 import common
        except ImportError as error:
            raise PlatformError(
                "MAVLink needs pymavlink: pip install 'skyreid[mavlink]'"
            ) from error
        self._origin, self._options = origin, options
        self._make_parser = common.MAVLink
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise SettingsError(
                f"telemetry.source udp://{host}:{port}: {error.strerror}"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._place: Any = None
        self._attitude: Any = None
        self._fov_deg = options.fov_deg
        self._latest_ms = self._earlier = 0
        self._utc: deque[int] = deque(maxlen=15)
        self._quickest: deque[int] = deque(maxlen=500)
        self.fault = ""

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    def take(self, frame: Picture) -> list[tuple[int, CameraModel]]:
        """See ``poses.Feed``."""
        self.fault = ""
        said, size = list[tuple[int, CameraModel]](), 0
        for _ in range(_DATAGRAMS_MAX):
            try:
                data = self._socket.recv(65_535)
            except BlockingIOError:
                break
            arrived_ns = time.time_ns()
            size += len(data)
            if size > _BYTES_MAX:
                self.fault = f"more than {_BYTES_MAX} bytes of MAVLink for one frame: passed over"
                continue
            parser = self._make_parser(None)  # no message goes from one datagram into the next
            parser.robust_parsing = True  # noise on the line is no exception
            for message in parser.parse_buffer(data) or ():
                if self._begins_anew(message):
                    said.clear()
                try:
                    model = self._hear(message, frame, arrived_ns)
                except InputError as error:
                    self.fault = str(error)
                    continue
                if model is not None:
                    said.append((message.time_boot_ms * 1_000_000, model))
        return [(since_ns + self._start_ns, model) for since_ns, model in said]

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
        self._latest_ms, self._earlier = at_ms, 0
        self._place = self._attitude = None
        self._utc.clear()
        self._quickest.clear()
        return True

    @property
    def _start_ns(self) -> int:
        """UTC of the autopilot's start."""
        return median_low(self._utc) if self._utc else min(self._quickest, default=0)

    def _hear(self, message: Any, frame: Picture, arrived_ns: int) -> CameraModel | None:
        kind = message.get_type()
        if kind == "SYSTEM_TIME":
            if message.time_unix_usec:
                self._utc.append(message.time_unix_usec * 1_000 - message.time_boot_ms * 1_000_000)
        elif kind == "GLOBAL_POSITION_INT":
            self._place = message
        elif kind == "ATTITUDE":
            self._attitude = message
        elif kind == "CAMERA_FOV_STATUS" and 0 < message.hfov < 180:
            self._fov_deg = float(message.hfov)
        elif kind == "GIMBAL_DEVICE_ATTITUDE_STATUS":
            self._quickest.append(arrived_ns - message.time_boot_ms * 1_000_000)
            return self._camera(message, frame)
        return None

    def _camera(self, gimbal: Any, frame: Picture) -> CameraModel | None:
        at_ms, place = gimbal.time_boot_ms, self._place
        if place is None or abs(at_ms - place.time_boot_ms) > _OLD_MS:
            return None  # it has just been switched on
        if self._fov_deg is None:
            raise InputError("MAVLink says no field of view: set telemetry.fov_deg")
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
