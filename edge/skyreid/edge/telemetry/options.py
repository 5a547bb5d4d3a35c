"""What a user may set of a drone's telemetry; also a section of the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import radians
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from skyreid.contract.settings import Section

_UDP = re.compile(r"udp://([0-9.]+):(\d{1,5})")
_SERIAL = re.compile(r"serial:(/[^:]+):(\d{3,8})")
Quality = Literal["exact", "rtk", "gnss", "poor"]


@dataclass(frozen=True)
class Sigmas:
    """Standard deviations of what telemetry says, each as a whole: constant part and noise."""

    position_m: float
    """East and north, each."""
    height_m: float
    attitude_deg: float
    """About each axis of the camera."""
    lag_ms: float
    """By which a pose is older than its time stamp, on average."""
    lag_sigma_ms: float
    moment_m: float
    """What of the place is no constant of a flight but of one moment: noise of packets, and what is
    made of it where a pose is carried on over the lag by their slope; what the lag itself is off by
    is apart (measured on drones that hover: docs/LOG.md)."""
    moment_deg: float
    """The same of the attitude."""


QUALITIES: dict[Quality, Sigmas] = {
    "exact": Sigmas(
        0.02, 0.09, 0.02, 0, 0, 0.02, 0.02
    ),  # what KLV's own steps leave, of height .3 m
    "rtk": Sigmas(0.04, 0.14, 0.51, 75, 15, 0.02, 0.12),
    "gnss": Sigmas(1.0, 1.5, 1.02, 175, 45, 0.14, 0.28),
    "poor": Sigmas(2.5, 4.0, 2.04, 300, 60, 0.51, 0.69),
}


class TelemetryOptions(Section):
    """Where the drone's own word comes from, and how far it is to be believed."""

    source: str = ""
    """``klv``: packets of MISB ST 0601 beside the video; ``udp://0.0.0.0:14550``: MAVLink 2 that
    comes to a port; ``serial:/dev/ttyACM0:57600``: over a line; a path ending in ``.csv``, relative
    to the settings file. Empty: the drone is not asked."""
    quality: Quality = "gnss"
    """How good it is; the five keys below overrule it one by one."""
    position_sigma_m: float | None = Field(None, ge=0, le=1000)
    """Standard deviation of the place, east and north each."""
    height_sigma_m: float | None = Field(None, ge=0, le=1000)
    """The same of the height."""
    attitude_sigma_deg: float | None = Field(None, ge=0, le=45)
    """The same of where the camera looks, about each axis."""
    lag_ms: float | None = Field(None, ge=-2000, le=5000)
    """Milliseconds by which a pose is older than its time stamp; ``auto``: as the motion of the
    picture tells, and until it does that of the quality."""
    lag_sigma_ms: float | None = Field(None, ge=0, le=2000)
    """Standard deviation of that."""
    terrain: Path | None = None
    """Heights of the ground: an ``.hgt`` of SRTM, a folder of them, or a GeoTIFF in degrees;
    relative to the settings file. Its shape alone is taken, through the site's origin. None: the
    ground is taken to be flat, at the height of the origin."""
    terrain_sigma_m: float | None = Field(None, ge=0, le=100)
    """Standard deviation of that; .1 for a flat one, 2 for a terrain."""
    gap_max_s: float = Field(1.0, gt=0, le=10)
    """Seconds without telemetry after which nobody has a place any more."""
    fov_deg: float | None = Field(None, gt=1, lt=179)
    """Horizontal field of view of the picture, where telemetry says none."""
    lens: Path | None = None
    """Lens table: a CSV with the columns ``zoom`` and ``fov_deg``, where telemetry says a zoom
    alone; relative to the settings file."""
    boresight_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """By which the camera looks higher, farther to the right, and is rolled clockwise (as seen from
    behind), than telemetry says."""
    position_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Metres east, north and up that are added to where telemetry says the camera is."""
    yaw_frame: Literal["auto", "vehicle", "earth"] = "auto"
    """What MAVLink's gimbal counts its yaw from, the nose or north; ``auto``: as its flags say."""
    takeoff_height_m: float | None = Field(None, ge=-1000, le=10_000)
    """Of the place of take-off above the ellipsoid, for heights above it."""

    @field_validator("lag_ms", mode="before")
    @classmethod
    def _is_known_or_seen(cls, value: object) -> object:
        return None if value == "auto" else value

    @field_validator("source")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if (
            value not in ("", "klv")
            and not value.endswith(".csv")
            and _UDP.fullmatch(value) is None
            and _SERIAL.fullmatch(value) is None
        ):
            raise ValueError(
                "klv, udp://HOST:PORT, serial:/dev/LINE:BAUD, or a path ending in .csv"
            )
        return value

    @property
    def ground_sigma_m(self) -> float:
        """Of the ground's height."""
        if self.terrain_sigma_m is not None:
            return self.terrain_sigma_m
        return 0.1 if self.terrain is None else 2.0

    @property
    def port(self) -> tuple[str, int] | None:
        """Host and port to listen on; None where the source is no port."""
        found = _UDP.fullmatch(self.source)
        return None if found is None else (found[1], int(found[2]))

    @property
    def line(self) -> tuple[str, int] | None:
        """Path and bits a second of a serial line; None where the source is none."""
        found = _SERIAL.fullmatch(self.source)
        return None if found is None else (found[1], int(found[2]))

    @property
    def displacement(self) -> tuple[float, float, float, float, float, float]:
        """By what a camera is put right against what telemetry says: `CameraModel.displaced`."""
        east, north, up = self.position_shift_m
        right, down, forward = (0.0 - radians(angle) for angle in self.boresight_deg)
        return east, north, up, right, down, forward

    @property
    def sigmas(self) -> Sigmas:
        """Those in force."""
        of = QUALITIES[self.quality]

        def either(mine: float | None, usual: float) -> float:
            return usual if mine is None else mine

        return Sigmas(
            either(self.position_sigma_m, of.position_m),
            either(self.height_sigma_m, of.height_m),
            either(self.attitude_sigma_deg, of.attitude_deg),
            either(self.lag_ms, of.lag_ms),
            either(self.lag_sigma_ms, of.lag_sigma_ms),
            of.moment_m,
            of.moment_deg,
        )
