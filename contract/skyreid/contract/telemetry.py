"""A drone's camera from its telemetry, and the telemetry of a camera.

The platform's axes are nose, right wing, down; it is turned from north, east, down by heading,
pitch and roll (z, y, x in turn). The sensor's axes are forward, right, down; it is turned from the
platform's by azimuth, elevation and roll in the same way. The site's axes are taken as those at the
drone: a kilometre away the plumb lines differ by .01 degrees.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError
from skyreid.contract.geodesy import to_earth, to_site
from skyreid.contract.klv import KlvPacket
from skyreid.contract.sighting import MAX_OFFSET_M
from skyreid.contract.site import Origin

Float64 = NDArray[np.float64]

# Rows: what the site's east, north, up are in north, east, down.
_NED_FROM_SITE = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
# The camera looks along z with x to the right; the sensor looks along x with y to the right.
_CAMERA_FROM_SENSOR = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])

_NEEDED = (
    "platform_heading_deg",
    "sensor_latitude_deg",
    "sensor_longitude_deg",
    "sensor_azimuth_deg",
    "sensor_elevation_deg",
)


def camera_of(
    packet: KlvPacket,
    origin: Origin,
    width_px: int,
    height_px: int,
    *,
    geoid: Callable[[float, float], float] | None = None,
    fov_deg: float | None = None,
) -> CameraModel:
    """The pinhole with square pixels and a centred principal point that the packet describes.

    A missing pitch or roll of the platform counts as level, a missing roll of the sensor as none.

    Args:
        packet: what was said.
        origin: of the site.
        width_px: of the picture.
        height_px: of the picture.
        geoid: latitude and longitude in degrees to the height of mean sea level above the
            ellipsoid in metres, for packets with a height above the sea alone.
        fov_deg: horizontal field of view where the packet says none.

    Raises:
        InputError: naming what the packet does not say, a field of view that is none, or a place
            more than 1,000 km from the site. Without ``geoid`` a height above mean sea level is not
            taken for one above the ellipsoid: they differ by up to 100 m.
    """
    missing = [name for name in _NEEDED if getattr(packet, name) is None]
    height, over_sea = packet.sensor_ellipsoid_m, packet.sensor_msl_m
    if height is None and (over_sea is None or geoid is None):
        missing.append("sensor_ellipsoid_m")
    fov = packet.horizontal_fov_deg or fov_deg
    if fov is None:
        missing.append("horizontal_fov_deg")
    if missing:
        also = (
            "; it has a height above mean sea level only, which needs a geoid"
            if "sensor_ellipsoid_m" in missing and over_sea is not None
            else ""
        )
        raise InputError(f"telemetry does not say {', '.join(missing)}{also}")

    def said(name: str) -> float:
        value: float | None = getattr(packet, name)
        return 0.0 if value is None else value

    latitude, longitude = said("sensor_latitude_deg"), said("sensor_longitude_deg")
    if height is None and geoid is not None:
        height = said("sensor_msl_m") + geoid(latitude, longitude)
    platform = axes(
        said("platform_heading_deg"), said("platform_pitch_deg"), said("platform_roll_deg")
    )
    sensor = axes(said("sensor_azimuth_deg"), said("sensor_elevation_deg"), said("sensor_roll_deg"))
    place = to_site(origin, latitude, longitude, 0.0 if height is None else height)
    return camera_at(place, platform @ sensor, fov or 0.0, width_px, height_px)


def camera_at(
    place_m: Float64, ned_from_sensor: Float64, fov_deg: float, width_px: int, height_px: int
) -> CameraModel:
    """The pinhole at a place [3] of the site whose sensor's axes [3, 3] are given.

    Args:
        place_m: east, north, up.
        ned_from_sensor: columns forward, right and down of the sensor, in north, east, down.
        fov_deg: horizontal field of view.
        width_px: of the picture.
        height_px: of the picture.

    Raises:
        InputError: a field of view or a direction that is none, or a place more than 1,000 km from
            the site.
    """
    away = float(np.abs(place_m).max())
    if not away <= MAX_OFFSET_M:
        raise InputError(f"telemetry places the camera {away:.0f} m from the site")
    if not 0 < fov_deg < 180:
        raise InputError(f"telemetry says a field of view of {fov_deg:g} degrees")
    if not np.isfinite(ned_from_sensor).all():
        raise InputError("telemetry says no direction: one of its angles is not a number")
    rotation = _CAMERA_FROM_SENSOR @ ned_from_sensor.T @ _NED_FROM_SITE
    focal_px = width_px / 2 / np.tan(np.radians(fov_deg) / 2)
    matrix = np.array([[focal_px, 0, width_px / 2], [0, focal_px, height_px / 2], [0, 0, 1.0]])
    return CameraModel(matrix, rotation, -rotation @ place_m, width_px, height_px)


def packet_of(
    camera: CameraModel,
    origin: Origin,
    time_ns: int,
    *,
    heading_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
) -> KlvPacket:
    """What the telemetry of a camera says, carried by a platform of the given attitude.

    The frame centre is left out where the camera does not look at the ground.
    """
    turned = _NED_FROM_SITE @ camera.rotation.T @ _CAMERA_FROM_SENSOR  # NED from sensor
    relative = axes(heading_deg, pitch_deg, roll_deg).T @ turned
    azimuth, elevation, roll = _angles(relative)
    latitude, longitude, height = to_earth(origin, camera.position)
    centre = camera.ground_point(camera.width_px / 2, camera.height_px / 2)
    frame: tuple[float | None, float | None, float | None] = (None, None, None)
    if centre is not None:
        frame = to_earth(origin, np.array([centre[0], centre[1], 0.0]))
    focal = camera.matrix[0, 0], camera.matrix[1, 1]
    fov = [
        float(2 * np.degrees(np.arctan(size / 2 / f)))
        for size, f in zip((camera.width_px, camera.height_px), focal, strict=True)
    ]
    return KlvPacket(
        time_ns=time_ns,
        platform_heading_deg=heading_deg % 360,
        platform_pitch_deg=pitch_deg,
        platform_roll_deg=roll_deg,
        sensor_latitude_deg=latitude,
        sensor_longitude_deg=longitude,
        sensor_ellipsoid_m=height,
        horizontal_fov_deg=fov[0],
        vertical_fov_deg=fov[1],
        sensor_azimuth_deg=azimuth % 360,
        sensor_elevation_deg=elevation,
        sensor_roll_deg=roll % 360,
        frame_latitude_deg=frame[0],
        frame_longitude_deg=frame[1],
        frame_ellipsoid_m=frame[2],
    )


def axes(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Float64:
    """Rotation [3, 3] from turned axes to the ones turned from: z, then y, then x."""
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
    about_y = np.array(
        [[np.cos(pitch), 0, np.sin(pitch)], [0, 1.0, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
    )
    about_x = np.array(
        [[1.0, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]]
    )
    turned: Float64 = about_z @ about_y @ about_x
    return turned


def _angles(turned: Float64) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of `axes`; looking straight up or down, roll is 0."""
    level = float(np.hypot(turned[0, 0], turned[1, 0]))
    pitch = np.arctan2(-turned[2, 0], level)
    if level > 1e-9:
        yaw = np.arctan2(turned[1, 0], turned[0, 0])
        roll = np.arctan2(turned[2, 1], turned[2, 2])
    else:
        yaw, roll = np.arctan2(-turned[0, 1], turned[1, 1]), 0.0
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))
