"""An autopilot in MAVLink 2: the messages of a drone whose camera is where somebody says it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymavlink.dialects.v20 import common

from skyreid.contract.camera import CameraModel
from skyreid.contract.geodesy import to_earth
from skyreid.contract.rotation import turn
from skyreid.contract.site import Origin
from skyreid.edge.telemetry.geoid import geoid_height

Float64 = NDArray[np.float64]

EARTH, VEHICLE, LOCK = 64, 32, 16
"""What a gimbal's yaw is counted from, of GIMBAL_DEVICE_FLAGS; the last is what older ones say."""
ON_FOR_NS = 90_000_000_000
"""It has been on for a minute and a half when a flight begins."""


class Autopilot:
    """What it sends at a moment of a flight: bytes of messages."""

    def __init__(
        self,
        origin: Origin,
        said: Callable[[float], CameraModel],
        start_ns: int,
        *,
        flags: int,
        yaw_rad: float = 0.4,
        boot_ns: int | None = None,
        system: int = 1,
        gimbal_boot_ms: int | None = None,
    ) -> None:
        """Set up.

        Args:
            origin: of the site.
            said: where it says the camera is, by seconds since the flight's start.
            start_ns: UTC of that.
            flags: of its gimbal.
            yaw_rad: of its nose.
            boot_ns: UTC of its start; None = `ON_FOR_NS` before the flight's.
            system: its number.
            gimbal_boot_ms: time of the flight's start on the gimbal's own count; None = on this.
        """
        self._mav: Any = common.MAVLink(None, srcSystem=system, srcComponent=1)
        self._gimbal: Any = common.MAVLink(None, srcSystem=system, srcComponent=154)
        self._origin, self._said, self._start_ns = origin, said, start_ns
        self._boot_ns = start_ns - ON_FOR_NS if boot_ns is None else boot_ns
        self._flags, self._yaw, self._gimbal_boot_ms = flags, yaw_rad, gimbal_boot_ms

    def _boot_ms(self, time_s: float) -> int:
        return round((self._start_ns - self._boot_ns) / 1e6 + time_s * 1e3)

    def system_time(self, time_s: float) -> bytes:
        """SYSTEM_TIME."""
        boot_ms = self._boot_ms(time_s)
        return self._pack(
            self._mav.system_time_encode((self._boot_ns + boot_ms * 1_000_000) // 1000, boot_ms)
        )

    def position(self, time_s: float, noise_m: Sequence[float] = (0.0, 0.0, 0.0)) -> bytes:
        """GLOBAL_POSITION_INT, off by so much east, north and up."""
        place = self._said(time_s).position + noise_m
        latitude, longitude, up = to_earth(self._origin, place)
        speed = (self._said(time_s + 0.01).position - self._said(time_s - 0.01).position) / 0.02
        return self._pack(
            self._mav.global_position_int_encode(
                self._boot_ms(time_s),
                round(latitude * 1e7),
                round(longitude * 1e7),
                round((up - geoid_height(latitude, longitude)) * 1e3),
                20_000,
                round(speed[1] * 100),
                round(speed[0] * 100),
                round(-speed[2] * 100),
                65535,
            )
        )

    def attitude(self, time_s: float) -> bytes:
        """ATTITUDE."""
        return self._pack(
            self._mav.attitude_encode(self._boot_ms(time_s), 0.1, -0.1, self._yaw, 0.0, 0.0, 0.0)
        )

    def gimbal(self, time_s: float, noise_rad: Sequence[float] = (0.0, 0.0, 0.0)) -> bytes:
        """GIMBAL_DEVICE_ATTITUDE_STATUS, off by so much about the camera's own axes."""
        rotation = turn(np.asarray(noise_rad, float)) @ self._said(time_s).rotation
        rows = rotation[[2, 0, 1]]  # forward, right, down in east, north, up
        ned_from_sensor = (rows @ np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])).T
        if not self._flags & EARTH:
            from_nose = np.array(
                [
                    [np.cos(self._yaw), np.sin(self._yaw), 0],
                    [-np.sin(self._yaw), np.cos(self._yaw), 0],
                    [0, 0, 1],
                ]
            )
            ned_from_sensor = from_nose @ ned_from_sensor
        own = self._gimbal_boot_ms
        at_ms = self._boot_ms(time_s) if own is None else own + round(time_s * 1e3)
        message = self._mav.gimbal_device_attitude_status_encode(
            0, 0, at_ms, self._flags, _quaternion(ned_from_sensor), 0, 0, 0, 0
        )
        data: bytes = message.pack(self._mav if own is None else self._gimbal)
        return data

    def _pack(self, message: Any) -> bytes:
        data: bytes = message.pack(self._mav)
        return data


def _quaternion(rotation: Float64) -> list[float]:
    w = np.sqrt(max(1 + np.trace(rotation), 0)) / 2
    x, y, z = (
        rotation[2, 1] - rotation[1, 2],
        rotation[0, 2] - rotation[2, 0],
        rotation[1, 0] - rotation[0, 1],
    )
    return [float(part) for part in (w, x / (4 * w), y / (4 * w), z / (4 * w))]
