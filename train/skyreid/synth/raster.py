"""Triangles to pixels: a z-buffer rasteriser compiled by numba, and the sun's shadow map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from skyreid.contract.camera import CameraModel
from skyreid.synth.native import compiled
from skyreid.synth.surfaces import Floats, Ints

Keys: TypeAlias = npt.NDArray[np.float32]

SUN_HEIGHT_M = 100.0  # added to depths along the sun's ray, so that all are positive


@dataclass(frozen=True)
class Light:
    """A sun and a sky, in linear colours; azimuth is counter-clockwise from east."""

    azimuth_deg: float
    elevation_deg: float
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]

    @property
    def axes(self) -> Floats:
        """Rows [3, 3]: two axes across the sun's rays, and the direction towards the sun."""
        a, e = np.radians(self.azimuth_deg), np.radians(self.elevation_deg)
        to_sun = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        across = np.cross([0.0, 0.0, 1.0], to_sun)
        across /= np.linalg.norm(across)
        return np.stack([across, np.cross(to_sun, across), to_sun])


@dataclass(frozen=True)
class Shadow:
    """Depth seen from the sun over a square of the ground, float32 [size, size]."""

    depth: Keys
    low_u: float
    low_v: float
    texels_per_m: float


@dataclass
class Buffers:
    """What the rasteriser writes: depth key, face index (-1 = none), two barycentrics per pixel."""

    key: Keys
    face: Ints
    weight: npt.NDArray[np.float32]

    def copy(self) -> Buffers:
        """An independent copy to draw on."""
        return Buffers(self.key.copy(), self.face.copy(), self.weight.copy())


def empty_buffers(width_px: int, height_px: int) -> Buffers:
    """Nothing drawn yet."""
    return Buffers(
        np.zeros((height_px, width_px), np.float32),
        np.full((height_px, width_px), -1, np.int32),
        np.zeros((height_px, width_px, 2), np.float32),
    )


def on_screen(camera: CameraModel, points: Floats) -> Floats:
    """Site points [N, 3] -> column, row and depth key [N, 3].

    The key is 1/depth: linear on the screen, larger is nearer, -1 behind the camera.
    """
    screen = np.empty((len(points), 3))
    onto = np.ascontiguousarray(camera.matrix @ camera.rotation)
    fill_screen(points, onto, camera.matrix @ camera.translation, screen)
    return screen


def draw(buffers: Buffers, screen: Floats, faces: Ints, first_face: int = 0) -> None:
    """Draw the faces from `first_face` on into the buffers; nearer wins."""
    fill_triangles(screen, faces, buffers.key, buffers.face, buffers.weight, first_face)


def box_on_screen(screen: Floats) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 in pixels around points from `on_screen`; None if one is behind the camera."""
    x0, y0, x1, y1, farthest = extent(screen)
    return None if farthest <= 0 else (x0, y0, x1, y1)


def covered_pixels(screen: Floats, faces: Ints) -> int:
    """How many pixels a mesh covers when nothing stands before it, the picture's edge included."""
    box = box_on_screen(screen)
    if box is None:
        return 0
    left, top = int(np.floor(box[0])), int(np.floor(box[1]))
    width, height = int(np.ceil(box[2])) - left, int(np.ceil(box[3])) - top
    covered = np.zeros((max(1, height), max(1, width)), np.bool_)
    return cover(screen, faces, left, top, covered)


def cast_shadow(
    light: Light,
    vertices: Floats,
    faces: Ints,
    centre: tuple[float, float],
    radius_m: float,
    size: int,
    base: Shadow | None = None,
    first_face: int = 0,
) -> Shadow:
    """Shadow map around `centre` (east, north).

    `base` holds the faces before `first_face`, which did not move, from an earlier call with the
    same light, centre, radius and size.
    """
    axes = light.axes
    middle = axes @ np.array([*centre, 0.8])
    scale = size / (2 * radius_m)
    low_u, low_v = float(middle[0]) - radius_m, float(middle[1]) - radius_m
    seen = vertices @ axes.T
    screen = np.stack(
        [(seen[:, 0] - low_u) * scale, (seen[:, 1] - low_v) * scale, seen[:, 2] + SUN_HEIGHT_M], 1
    )
    buffers = empty_buffers(size, size)
    if base is not None:
        buffers.key[:] = base.depth
    draw(buffers, screen, faces, first_face)
    return Shadow(buffers.key, low_u, low_v, scale)


@compiled
def extent(screen: Floats) -> tuple[float, float, float, float, float]:
    """Smallest and largest column and row, and the smallest key, of points [N, 3]."""
    x0, y0, x1, y1, farthest = np.inf, np.inf, -np.inf, -np.inf, np.inf
    for i in range(screen.shape[0]):
        x0, x1 = min(x0, screen[i, 0]), max(x1, screen[i, 0])
        y0, y1 = min(y0, screen[i, 1]), max(y1, screen[i, 1])
        farthest = min(farthest, screen[i, 2])
    return x0, y0, x1, y1, farthest


@compiled
def fill_screen(points: Floats, onto: Floats, shift: Floats, screen: Floats) -> None:
    """Project points [N, 3] by the 3 x 4 matrix [onto | shift]; see `on_screen`."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        depth = onto[2, 0] * x + onto[2, 1] * y + onto[2, 2] * z + shift[2]
        ahead = depth > 0.1
        inverse = 1.0 / (depth if abs(depth) > 1e-9 else 1e-9)
        screen[i, 0] = (onto[0, 0] * x + onto[0, 1] * y + onto[0, 2] * z + shift[0]) * inverse
        screen[i, 1] = (onto[1, 0] * x + onto[1, 1] * y + onto[1, 2] * z + shift[1]) * inverse
        screen[i, 2] = inverse if ahead else -1.0


@compiled
def cover(screen: Floats, faces: Ints, left: int, top: int, covered: npt.NDArray[np.bool_]) -> int:
    """Mark the pixels whose centre lies in a triangle, and count them."""
    height, width = covered.shape
    count = 0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if screen[a, 2] <= 0 or screen[b, 2] <= 0 or screen[c, 2] <= 0:
            continue
        ax, ay = screen[a, 0] - left, screen[a, 1] - top
        bx, by = screen[b, 0] - left, screen[b, 1] - top
        cx, cy = screen[c, 0] - left, screen[c, 1] - top
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        inverse = 1.0 / area
        first_row = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        last_row = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        first = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        last = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        for y in range(first_row, last_row + 1):
            py = y + 0.5
            for x in range(first, last + 1):
                if covered[y, x]:
                    continue
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                if wa >= 0 and wb >= 0 and wa + wb <= 1:
                    covered[y, x] = True
                    count += 1
    return count


@compiled
def fill_triangles(
    screen: Floats,
    faces: Ints,
    key: Keys,
    face: Ints,
    weight: npt.NDArray[np.float32],
    first_face: int,
) -> None:
    """The inner loop: every pixel centre inside a triangle, unless something nearer is there."""
    height, width = key.shape
    for f in range(first_face, faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        key_a, key_b, key_c = screen[a, 2], screen[b, 2], screen[c, 2]
        if key_a <= 0 or key_b <= 0 or key_c <= 0:
            continue
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        x0, x1 = min(ax, bx, cx), max(ax, bx, cx)
        y0, y1 = min(ay, by, cy), max(ay, by, cy)
        if x1 < 0 or y1 < 0 or x0 >= width or y0 >= height:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        inverse = 1.0 / area
        first_row, last_row = (
            max(0, int(np.ceil(y0 - 0.5))),
            min(height - 1, int(np.floor(y1 - 0.5))),
        )
        first, last = max(0, int(np.ceil(x0 - 0.5))), min(width - 1, int(np.floor(x1 - 0.5)))
        for y in range(first_row, last_row + 1):
            py = y + 0.5
            for x in range(first, last + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                if wa < 0:
                    continue
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                if wb < 0 or wa + wb > 1:
                    continue
                here = wa * key_a + wb * key_b + (1 - wa - wb) * key_c
                if here > key[y, x]:
                    key[y, x] = here
                    face[y, x] = f
                    weight[y, x, 0] = wa
                    weight[y, x, 1] = wb
