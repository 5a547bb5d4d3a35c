"""A crossing of two roads with zebras, kerbs, traffic lights, a bus stop and parked cars.

People keep to the pavements and cross the roads on the zebras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skyreid.synth.furniture import (
    IRON,
    Spot,
    bollard,
    box,
    car,
    clear_of,
    lamp,
    planter,
    pole,
    tree,
    turned,
)
from skyreid.synth.plaza import (
    GROUND_TEXEL_M,
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
from skyreid.synth.surfaces import Mesh

EAST_WEST_M = (-2.0, 4.5)  # north of its middle, half its width
NORTH_SOUTH_M = (3.0, 3.5)  # east of its middle, half its width
_PAVEMENT_M = 3.0  # from the kerb to the middle of where people walk
_FACADES = ((158, 92, 74), (186, 170, 140), (112, 116, 122), (208, 202, 190), (96, 82, 78))
_CARS = (
    ((-16.0, 1.4), 0.0, (0.72, 0.74, 0.76)),
    ((-24.0, 1.4), 0.0, (0.10, 0.12, 0.15)),
    ((18.0, -5.4), np.pi, (0.55, 0.08, 0.10)),
    ((26.0, -5.4), np.pi, (0.12, 0.24, 0.42)),
    ((5.4, 18.0), np.pi / 2, (0.80, 0.78, 0.70)),
    ((0.6, -20.0), -np.pi / 2, (0.25, 0.32, 0.27)),
)


def build_street(seed: int, keep_clear: Sequence[Spot] = ()) -> Plaza:
    """Draw the crossing of a seed; nothing is put near the points `keep_clear` (east, north)."""
    rng = np.random.default_rng([seed, 31])
    ground = _paint_ground(rng)
    walls = paint_walls(rng, _FACADES, widths_m=(7, 15), heights_m=(14, 25))
    return assembled(ground, walls, _furnish(rng, keep_clear), _ways())


def _paint_ground(rng: np.random.Generator) -> Bytes:
    east, north = ground_axes()
    size = east.size
    clouds = cloudy(rng, size)
    slab = np.array([168, 164, 156], np.float32) + np.float32(rng.normal(0, 8))
    tones = rng.normal(0, 6, (256, 256)).astype(np.float32)
    cell = (np.arange(size) * GROUND_TEXEL_M / 0.3).astype(int) % 256
    base = (slab + tones[cell[:, None], cell[None, :]][..., None]).astype(np.float32)
    from_ew, from_ns = np.abs(north - EAST_WEST_M[0]), np.abs(east - NORTH_SOUTH_M[0])
    half_ew, half_ns = EAST_WEST_M[1], NORTH_SOUTH_M[1]
    kerb = (from_ew < half_ew + 0.25) | (from_ns < half_ns + 0.25)
    base[kerb] = (196, 194, 188)
    road = (from_ew < half_ew) | (from_ns < half_ns)
    asphalt = float(rng.uniform(58, 86))
    base[road] = (asphalt, asphalt + 1, asphalt + 4)
    # A red cycle lane along the northern kerb.
    lane = north - EAST_WEST_M[0]
    cycle = (lane > half_ew - 1.4) & (lane < half_ew - 0.2) & (from_ns > half_ns)
    base[np.broadcast_to(cycle, road.shape)] = (142, 74, 62)
    away = (from_ns > half_ns + 6) & (from_ew < 0.07) & ((east % 6) < 3)
    base[away] = 228
    away = (from_ew > half_ew + 6) & (from_ns < 0.07) & ((north % 6) < 3)
    base[away] = 228
    beside_ns = (from_ns > half_ns + 1) & (from_ns < half_ns + 5)
    base[beside_ns & (from_ew < half_ew) & ((north % 1.0) < 0.5)] = 222
    beside_ew = (from_ew > half_ew + 1) & (from_ew < half_ew + 5)
    base[beside_ew & (from_ns < half_ns) & ((east % 1.0) < 0.5)] = 222
    return weathered(rng, base, clouds)


def _furnish(rng: np.random.Generator, keep_clear: Sequence[Spot]) -> list[Mesh]:
    props: list[Mesh] = []
    west, east = NORTH_SOUTH_M[0] - NORTH_SOUTH_M[1], NORTH_SOUTH_M[0] + NORTH_SOUTH_M[1]
    south, north = EAST_WEST_M[0] - EAST_WEST_M[1], EAST_WEST_M[0] + EAST_WEST_M[1]
    for x in (west - 0.7, east + 0.7):
        for y in (south - 0.7, north + 0.7):
            props += _traffic_light(rng, x, y)
    kerbs = [
        (x, y) for x in (-29.0, -21.0, -13.0, 15.0, 23.0, 31.0) for y in (north + 1, south - 1)
    ]
    kerbs += [(x, y) for x in (west - 1, east + 1) for y in (-30.0, -22.0, 14.0, 22.0, 30.0)]
    for index, spot in enumerate(kerbs):
        if index % 3 == 1:
            if clear_of(spot, keep_clear, 5.5):
                props += lamp(rng, *spot)
        elif clear_of(spot, keep_clear, 4.0) and rng.random() < 0.75:
            props += tree(rng, *spot)
    for x in np.arange(-20.0, 0.0, 2.5):
        spot = (float(x), north + 0.6)
        if clear_of(spot, keep_clear, 3.0) and x < west - 6:
            props += bollard(rng, *spot)
    for spot in ((-11.0, 12.0), (17.0, 12.0), (-12.0, -16.5), (19.0, -16.5)):
        if clear_of(spot, keep_clear, 3.0):
            props += planter(rng, *spot)
    if clear_of((-24.0, 8.6), keep_clear, 4.0):
        props += _bus_stop(rng, -24.0, 8.6)
    for spot, heading, colour in _CARS:
        props += turned(car(rng, *spot, colour), spot, heading)
    return props


def _traffic_light(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    head = [box(rng, (east, north, 2.9), (0.14, 0.14, 0.42), (0.08, 0.10, 0.08))]
    return [pole(rng, (east, north), 0.06, 3.2, IRON), *head]


def _bus_stop(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    glass = (0.42, 0.50, 0.54)
    return [
        box(rng, (east, north, 2.35), (2.0, 0.75, 0.06), (0.25, 0.27, 0.30)),
        box(rng, (east, north + 0.7, 1.2), (1.9, 0.03, 1.0), glass),
        box(rng, (east - 1.9, north, 1.2), (0.03, 0.7, 1.0), glass),
        box(rng, (east, north + 0.4, 0.45), (1.2, 0.2, 0.04), (0.5, 0.2, 0.1)),
    ]


def _ways() -> tuple[Way, ...]:
    """The four pavements straight on, round every corner, and along the houses."""
    end = HALF_M - 0.7
    west = NORTH_SOUTH_M[0] - NORTH_SOUTH_M[1] - _PAVEMENT_M
    east = NORTH_SOUTH_M[0] + NORTH_SOUTH_M[1] + _PAVEMENT_M
    south = EAST_WEST_M[0] - EAST_WEST_M[1] - _PAVEMENT_M
    north = EAST_WEST_M[0] + EAST_WEST_M[1] + _PAVEMENT_M
    ways = []
    for y in (south, north):
        ways.append(Way(np.array([[-end, y], [(west + east) / 2, y], [end, y]]), 1.3))
    for x in (west, east):
        ways.append(Way(np.array([[x, -end], [x, (south + north) / 2], [x, end]]), 1.3))
        for y in (south, north):
            for far_x in (-end, end):
                for far_y in (-end, end):
                    ways.append(Way(np.array([[far_x, y], [x, y], [x, far_y]]), 1.3))
    for x, y in ((-27.0, 25.0), (-27.0, -27.0), (27.0, -27.0), (27.0, 25.0)):
        corners = np.array([[x, np.sign(y) * end], [x, y], [np.sign(x) * end, y]])
        ways.append(Way(corners, 1.5, rim=True))
    return tuple(ways)
