"""An autopilot that says in MAVLink where a drone of `flights` is."""

from __future__ import annotations

import numpy as np
import pytest
from flights import START_NS, model_at

from skyreid.contract.camera import CameraModel
from skyreid.contract.geodesy import to_earth
from skyreid.contract.site import Origin
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.synth.options import FlightPath

mavutil = pytest.importorskip("pymavlink.dialects.v20.common", reason="needs pymavlink")
BOOT_NS = START_NS - 90_000_000_000
"""The autopilot has been on for a minute and a half when the flight begins."""
EARTH, VEHICLE, LOCK = 64, 32, 16


def quaternion(rotation: np.ndarray) -> list[float]:
    w = np.sqrt(max(1 + np.trace(rotation), 0)) / 2
    x, y, z = (
        rotation[2, 1] - rotation[1, 2],
        rotation[0, 2] - rotation[2, 0],
        rotation[1, 0] - rotation[0, 1],
    )
    return [float(part) for part in (w, x / (4 * w), y / (4 * w), z / (4 * w))]


class Autopilot:
    """What it sends at a moment of the flight: bytes of messages."""

    def __init__(
        self,
        origin: Origin,
        *,
        flags: int,
        yaw_rad: float = 0.4,
        boot_ns: int = BOOT_NS,
        path: FlightPath = "orbit",
        late_s: float = 0.0,
        system: int = 1,
        gimbal_boot_ms: int | None = None,
    ) -> None:
        """``late_s``: it says of a moment where it was so long before."""
        self._mav = mavutil.MAVLink(None, srcSystem=system, srcComponent=1)
        self._origin, self._flags, self._yaw = origin, flags, yaw_rad
        self._boot_ns, self._path, self._late_s = boot_ns, path, late_s
        self._gimbal_boot_ms = gimbal_boot_ms  # of the flight's start, on its own count
        self._gimbal = mavutil.MAVLink(None, srcSystem=system, srcComponent=154)

    def _model(self, time_s: float) -> CameraModel:
        return model_at(time_s - self._late_s, self._path)

    def _boot_ms(self, time_s: float) -> int:
        return round((START_NS - self._boot_ns) / 1e6 + time_s * 1e3)

    def system_time(self, time_s: float) -> bytes:
        boot_ms = self._boot_ms(time_s)
        return self._pack(
            self._mav.system_time_encode((self._boot_ns + boot_ms * 1_000_000) // 1000, boot_ms)
        )

    def position(self, time_s: float) -> bytes:
        latitude, longitude, up = to_earth(self._origin, self._model(time_s).position)
        speed = (self._model(time_s + 0.01).position - self._model(time_s - 0.01).position) / 0.02
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
        return self._pack(
            self._mav.attitude_encode(self._boot_ms(time_s), 0.1, -0.1, self._yaw, 0.0, 0.0, 0.0)
        )

    def gimbal(self, time_s: float) -> bytes:
        rows = self._model(time_s).rotation[[2, 0, 1]]  # forward, right, down in east, north, up
        ned_from_sensor = (rows @ np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])).T
        if not self._flags & EARTH:
            turn = np.array(
                [
                    [np.cos(self._yaw), np.sin(self._yaw), 0],
                    [-np.sin(self._yaw), np.cos(self._yaw), 0],
                    [0, 0, 1],
                ]
            )
            ned_from_sensor = turn @ ned_from_sensor
        own = self._gimbal_boot_ms
        at_ms = self._boot_ms(time_s) if own is None else own + round(time_s * 1e3)
        message = self._mav.gimbal_device_attitude_status_encode(
            0, 0, at_ms, self._flags, quaternion(ned_from_sensor), 0, 0, 0, 0
        )
        data: bytes = message.pack(self._mav if own is None else self._gimbal)
        return data

    def _pack(self, message: object) -> bytes:
        data: bytes = message.pack(self._mav)  # type: ignore[attr-defined]
        return data
