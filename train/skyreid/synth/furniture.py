"""What stands about: trees, benches, bollards, lamps, planters and parked cars.

A builder takes a generator and a place (east, north) and gives meshes in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skyreid.synth.surfaces import (
    Floats,
    Mesh,
    blob,
    grid_faces,
    grid_normals,
    linear,
    tube,
    turn_about,
)

Colour = tuple[float, float, float]
Spot = tuple[float, float]

TREES: tuple[Spot, ...] = (
    (-14, 15),
    (-21, 12),
    (15, 15),
    (19, 10),
    (-21, -8),
    (22, -9),
    (-6, 20),
    (6, 21),
    (-28, 2),
    (28, 3),
)
BENCHES: tuple[Spot, ...] = ((-8, 9), (-3, 9), (8, 8), (-11, -5), (11, -4), (3, -9))
LAMPS: tuple[Spot, ...] = ((-12, 2), (12, 3), (0, 15), (-4, -13), (16, -13))
PLANTERS: tuple[Spot, ...] = ((-6, 3), (6, -3), (7, 13), (-13, -11))
BOLLARDS: tuple[Spot, ...] = tuple((float(east), -16.0) for east in range(-16, 20, 4))
CARS: tuple[tuple[Spot, Colour], ...] = (
    ((-12, -20.4), (0.65, 0.10, 0.10)),
    ((-4, -23.6), (0.85, 0.85, 0.86)),
    ((12, -20.4), (0.15, 0.20, 0.35)),
    ((20, -23.6), (0.30, 0.32, 0.34)),
)

WOOD: Colour = (0.45, 0.30, 0.18)
BARK: Colour = (0.30, 0.22, 0.15)
IRON: Colour = (0.20, 0.20, 0.22)
LEAVES: Colour = (0.22, 0.40, 0.18)

KEEP_CLEAR_M = 3.0
KEEP_CLEAR_OF_LAMPS_M = 5.5  # a pole hides much of a picture


def furnish(rng: np.random.Generator, keep_clear: Sequence[Spot]) -> list[Mesh]:
    """All furniture, a little displaced by the seed; none close to the points `keep_clear`."""
    props: list[Mesh] = []

    def near(spot: Spot, spread_m: float, clear_m: float) -> Spot | None:
        """Where the thing stands in this world, or None where a camera needs the place."""
        east, north = (float(q) for q in np.array(spot) + rng.normal(0, spread_m, 2))
        for other in keep_clear:
            if np.hypot(east - other[0], north - other[1]) < clear_m:
                return None
        return east, north

    builders = [
        (TREES, 0.8, KEEP_CLEAR_M, tree),
        (BENCHES, 0.8, KEEP_CLEAR_M, bench),
        (LAMPS, 0.5, KEEP_CLEAR_OF_LAMPS_M, lamp),
        (PLANTERS, 0.6, KEEP_CLEAR_M, planter),
        (BOLLARDS, 0.0, KEEP_CLEAR_M, bollard),
    ]
    for spots, spread_m, clear_m, build in builders:
        for spot in spots:
            standing = near(spot, spread_m, clear_m)
            if standing is not None:
                props += build(rng, *standing)
    for spot, colour in CARS:
        east, north = spot[0] + float(rng.normal(0, 1.5)), spot[1]
        props += car(rng, east, north, colour)
    return props


def turned(meshes: Sequence[Mesh], spot: Spot, angle_rad: float) -> list[Mesh]:
    """Meshes turned about the vertical through `spot`, counter-clockwise."""
    rotation = turn_about("z", angle_rad).T
    middle = np.array([*spot, 0.0])
    return [
        replace(
            mesh,
            vertices=(mesh.vertices - middle) @ rotation + middle,
            normals=mesh.normals @ rotation,
        )
        for mesh in meshes
    ]


def clear_of(spot: Spot, keep_clear: Sequence[Spot], clear_m: float) -> bool:
    """Whether a spot is so far from all others."""
    return all(np.hypot(spot[0] - x, spot[1] - y) >= clear_m for x, y in keep_clear)


def thing(rng: np.random.Generator, grid: Floats, colour: Colour, grain: float) -> Mesh:
    """A grid as a mesh of one colour; `grain` is the deviation of its shades."""
    rows, columns = grid.shape[:2]
    shades = 1 + grain * rng.normal(size=(rows * columns, 1))
    return Mesh(
        vertices=grid.reshape(-1, 3),
        normals=grid_normals(grid).reshape(-1, 3),
        colours=linear(np.asarray(colour) * shades),
        faces=grid_faces(rows, columns),
        boxed=rows * columns,
    )


def pole(
    rng: np.random.Generator, spot: Spot, radius_m: float, height_m: float, colour: Colour
) -> Mesh:
    """A round pole."""
    line = np.array([[*spot, z] for z in np.linspace(0, height_m, 8)])
    radius = np.full(8, radius_m)
    return thing(rng, tube(line, radius, radius, 12), colour, 0.06)


def box(
    rng: np.random.Generator, centre: Sequence[float], radii: Sequence[float], c: Colour
) -> Mesh:
    """A box with slightly rounded edges, by its middle and half sides."""
    return thing(rng, blob(centre, radii, 14, 32, power=9), c, 0.02)


def tree(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    """A trunk and a crown that hides who walks beneath from the air."""
    parts = [pole(rng, (east, north), 0.16, 3.2, BARK)]
    for _ in range(9):
        centre = np.array([east, north, 4.3]) + rng.normal(0, 0.8, 3)
        crown = blob(centre, rng.uniform(0.8, 1.5, 3), 14, 20)
        leaves = (0.20 + rng.uniform(0, 0.12), 0.36 + rng.uniform(0, 0.1), 0.14)
        parts.append(thing(rng, crown + rng.normal(0, 0.08, crown.shape), leaves, 0.22))
    return parts


def bench(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    """A bench that looks south."""
    return [
        box(rng, (east, north, 0.45), (0.9, 0.22, 0.04), WOOD),
        box(rng, (east, north + 0.2, 0.72), (0.9, 0.03, 0.16), WOOD),
        box(rng, (east - 0.7, north, 0.22), (0.05, 0.18, 0.22), IRON),
        box(rng, (east + 0.7, north, 0.22), (0.05, 0.18, 0.22), IRON),
    ]


def lamp(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    """A street lamp."""
    globe = blob((east, north, 5.6), (0.28, 0.28, 0.2))
    mast = pole(rng, (east, north), 0.07, 5.5, (0.18, 0.2, 0.2))
    return [mast, thing(rng, globe, (0.9, 0.9, 0.85), 0.06)]


def planter(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    """A box with a bush."""
    bush = blob((east, north, 0.8), (0.62, 0.62, 0.45))
    return [
        box(rng, (east, north, 0.3), (0.65, 0.65, 0.3), (0.62, 0.60, 0.56)),
        thing(rng, bush + rng.normal(0, 0.05, bush.shape), LEAVES, 0.25),
    ]


def bollard(rng: np.random.Generator, east: float, north: float) -> list[Mesh]:
    """A bollard."""
    return [pole(rng, (east, north), 0.09, 0.95, IRON)]


def car(rng: np.random.Generator, east: float, north: float, colour: Colour) -> list[Mesh]:
    """A car that heads east."""
    parts = [
        box(rng, (east, north, 0.62), (2.15, 0.86, 0.36), colour),
        box(rng, (east - 0.15, north, 1.15), (1.15, 0.76, 0.32), (0.12, 0.14, 0.17)),
    ]
    for x in (-1.3, 1.3):
        for y in (-0.8, 0.8):
            wheel = (east + x, north + y, 0.32)
            parts.append(box(rng, wheel, (0.32, 0.12, 0.32), (0.05, 0.05, 0.05)))
    return parts
