"""The place: a paved plaza of 72 x 72 m with a road, lawns, furniture and facades around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from skyreid.synth.furniture import furnish
from skyreid.synth.shading import Backdrop, Bytes, Picture
from skyreid.synth.surfaces import Floats, Mesh

HALF_M = 36.0
GROUND_TEXEL_M = 0.03
WALL_TEXEL_M = 0.08
WALL_HEIGHT_M = 26.0
ROAD_NORTH_M = -22.0  # the road runs east to west

FACADE_COLOURS = (
    (176, 150, 122),
    (140, 84, 68),
    (196, 190, 178),
    (120, 126, 134),
    (164, 160, 140),
    (90, 98, 110),
)
_LAWNS = ((-18, 14, 8, 5), (17, 13, 6, 7), (-20, -8, 5, 4), (22, -9, 4, 5))  # centre, radii, m


@dataclass(frozen=True)
class Way:
    """A line people follow from end to end, either way round.

    `corners` float64 [K, 2], east and north, end at the facades; walkers keep within `spread_m` of
    the line. `rim`: it keeps to the rim of the place.
    """

    corners: Floats
    spread_m: float
    rim: bool = False


@dataclass(frozen=True)
class Plaza:
    """The still part of the world.

    Attributes:
        backdrop: ground and walls.
        props: furniture meshes.
        middles: float64 [P, 2], east and north of each prop.
        footprints: float64 [K, 4], west, south, east, north of what a walker must walk around.
        ways: where people walk; empty where they cross as they like.
    """

    backdrop: Backdrop
    props: tuple[Mesh, ...]
    middles: Floats
    footprints: Floats
    ways: tuple[Way, ...] = ()

    def props_near(self, east_m: float, north_m: float, radius_m: float) -> list[Mesh]:
        """Props whose middle lies within `radius_m`."""
        away = np.hypot(self.middles[:, 0] - east_m, self.middles[:, 1] - north_m)
        return [self.props[i] for i in np.flatnonzero(away < radius_m)]

    def clearance(self, points: Floats) -> Floats:
        """Distance [N] in metres from points [N, 2] to the nearest footprint; 0 inside one."""
        low, high = self.footprints[:, :2], self.footprints[:, 2:]
        nearest = np.clip(points[:, None], low, high)
        away = np.linalg.norm(nearest - points[:, None], axis=2)
        closest: Floats = away.min(axis=1)
        return closest


def build_plaza(seed: int, keep_clear: Sequence[tuple[float, float]] = ()) -> Plaza:
    """Draw the plaza of a seed; nothing is put near the points `keep_clear` (east, north)."""
    rng = np.random.default_rng(seed)
    ground = _paint_ground(rng)
    walls = paint_walls(rng)
    return assembled(ground, walls, furnish(rng, keep_clear))


def assembled(
    ground: Bytes, walls: Bytes, props: Sequence[Mesh], ways: Sequence[Way] = ()
) -> Plaza:
    """A place out of its ground (wrapped, pixel 0 in the middle), strip of walls and furniture."""
    levels = [ground]
    for _ in range(3):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    backdrop = Backdrop(
        ground=(levels[0], levels[1], levels[2], levels[3]),
        ground_texel_m=GROUND_TEXEL_M,
        walls=walls,
        wall_texel_m=WALL_TEXEL_M,
        half_m=HALF_M,
    )
    middles = np.array([prop.vertices[:, :2].mean(0) for prop in props])
    in_the_way = [prop.vertices for prop in props if prop.vertices[:, 2].min() < 1.9]
    footprints = np.array([[*v[:, :2].min(0), *v[:, :2].max(0)] for v in in_the_way])
    return Plaza(backdrop, tuple(props), middles, footprints, tuple(ways))


def ground_axes() -> tuple[Picture, Picture]:
    """East [1, N] and north [N, 1] of the ground's texels; pixel 0 is the middle, it wraps."""
    size = int(2 * HALF_M / GROUND_TEXEL_M)
    axis = (np.arange(size, dtype=np.float32) * GROUND_TEXEL_M + HALF_M) % (2 * HALF_M) - HALF_M
    return axis[None, :], axis[:, None]


def cloudy(rng: np.random.Generator, size: int) -> Picture:
    """Value noise of several octaves, float32 [size, size], mean 0 and deviation 1."""
    total = np.zeros((size, size), np.float32)
    for cells in (8, 16, 32, 64, 128, 256):
        grid = np.pad(rng.random((cells, cells), np.float32), ((0, 1), (0, 1)), mode="wrap")
        grown = cv2.resize(grid, (size + size // cells,) * 2, interpolation=cv2.INTER_LINEAR)
        total += grown[:size, :size] / np.float32(cells**0.55)
    centred: Picture = (total - total.mean()) / total.std()
    return centred


def _paint_ground(rng: np.random.Generator) -> Bytes:
    """Slabs, brick rings, road with zebra crossing, lawns, dirt and stains, RGB.

    Pixel 0 is the middle of the plaza and the texture wraps around.
    """
    size = int(2 * HALF_M / GROUND_TEXEL_M)
    east, north = ground_axes()
    clouds = cloudy(rng, size)
    warmth = rng.normal(0, 6, 3)
    paving = np.array([150, 144, 135]) + rng.normal(0, 9) + warmth
    slab_m = float(rng.choice([0.4, 0.6, 0.6, 0.9]))

    tones = rng.normal(0, 7, (256, 256)).astype(np.float32)
    columns = (np.arange(size) * GROUND_TEXEL_M / slab_m).astype(int) % 256
    tone = tones[columns[:, None], columns[None, :]]
    base: Picture = (paving.astype(np.float32) + tone[..., None]).astype(np.float32)
    joint = (np.arange(size) * GROUND_TEXEL_M % slab_m) < GROUND_TEXEL_M
    base[joint, :] *= 0.78
    base[:, joint] *= 0.78
    ring_m = float(rng.uniform(7, 11))
    rings = (np.hypot(east, north) % ring_m) < 1.2
    base[rings] *= np.array([0.86, 0.72, 0.64], np.float32)

    from_road = np.abs(north - ROAD_NORTH_M)
    road = np.broadcast_to(from_road < 5, (size, size))
    base[road] = (78, 79, 82)
    base[(from_road < 0.09) & ((east % 5) < 2.6)] = 225
    base[road & (np.abs(east - 4) < 2.2) & ((north % 1.0) < 0.5)] = 215
    for x, y, radius_x, radius_y in _LAWNS:
        shape = ((east - x) / radius_x) ** 4 + ((north - y) / radius_y) ** 4 + 0.12 * clouds
        lawn = shape < 1
        base[lawn] = (82, 108, 52)
        base[(shape >= 1) & (shape < 1.12)] = (178, 172, 160)
        base[lawn] += 9 * clouds[lawn][:, None]
    return weathered(rng, base, clouds)


def weathered(rng: np.random.Generator, base: Picture, clouds: Picture) -> Bytes:
    """The painted ground [N, N, 3] with dirt, grain and stains; changes `base`."""
    size = len(base)
    fine = rng.standard_normal((size // 2, size // 2), np.float32)
    fine = np.tile(fine, (2, 2))
    base += (6 * clouds + 5 * fine)[..., None]
    for _ in range(60):  # stains
        middle = tuple(int(q) for q in rng.integers(0, size, 2))
        radii = (int(rng.integers(4, 26)), int(rng.integers(4, 20)))
        stain = float(rng.uniform(60, 125))
        cv2.ellipse(base, middle, radii, 0, 0, 360, (stain, stain, stain), -1)
    return np.clip(base, 0, 255).astype(np.uint8)


def paint_walls(
    rng: np.random.Generator,
    colours: Sequence[tuple[int, int, int]] = FACADE_COLOURS,
    widths_m: tuple[float, float] = (9, 22),
    heights_m: tuple[float, float] = (9, 24),
    shops: bool = True,
) -> Bytes:
    """The sky and a row of houses on a strip around the place, RGB.

    The strip runs east wall, north wall, west wall, south wall; see `shading.shade`.
    """
    width = int(8 * HALF_M / WALL_TEXEL_M)
    height = int(WALL_HEIGHT_M / WALL_TEXEL_M)
    down = np.linspace(0, 1, height)[:, None, None]
    strip = np.empty((height, width, 3), np.float32)
    strip[:] = down * np.array([205, 222, 238]) + (1 - down) * np.array([120, 165, 220])
    column = 0
    while column < width:
        house_width = int(rng.uniform(*widths_m) / WALL_TEXEL_M)
        house_height = int(rng.uniform(*heights_m) / WALL_TEXEL_M)
        front = strip[height - house_height :, column : column + house_width]
        _paint_house(rng, front, colours, shops)
        column += house_width
    grain = rng.standard_normal((height, 512, 1), np.float32) * 4
    repeats = width // 512 + 1
    noisy = strip + np.tile(grain, (1, repeats, 1))[:, :width]
    walls: Bytes = np.clip(noisy, 0, 255).astype(np.uint8)
    return walls


def _paint_house(
    rng: np.random.Generator,
    front: Picture,
    colours: Sequence[tuple[int, int, int]],
    shops: bool,
) -> None:
    """One facade with rows of windows, and shops at street level, in place."""

    def texels(metres: float) -> int:
        return int(metres / WALL_TEXEL_M)

    plaster = np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.8, 1.1)
    front[:] = plaster
    window_width, window_height = texels(rng.uniform(1.0, 1.8)), texels(rng.uniform(1.2, 2.0))
    every_x, every_y = texels(rng.uniform(2.2, 3.4)), texels(rng.uniform(3.0, 3.6))
    rows, columns = front.shape[:2]
    for y in range(texels(0.8), rows - texels(4), every_y):
        for x in range(every_x // 3, columns - window_width, every_x):
            glass = np.array([58, 68, 80]) * rng.uniform(0.6, 1.5)
            front[y : y + window_height, x : x + window_width] = glass
            front[y + window_height : y + window_height + 2, x : x + window_width] = plaster * 1.2
    if not shops:
        return
    street = texels(3.2)
    front[-street:] = plaster * 0.7
    for x in range(every_x // 4, columns - every_x, every_x + 12):
        front[-street + 6 : -4, x : x + every_x - 6] = rng.uniform(40, 190, 3)
