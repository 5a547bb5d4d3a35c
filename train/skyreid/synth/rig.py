"""The cameras around the plaza: five drones that fly and eight fixed street cameras.

Numbers follow CARGO (Zhang et al., View-decoupled Transformer for Person Re-identification under
Aerial-ground Camera Network, CVPR 2024): 1 to 5 are aerial, 6 to 13 ground.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skyreid.contract.camera import CameraModel
from skyreid.contract.sighting import View
from skyreid.synth.options import LAST_AERIAL_CAMERA, Altitude, FlightPath
from skyreid.synth.surfaces import TURN, Floats

_CRUISE_M_S = 4.0
_SWIFTEST_TURN_RAD_S = 0.3  # of an orbit, for a drone that looks almost straight down
_EDGE_M = 30.0  # a transit turns round here, before the facades


@dataclass(frozen=True)
class Station:
    """Where a camera is and looks. Yaw is counter-clockwise from east, pitch negative downwards."""

    position: tuple[float, float, float]
    yaw_deg: float
    pitch_deg: float
    fov_deg: float  # horizontal
    view: View


def view_of(camera: int) -> View:
    """Aerial or ground, by the camera's number."""
    return View.AERIAL if camera <= LAST_AERIAL_CAMERA else View.GROUND


def _hovering(
    height_m: float, pitch_deg: float, yaw_deg: float, target: tuple[float, float], fov_deg: float
) -> Station:
    """A drone that looks at a point of the ground (east, north)."""
    away = height_m / np.tan(np.radians(-pitch_deg))
    yaw = np.radians(yaw_deg)
    east, north = target[0] - away * np.cos(yaw), target[1] - away * np.sin(yaw)
    position = (float(east), float(north), height_m)
    return Station(position, yaw_deg, pitch_deg, fov_deg, View.AERIAL)


def _mounted(
    east: float, north: float, up: float, yaw_deg: float, pitch_deg: float, fov_deg: float
) -> Station:
    return Station((east, north, up), yaw_deg, pitch_deg, fov_deg, View.GROUND)


AERIAL: dict[Altitude, dict[int, tuple[float, float]]] = {
    "overhead": {1: (5, -45), 2: (7, -55), 3: (10, -65), 4: (16, -77), 5: (22, -88)},
    "low": {1: (9, -28), 2: (13, -38), 3: (18, -50), 4: (24, -62), 5: (33, -75)},
    "standard": {1: (15, -35), 2: (22, -50), 3: (30, -65), 4: (40, -75), 5: (55, -88)},
    "high": {1: (22, -45), 2: (33, -60), 3: (45, -72), 4: (60, -80), 5: (80, -89)},
    "highest": {1: (50, -60), 2: (65, -68), 3: (80, -75), 4: (100, -82), 5: (120, -89.9)},
}
"""Metres and degrees of pitch of each drone, from oblique to straight down; `overhead` is close."""

# yaw, where it looks, field of view
_AIMS = {
    1: (0.0, (0.0, 2.0), 55.0),
    2: (70.0, (3.0, -3.0), 55.0),
    3: (150.0, (-4.0, 1.0), 55.0),
    4: (250.0, (4.0, 4.0), 34.0),
    5: (310.0, (0.0, 0.0), 34.0),
}
_GROUND = {
    6: _mounted(-17, 1, 2.6, 0, -9, 60),
    7: _mounted(16, -3, 3.4, 172, -12, 62),
    8: _mounted(1, 18, 3.0, -92, -11, 58),
    9: _mounted(-3, -18, 2.2, 84, -6, 55),
    10: _mounted(-14, 12, 4.0, -42, -15, 65),
    11: _mounted(14, 12, 2.4, -138, -8, 60),
    12: _mounted(13, -13, 3.2, 133, -11, 60),
    13: _mounted(-13, -12, 2.0, 43, -5, 56),
}


def station(
    camera: int, seed: int = 0, jitter: float = 0.0, altitude: Altitude = "standard"
) -> Station:
    """A camera of the rig, or with `jitter` > 0 one like it at another site."""
    rng = np.random.default_rng([seed, camera, 71])
    spread = rng.normal(size=6) * jitter
    if camera in _AIMS:
        height_m, pitch = AERIAL[altitude][camera]
        yaw, target, fov = _AIMS[camera]
        return _hovering(
            height_m=height_m * float(np.exp(0.18 * spread[0])),
            pitch_deg=float(np.clip(pitch + 6 * spread[1], min(pitch, -89), -27)),
            yaw_deg=yaw + 60 * float(spread[2]),
            target=(target[0] + 2.5 * float(spread[3]), target[1] + 2.5 * float(spread[4])),
            fov_deg=fov * float(np.exp(0.1 * spread[5])),
        )
    base = _GROUND[camera]
    east, north, up = base.position
    return replace(
        base,
        position=(
            east + 1.2 * float(spread[0]),
            north + 1.2 * float(spread[1]),
            float(np.clip(up + 0.6 * spread[2], 1.7, 5.5)) if jitter else up,
        ),
        yaw_deg=base.yaw_deg + 7 * float(spread[3]),
        pitch_deg=base.pitch_deg + 2 * float(spread[4]),
        fov_deg=base.fov_deg * float(np.exp(0.1 * spread[5])),
    )


def place_in_air(model: CameraModel) -> dict[str, float]:
    """Height above the ground and pitch (negative downwards) as they stand in JSON files."""
    pitch_deg = float(np.degrees(np.arcsin(np.clip(model.rotation[2, 2], -1, 1))))
    return {"altitude_m": round(float(model.position[2]), 2), "pitch_deg": round(pitch_deg, 1)}


def facing_out(at: Station) -> Station:
    """A street camera turned to the houses behind it, away from what the drones look at."""
    if at.view is View.AERIAL:
        return at
    return replace(at, yaw_deg=at.yaw_deg + 180)


def flown(base: Station, camera: int, seed: int, time_s: float, path: FlightPath) -> Station:
    """The station at a moment: a drone flies its path and drifts, a street camera stays."""
    if base.view is View.GROUND:
        return base
    if path == "orbit":
        base = _orbiting(base, time_s)
    elif path == "transit":
        base = _crossing(base, camera, seed, time_s)
    return _drifting(base, camera, seed, time_s)


def _orbiting(base: Station, time_s: float) -> Station:
    """On a circle about the ground point in the middle of the picture, always looking at it."""
    away_m = base.position[2] / float(np.tan(np.radians(-base.pitch_deg)))
    yaw = float(np.radians(base.yaw_deg))
    east, north = base.position[0] + away_m * np.cos(yaw), base.position[1] + away_m * np.sin(yaw)
    yaw += min(_CRUISE_M_S / away_m, _SWIFTEST_TURN_RAD_S) * time_s
    place = (float(east - away_m * np.cos(yaw)), float(north - away_m * np.sin(yaw)))
    return replace(base, position=(*place, base.position[2]), yaw_deg=float(np.degrees(yaw)))


def _crossing(base: Station, camera: int, seed: int, time_s: float) -> Station:
    """To and fro on a straight line through the station, looking the same way."""
    rng = np.random.default_rng([seed, camera, 73])
    direction = rng.uniform(0, TURN)
    ray = np.array([np.cos(direction), np.sin(direction)])
    start = np.array(base.position[:2])
    # How far the line goes each way before it leaves the square; 0 where it is outside already.
    reach = [
        max(0.0, float(((np.sign(way) * _EDGE_M - start) / np.where(way == 0, 1e-9, way)).min()))
        for way in (ray, -ray)
    ]
    length = sum(reach)
    if length == 0:
        return base
    gone = (reach[1] + _CRUISE_M_S * time_s) % (2 * length)
    along = min(gone, 2 * length - gone) - reach[1]
    east, north = start + along * ray
    return replace(base, position=(float(east), float(north), base.position[2]))


def _drifting(base: Station, camera: int, seed: int, time_s: float) -> Station:
    """Wind and the autopilot: half a metre and a degree, slowly."""
    phase = np.random.default_rng([seed, camera, 72]).uniform(0, TURN, 5)
    east, north, up = base.position
    t = time_s
    return replace(
        base,
        position=(
            east + 0.5 * float(np.sin(0.50 * t + phase[0])),
            north + 0.4 * float(np.sin(0.37 * t + phase[1])),
            up + 0.25 * float(np.sin(0.60 * t + phase[2])),
        ),
        yaw_deg=base.yaw_deg + 1.2 * float(np.sin(0.43 * t + phase[3])),
        pitch_deg=max(-89.9, base.pitch_deg + 0.5 * float(np.sin(0.70 * t + phase[4]))),
    )


def model_of(at: Station, width_px: int, height_px: int) -> CameraModel:
    """The station as a pinhole with square pixels and a centred principal point."""
    yaw, pitch = np.radians(at.yaw_deg), np.radians(at.pitch_deg)
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    focal_px = width_px / 2 / np.tan(np.radians(at.fov_deg) / 2)
    matrix = np.array([[focal_px, 0, width_px / 2], [0, focal_px, height_px / 2], [0, 0, 1.0]])
    return CameraModel(matrix, rotation, -rotation @ np.array(at.position), width_px, height_px)


def window(
    camera: CameraModel, x0: float, y0: float, width: float, height: float, scale: float = 1.0
) -> CameraModel:
    """The camera that sees only a rectangle of the picture (pixels), `scale` times as large."""
    shift = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale], [0, 0, 1.0]])
    matrix: Floats = shift @ camera.matrix
    return CameraModel(
        matrix,
        camera.rotation,
        camera.translation,
        max(1, round(width * scale)),
        max(1, round(height * scale)),
    )
