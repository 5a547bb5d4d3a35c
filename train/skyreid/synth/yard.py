"""The yard of a school or an office: a lawn with gravel paths, and a car park to the south.

People keep to the paths, cross the car park between the rows and skirt the buildings.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from skyreid.synth.furniture import (
    IRON,
    Spot,
    bench,
    box,
    car,
    clear_of,
    lamp,
    pole,
    thing,
    tree,
    turned,
)
from skyreid.synth.plaza import (
    HALF_M,
    Plaza,
    Way,
    assembled,
    cloudy,
    ground_axes,
    paint_walls,
    weathered,
)
from skyreid.synth.shading import Bytes
from skyreid.synth.surfaces import Mesh, blob

CAR_PARK_NORTH_M = -6.0
_ROWS_M = (-10.5, -19.0, -24.0)  # north of the middle of a row of bays
_BAY_M = 2.7
_PATH_M = 1.7  # half the width
_FACADES = ((134, 70, 56), (148, 84, 66), (172, 172, 166), (122, 60, 50))
_PATHS = (  # ends of the gravel paths
    ((-36, 34), (22, -6)),
    ((36, 30), (-20, -6)),
    ((-36, 4), (36, 4)),
    ((0, 36), (0, -6)),
)
_PAINTS = (
    (0.72, 0.74, 0.76),
    (0.10, 0.11, 0.13),
    (0.50, 0.07, 0.09),
    (0.10, 0.20, 0.42),
    (0.86, 0.86, 0.84),
    (0.32, 0.34, 0.36),
    (0.45, 0.40, 0.30),
)


def build_yard(seed: int, keep_clear: Sequence[Spot] = ()) -> Plaza:
    """Draw the yard of a seed; nothing is put near the points `keep_clear` (east, north)."""
    rng = np.random.default_rng([seed, 32])
    ground = _paint_ground(rng)
    walls = paint_walls(rng, _FACADES, widths_m=(28, 60), heights_m=(7, 13), shops=False)
    return assembled(ground, walls, _furnish(rng, keep_clear), _ways())


def _paint_ground(rng: np.random.Generator) -> Bytes:
    east, north = ground_axes()
    size = east.size
    clouds = cloudy(rng, size)
    green = np.array([88, 112, 54], np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    base = np.empty((size, size, 3), np.float32)
    base[:] = green
    base += 11 * clouds[..., None]
    blades = rng.standard_normal((size, size), np.float32)
    base += 8 * cv2.GaussianBlur(blades, (0, 0), 0.8)[..., None]
    gravel = np.array([186, 172, 146], np.float32) + np.float32(rng.normal(0, 6))
    from_path = np.full((size, size), np.inf, np.float32)
    for (x0, y0), (x1, y1) in _PATHS:
        length = float(np.hypot(x1 - x0, y1 - y0))
        aside = np.abs((east - x0) * (y1 - y0) - (north - y0) * (x1 - x0)) / length
        from_path = np.minimum(from_path, aside)
    # The edge of a path is ragged.
    path = from_path + 0.12 * clouds < _PATH_M
    base[path] = gravel
    base[path] += 9 * blades[path][:, None]
    rim = np.maximum(np.abs(east), np.abs(north)) > 29
    base[rim & (north > CAR_PARK_NORTH_M)] = (160, 156, 150)
    park = np.broadcast_to(north < CAR_PARK_NORTH_M, (size, size))
    tarmac = float(rng.uniform(70, 98))
    base[park] = (tarmac, tarmac, tarmac + 3)
    base[np.broadcast_to(np.abs(north - CAR_PARK_NORTH_M) < 0.15, park.shape)] = (196, 194, 188)
    for row in _ROWS_M:
        bays = (np.abs(north - row) < 2.4) & (np.abs(east) < 29.8)
        base[bays & ((east + 29.7) % _BAY_M < 0.12)] = 226
    walk = (np.abs(north + 14.7) < 1.5) & (np.abs(east) < 29.8)
    base[np.broadcast_to(walk, park.shape)] *= np.array([1.25, 1.22, 0.95], np.float32)
    return weathered(rng, base, clouds)


def _furnish(rng: np.random.Generator, keep_clear: Sequence[Spot]) -> list[Mesh]:
    props: list[Mesh] = []
    for row in _ROWS_M:
        for bay in range(22):
            spot = (-29.7 + _BAY_M * (bay + 0.5), row + float(rng.normal(0, 0.15)))
            taken, colour = rng.random() < 0.5, _PAINTS[rng.integers(len(_PAINTS))]
            # Two gaps in every row let people through.
            if taken and bay not in (7, 14) and clear_of(spot, keep_clear, 4.0):
                heading = np.pi / 2 * float(rng.choice([-1, 1]))
                props += turned(car(rng, *spot, colour), spot, heading)
    for spot in (
        (-26, 14),
        (-10, 24),
        (10, 25),
        (25, 13),
        (-8, 9.5),
        (9, 9.5),
        (-26, -1),
        (26, -1),
    ):
        here = (spot[0] + float(rng.normal(0, 0.5)), spot[1] + float(rng.normal(0, 0.5)))
        if clear_of(here, keep_clear, 4.0):
            props += tree(rng, *here)
    for spot in ((-3.2, 16.5), (3.2, 20.5), (-13.0, 1.2), (12.0, 1.2)):
        if clear_of(spot, keep_clear, 3.0):
            props += bench(rng, *spot)
    for spot in ((-5.0, 28.0), (6.5, 1.0), (-21.0, 1.0), (21.0, 7.0)):
        if clear_of(spot, keep_clear, 5.5):
            props += lamp(rng, *spot)
    for west in (-28.0, -21.0, 15.0, 22.0):
        if clear_of((west + 2.5, -4.9), keep_clear, 4.0):
            props.append(_hedge(rng, west + 2.5, -4.9))
    if clear_of((15.0, 27.5), keep_clear, 4.0):
        props += _bicycles(rng, 15.0, 27.5)
    return props


def _hedge(rng: np.random.Generator, east: float, north: float) -> Mesh:
    grid = blob((east, north, 0.55), (2.5, 0.4, 0.55), 14, 40, power=5)
    return thing(rng, grid + rng.normal(0, 0.05, grid.shape), (0.16, 0.30, 0.13), 0.25)


def _bicycles(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    """Racks: hoops of steel, some with a frame leaning on them."""
    parts: list[Mesh] = []
    for index in range(6):
        x = east + 0.9 * index - 2.3
        parts.append(pole(rng, (x, north), 0.03, 0.85, IRON))
        if rng.random() < 0.7:
            colour = _PAINTS[rng.integers(len(_PAINTS))]
            parts.append(box(rng, (x + 0.15, north, 0.55), (0.03, 0.8, 0.28), colour))
    return parts


def _ways() -> tuple[Way, ...]:
    """The gravel paths, from the houses through the car park, its footway, and along the houses."""
    end = HALF_M - 0.7
    gaps = [-29.7 + _BAY_M * (bay + 0.5) for bay in (7, 14)]
    ways = [
        Way(np.array([[-end, 4.0], [0.0, 4.0], [end, 4.0]]), 1.2),
        Way(np.array([[-end, -14.7], [0.0, -14.7], [end, -14.7]]), 1.0),
    ]
    for gap in gaps:
        for path in (_PATHS[3], _PATHS[0] if gap < 0 else _PATHS[1]):
            down_to_gap = [_on(path, end), _on(path, 8.0), (gap, -3.0), (gap, -5.0), (gap, -end)]
            ways.append(Way(np.array(down_to_gap), 0.4))
    ways.append(Way(np.array([_on(_PATHS[0], 32.0), _on(_PATHS[0], 10.0), (34.0, 4.0)]), 0.9))
    ways.append(Way(np.array([_on(_PATHS[1], 28.0), _on(_PATHS[1], 10.0), (-34.0, 4.0)]), 0.9))
    for side in (-1, 1):
        corners = [(side * 31.5, end), (side * 31.5, 12.0), (side * 31.5, -end)]
        ways.append(Way(np.array(corners), 1.2, rim=True))
    ways.append(Way(np.array([[-end, 31.5], [0.0, 31.5], [end, 31.5]]), 1.2, rim=True))
    return tuple(ways)


def _on(path: tuple[Spot, Spot], north: float) -> Spot:
    """The point of a gravel path at a distance north of the middle."""
    (x0, y0), (x1, y1) = path
    part = (north - y0) / (y1 - y0)
    return x0 + part * (x1 - x0), north
