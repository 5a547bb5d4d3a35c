"""Lofted surfaces: everything in the world is a grid of points bent into a tube or a blob.

A grid is float64 [rows, columns, 3] in metres; it closes around its columns and is open at its
rows. Right-handed axes: x to the front of a body, y to its left, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from skyreid.synth.native import compiled

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int32]

TURN = 2 * np.pi


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: float64 [V, 3], metres.
        normals: float64 [V, 3], unit length.
        colours: float64 [V, 3], linear reflectance 0..1.
        faces: int32 [F, 3], indices of vertices.
        boxed: the first `boxed` vertices are what a bounding box must contain.
    """

    vertices: Floats
    normals: Floats
    colours: Floats
    faces: Ints
    boxed: int


@dataclass(frozen=True)
class Crowd:
    """Many meshes as one.

    `owner` [F] is the index of the mesh a face came from, `starts` [M] each mesh's first vertex.
    """

    vertices: Floats
    normals: Floats
    colours: Floats
    faces: Ints
    owner: Ints
    starts: Ints


def turn_about(axis: str, angle_rad: float) -> Floats:
    """Rotation matrix [3, 3] about the axis "x", "y" or "z"."""
    c, s = float(np.cos(angle_rad)), float(np.sin(angle_rad))
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis], dtype=np.float64)


@lru_cache(maxsize=128)
def _ring(columns: int, power: float) -> tuple[Floats, Floats]:
    return _superellipse(np.linspace(0, TURN, columns, endpoint=False), power)


def _superellipse(angles: Floats, power: float) -> tuple[Floats, Floats]:
    """Cosine and sine of a circle (power 2) pulled towards a square (power 4 and more)."""
    c, s, e = np.cos(angles), np.sin(angles), 2 / power
    return np.sign(c) * np.abs(c) ** e, np.sign(s) * np.abs(s) ** e


def tube(
    line: Floats, half_width: Floats, half_depth: Floats, columns: int, power: float = 2.0
) -> Floats:
    """Loft superellipses along a centre line [rows, 3], bottom to top.

    Column 0 looks to the front (x), a quarter of the way round is left (y).
    """
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    # The front is across the line and across the y axis; left is across both.
    front = np.stack([along[:, 2], np.zeros(len(along)), -along[:, 0]], 1)
    front /= np.sqrt((front**2).sum(1, keepdims=True)) + 1e-9
    (ax, ay, az), (fx, fy, fz) = along.T, front.T
    left = np.stack([ay * fz - az * fy, az * fx - ax * fz, ax * fy - ay * fx], 1)
    c, s = _ring(columns, power)
    forward = (half_depth[:, None] * c)[..., None] * front[:, None]
    sideways = (half_width[:, None] * s)[..., None] * left[:, None]
    grid: Floats = line[:, None] + forward + sideways
    return grid


def blob(
    centre: Sequence[float] | Floats,
    radii: Sequence[float] | Floats,
    rows: int = 16,
    columns: int = 24,
    power: float = 2.0,
    rotation: Floats | None = None,
) -> Floats:
    """A superellipsoid with radii to the front, to the side and up; power 9 is nearly a box."""
    cos_v, sin_v = _superellipse(np.linspace(-np.pi / 2, np.pi / 2, rows), power)
    cos_v = np.abs(cos_v)
    cos_u, sin_u = _ring(columns, power)
    grid = np.stack(
        [
            radii[0] * cos_v[:, None] * cos_u,
            radii[1] * cos_v[:, None] * sin_u,
            np.repeat(radii[2] * sin_v[:, None], columns, 1),
        ],
        -1,
    )
    if rotation is not None:
        grid = grid @ rotation.T
    moved: Floats = grid + np.asarray(centre, dtype=np.float64)
    return moved


def bent_line(low: Floats, joint: Floats, high: Floats, rows: int) -> Floats:
    """Centre line [rows, 3] of a limb from `low` over a rounded `joint` to `high`."""
    s = np.linspace(0, 1, rows)[:, None]
    width = 0.12  # how much of the limb the rounding takes on either side
    straight = np.where(
        s < 0.5, low + (joint - low) * s * 2, joint + (high - joint) * (s - 0.5) * 2
    )
    q = np.clip((s - 0.5 + width) / (2 * width), 0, 1)
    start, end = joint + (low - joint) * 2 * width, joint + (high - joint) * 2 * width
    curve = (1 - q) ** 2 * start + 2 * q * (1 - q) * joint + q**2 * end
    line: Floats = np.where(np.abs(s - 0.5) < width, curve, straight)
    return line


@lru_cache(maxsize=64)
def grid_coordinates(rows: int, columns: int) -> tuple[Floats, Floats]:
    """Height 0..1 (bottom to top) and angle -pi..pi (0 front, +pi/2 left), each [rows, columns]."""
    u = np.linspace(0, TURN, columns, endpoint=False)
    u = np.where(u > np.pi, u - TURN, u)
    v, angle = np.meshgrid(np.linspace(0, 1, rows), u, indexing="ij")
    return v, angle


@lru_cache(maxsize=2048)
def folds(rows: int, columns: int, seed: int, frequency: float, stretch: float = 2.0) -> Floats:
    """Smooth noise of about -1..1 on a grid, seamless around it: the creases of cloth."""
    v, u = grid_coordinates(rows, columns)
    return waves(v * stretch, np.cos(u), np.sin(u), seed, frequency)


def waves(a: Floats, b: Floats, c: Floats, seed: int, frequency: float) -> Floats:
    """A sum of six random plane waves over three coordinates."""
    rng = np.random.default_rng(seed)
    count = 6
    vectors = rng.normal(size=(count, 4)) * [frequency, frequency / 2, frequency / 2, 0]
    starts = rng.uniform(0, TURN, count)
    total = np.zeros(a.shape)
    for (ka, kb, kc, _), start in zip(vectors, starts, strict=True):
        total += np.sin(ka * a + kb * b + kc * c + start)
    return total / count


@lru_cache(maxsize=64)
def grid_faces(rows: int, columns: int) -> Ints:
    """Two triangles for every cell of a grid, int32 [F, 3]."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    triangles = [np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)]
    return np.concatenate(triangles).astype(np.int32)


def grid_normals(grid: Floats) -> Floats:
    """Unit normals [rows, columns, 3] that point outwards."""
    normals = np.empty(grid.shape)
    _fill_normals(np.ascontiguousarray(grid), normals)
    return normals


@compiled
def _fill_normals(grid: Floats, out: Floats) -> None:
    """Cross products of the differences across and up the grid."""
    rows, columns = grid.shape[:2]
    for i in range(rows):
        below, above = max(0, i - 1), min(rows - 1, i + 1)
        for j in range(columns):
            before, after = (j - 1) % columns, (j + 1) % columns
            ax = grid[i, after, 0] - grid[i, before, 0]
            ay = grid[i, after, 1] - grid[i, before, 1]
            az = grid[i, after, 2] - grid[i, before, 2]
            ux = grid[above, j, 0] - grid[below, j, 0]
            uy = grid[above, j, 1] - grid[below, j, 1]
            uz = grid[above, j, 2] - grid[below, j, 2]
            nx, ny, nz = ay * uz - az * uy, az * ux - ax * uz, ax * uy - ay * ux
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
            out[i, j, 0], out[i, j, 1], out[i, j, 2] = nx / length, ny / length, nz / length


def linear(colours: Floats) -> Floats:
    """Convert sRGB 0..1 to linear reflectance; nothing is perfectly black."""
    result: Floats = np.clip(colours, 0.02, 1) ** 2.2
    return result


def mesh_of_grids(grids: Sequence[Floats], colours: Floats, boxed_grids: int) -> Mesh:
    """One mesh out of grids; `colours` [V, 3] are linear; the first `boxed_grids` are boxed."""
    faces, offset, boxed = [], 0, 0
    for index, grid in enumerate(grids):
        rows, columns = grid.shape[:2]
        faces.append(grid_faces(rows, columns) + np.int32(offset))
        offset += rows * columns
        if index < boxed_grids:
            boxed = offset
    return Mesh(
        vertices=np.concatenate([grid.reshape(-1, 3) for grid in grids]),
        normals=np.concatenate([grid_normals(grid).reshape(-1, 3) for grid in grids]),
        colours=colours,
        faces=np.concatenate(faces),
        boxed=boxed,
    )


def placed(mesh: Mesh, east_m: float, north_m: float, heading_rad: float) -> Mesh:
    """The mesh turned to a heading (0 = east, counter-clockwise) and set down on the ground."""
    rotation = turn_about("z", heading_rad).T
    return Mesh(
        vertices=mesh.vertices @ rotation + [east_m, north_m, 0.0],
        normals=mesh.normals @ rotation,
        colours=mesh.colours,
        faces=mesh.faces,
        boxed=mesh.boxed,
    )


def gathered(meshes: Sequence[Mesh]) -> Crowd:
    """Many meshes as one, in the order given."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])[:-1].astype(np.int32)
    pairs = zip(meshes, offsets, strict=True)
    return Crowd(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        colours=np.concatenate([mesh.colours for mesh in meshes]),
        faces=np.concatenate([mesh.faces + offset for mesh, offset in pairs]),
        owner=np.repeat(
            np.arange(len(meshes), dtype=np.int32), [len(mesh.faces) for mesh in meshes]
        ),
        starts=offsets,
    )
