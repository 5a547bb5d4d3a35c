"""MAVLink 2 over UDP or a serial line, as a feed of poses: an autopilot's place, gimbal and lens.

Messages have the time since the autopilot's start, and `boot_clock` knows when that was. They are
read when a frame asks, and wait in the socket or the line until then.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
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
_APART_MS = 1000
"""Two that differ by less count from one start, and the link was uneven."""
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


@dataclass
class _Part:
    """What is known of the clock of one component."""

    latest_ms: int = 0
    earlier: int = 0
    quickest: deque[int] = field(default_factory=lambda: deque(maxlen=500))
    """Of each message of a place or a gimbal when it came, less its time since the start."""


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
        self._clock = BootClock()
        self._parts: dict[int, _Part] = {}
        self._pilot: tuple[int, int] | None = None
        self._first: set[int] = set()
        self._heard_ns = 0
        self._turned = False
        self.fault = ""

    def close(self) -> None:
        """Give the link back."""
        self._link.close()

    def take(self, frame: Picture) -> list[tuple[int, CameraModel]]:
        """See ``poses.Feed``."""
        self.fault = ""
        said, size = list[tuple[int, CameraModel]](), 0
        for arrived_ns, data in self._link.read():
            size += len(data)
            if size > _BYTES_MAX:
                self.fault = f"more than {_BYTES_MAX} bytes of MAVLink for one frame: passed over"
                continue
            if self._link.whole:  # no message goes from one datagram into the next
                self._parser = self._new_parser()
            for message in self._parser.parse_buffer(data) or ():
                if not self._is_ours(message, arrived_ns):
                    continue
                if self._begins_anew(message):
                    said.clear()
                try:
                    heard = self._hear(message, frame, arrived_ns)
                except InputError as error:
                    self.fault = str(error)
                    continue
                if heard is not None:
                    said.append(heard)
        self._ask()
        start_ns = self._clock.start_ns
        return [(since_ns + start_ns, model) for since_ns, model in said]

    def _is_ours(self, message: Any, arrived_ns: int) -> bool:
        """Whether a message is of the drone whose place was heard first and still is."""
        kind, system = message.get_type(), int(message.get_srcSystem())
        if kind not in _HEARD:
            return False
        ours = None if self._pilot is None else self._pilot[0]
        if kind == "GLOBAL_POSITION_INT":
            if ours is None or not 0 <= arrived_ns - self._heard_ns < _SILENT_NS:
                if self._first - {system}:  # what others said before belongs to them
                    self._forget()
                self._pilot, self._first = (system, int(message.get_srcComponent())), {system}
            elif system != ours:
                self.fault = (
                    f"MAVLink of the systems {ours} and {system} comes to one port: {ours} is "
                    "listened to; give each drone a port of its own"
                )
                return False
            self._heard_ns = arrived_ns
            return True
        if ours is None:
            self._first.add(system)
        elif system != ours:
            return False
        # Cameras and gimbals count from starts of their own.
        anybodys = kind not in ("SYSTEM_TIME", "TIMESYNC")
        return anybodys or self._pilot in (None, (system, int(message.get_srcComponent())))

    @property
    def lacks(self) -> str:
        """See ``poses.Feed``."""
        if self._place is None:
            return "no GLOBAL_POSITION_INT comes" + ("" if self._parts else ", nor anything else")
        if not self._turned:
            return "no GIMBAL_DEVICE_ATTITUDE_STATUS comes"
        if self._attitude is None:
            return "no ATTITUDE comes, which a gimbal's yaw counted from the nose needs"
        return "GLOBAL_POSITION_INT, ATTITUDE and the gimbal's attitude are not of one time"

    def now(self, frame: Picture) -> int:
        """See ``poses.Feed``: the start of the autopilot is known in UTC."""
        return frame.captured_at_ns

    def _begins_anew(self, message: Any) -> bool:
        """Whether the autopilot was started anew: what it said of its start is of another one."""
        at_ms, component = getattr(message, "time_boot_ms", None), int(message.get_srcComponent())
        if at_ms is None:
            return False
        part = self._parts.setdefault(component, _Part())
        if at_ms >= part.latest_ms - _OLD_MS:
            part.latest_ms, part.earlier = max(at_ms, part.latest_ms), 0
            return False
        part.earlier += 1
        if part.earlier < _ANEW:
            return False
        if self._pilot is None or component == self._pilot[1]:
            self._forget()
        self._parts[component] = _Part(at_ms)
        return True

    def _forget(self) -> None:
        """What was said so far was another's."""
        self._parts.clear()
        self._place = self._attitude = None
        self._clock.clear()

    def _since_ms(self, message: Any, arrived_ns: int) -> int:
        """The time of a message on the autopilot's own count.

        A gimbal may count from its own start. Both travel the same way: by how much the quickest of
        their messages differ, by so much do the starts.
        """
        part = self._parts[int(message.get_srcComponent())]
        at_ms = int(message.time_boot_ms)
        part.quickest.append(arrived_ns - at_ms * 1_000_000)
        pilot = None if self._pilot is None else self._parts.get(self._pilot[1])
        if pilot is None or pilot is part or not pilot.quickest:
            return at_ms
        apart_ms = (min(part.quickest) - min(pilot.quickest)) // 1_000_000
        return at_ms + (apart_ms if abs(apart_ms) > _APART_MS else 0)

    def _new_parser(self) -> Any:
        parser = self._make_parser(None)
        parser.robust_parsing = True  # noise on the line is no exception
        return parser

    def _ask(self) -> None:
        """Ask the autopilot for its time, now and then."""
        asked_ns = None if self._pilot is None else self._clock.question(time.time_ns())
        if asked_ns is not None and self._pilot is not None:
            mavlink = self._make_parser(None, srcSystem=self._pilot[0], srcComponent=_COMPANION)
            self._link.send(mavlink.timesync_encode(0, asked_ns).pack(mavlink))

    def _hear(
        self, message: Any, frame: Picture, arrived_ns: int
    ) -> tuple[int, CameraModel] | None:
        """A pose, where there is one, with nanoseconds since the autopilot's start."""
        kind = message.get_type()
        if kind == "SYSTEM_TIME":
            if message.time_unix_usec:
                self._clock.said(message.time_unix_usec * 1_000, message.time_boot_ms * 1_000_000)
        elif kind == "TIMESYNC":
            if message.tc1 > 0:  # an answer
                self._clock.answered(message.ts1, message.tc1, arrived_ns)
        elif kind == "GLOBAL_POSITION_INT":
            self._place = message
            self._since_ms(message, arrived_ns)
        elif kind == "ATTITUDE":
            self._attitude = message
        elif kind == "CAMERA_FOV_STATUS" and 0 < message.hfov < 180:
            self._fov_deg, self._says_fov = float(message.hfov), True
        elif kind == "CAMERA_SETTINGS" and self._lens is not None and not self._says_fov:
            if not np.isnan(message.zoomLevel):  # it does not know
                self._fov_deg = self._lens.fov_deg(float(message.zoomLevel))
        elif kind == "GIMBAL_DEVICE_ATTITUDE_STATUS":
            self._turned = True
            at_ms = self._since_ms(message, arrived_ns)
            self._clock.arrived(at_ms * 1_000_000, arrived_ns)
            model = self._camera(message, at_ms, frame)
            return None if model is None else (at_ms * 1_000_000, model)
        return None

    def _camera(self, gimbal: Any, at_ms: int, frame: Picture) -> CameraModel | None:
        place = self._place
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
