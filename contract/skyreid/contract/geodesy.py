"""The site frame on the earth: WGS 84 latitude, longitude, ellipsoid height to metres and back.

The site frame is the local tangent plane (east, north, up) at the site's origin. NIMA TR8350.2
(WGS 84); the inverse is Bowring's (Survey Review 23, 1976), good to less than a millimetre here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.site import Origin

Float64 = NDArray[np.float64]

_A = 6378137.0  # equatorial radius, metres
_F = 1 / 298.257223563
_B = _A * (1 - _F)
_E2 = _F * (2 - _F)
_E2_SECOND = _E2 / (1 - _E2)


def to_site(
    origin: Origin, latitude_deg: float, longitude_deg: float, ellipsoid_height_m: float
) -> Float64:
    """East, north, up [3] in metres of a point of the earth."""
    centre = _to_earth(origin.latitude_deg, origin.longitude_deg, origin.ellipsoid_height_m)
    point = _to_earth(latitude_deg, longitude_deg, ellipsoid_height_m)
    there: Float64 = _axes(origin) @ (point - centre)
    return there


def to_earth(origin: Origin, point_m: Float64) -> tuple[float, float, float]:
    """Latitude and longitude in degrees and ellipsoid height in metres of a site point [3]."""
    centre = _to_earth(origin.latitude_deg, origin.longitude_deg, origin.ellipsoid_height_m)
    x, y, z = centre + _axes(origin).T @ np.asarray(point_m, float)
    across = np.hypot(x, y)
    theta = np.arctan2(z * _A, across * _B)
    latitude = np.arctan2(
        z + _E2_SECOND * _B * np.sin(theta) ** 3, across - _E2 * _A * np.cos(theta) ** 3
    )
    radius = _A / np.sqrt(1 - _E2 * np.sin(latitude) ** 2)
    # Along the normal, from both coordinates: neither is ill-conditioned near a pole or the equator
    height = across * np.cos(latitude) + (z + _E2 * radius * np.sin(latitude)) * np.sin(latitude)
    return (
        float(np.degrees(latitude)),
        float(np.degrees(np.arctan2(y, x))),
        float(height - radius),
    )


def _to_earth(latitude_deg: float, longitude_deg: float, height_m: float) -> Float64:
    """Earth-centred, earth-fixed coordinates [3] in metres."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    radius = _A / np.sqrt(1 - _E2 * np.sin(latitude) ** 2)
    across = (radius + height_m) * np.cos(latitude)
    return np.array(
        [
            across * np.cos(longitude),
            across * np.sin(longitude),
            (radius * (1 - _E2) + height_m) * np.sin(latitude),
        ]
    )


def _axes(origin: Origin) -> Float64:
    """Rows east, north and up in earth-fixed axes, [3, 3]."""
    latitude, longitude = np.radians(origin.latitude_deg), np.radians(origin.longitude_deg)
    sin_lat, cos_lat = np.sin(latitude), np.cos(latitude)
    sin_lon, cos_lon = np.sin(longitude), np.cos(longitude)
    return np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )
