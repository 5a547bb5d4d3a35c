"""Light on pixels: sun with soft-edged shadow, sky, textured ground, facades behind it all."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from skyreid.contract.camera import CameraModel
from skyreid.synth.native import compiled
from skyreid.synth.raster import (
    SUN_HEIGHT_M,
    Buffers,
    Keys,
    Light,
    Shadow,
    draw,
    empty_buffers,
    on_screen,
)
from skyreid.synth.surfaces import Crowd, Floats, Ints

Bytes = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Backdrop:
    """Ground and walls, as sRGB textures uint8 [rows, columns, 3].

    The ground comes in four sizes, each half of the one before; it repeats beyond its edge. The
    walls are one strip around a square of `half_m`.
    """

    ground: tuple[Bytes, Bytes, Bytes, Bytes]
    ground_texel_m: float
    walls: Bytes
    wall_texel_m: float
    half_m: float


@dataclass(frozen=True)
class StillView:
    """What a camera that does not move sees of the faces that do not move.

    `texels` int32 [H, W] are the texels of the shadow map that the pixels look up, -1 for none.
    """

    buffers: Buffers
    picture: Picture
    texels: Ints
    shadow: Shadow
    first_moving_face: int


def still_view(
    camera: CameraModel, backdrop: Backdrop, still: Crowd, light: Light, shadow: Shadow
) -> StillView:
    """Draw the faces that do not move, with the shadow they cast, once for all frames."""
    buffers = empty_buffers(camera.width_px, camera.height_px)
    screen = on_screen(camera, still.vertices)
    draw(buffers, screen, still.faces)
    todo = np.ones(buffers.face.shape, np.bool_)
    picture = np.empty((*buffers.face.shape, 3), np.float32)
    texels = _shade(picture, buffers, camera, screen, backdrop, still, light, shadow, todo)
    return StillView(buffers, picture, texels, shadow, len(still.faces))


def render(
    camera: CameraModel,
    screen: Floats,
    backdrop: Backdrop,
    crowd: Crowd,
    light: Light,
    shadow: Shadow,
    still: StillView | None = None,
) -> tuple[Picture, Ints]:
    """Draw the world as a camera sees it.

    Args:
        camera: which.
        screen: the crowd's vertices by `on_screen` of that camera, [V, 3].
        backdrop: behind and below the crowd.
        crowd: all meshes.
        light: sun and sky.
        shadow: cast by the crowd.
        still: the first meshes of the crowd as the same camera saw them before, for a fixed camera.
            Only what has changed is shaded again.

    Returns:
        linear radiance float32 [H, W, 3], RGB, and the mesh index of every pixel int32 [H, W],
        -1 = backdrop.
    """
    if still is None:
        buffers = empty_buffers(camera.width_px, camera.height_px)
        draw(buffers, screen, crowd.faces)
        todo = np.ones(buffers.face.shape, np.bool_)
        picture = np.empty((*buffers.face.shape, 3), np.float32)
    else:
        buffers = still.buffers.copy()
        draw(buffers, screen, crowd.faces, still.first_moving_face)
        moved = (shadow.depth != still.shadow.depth).astype(np.uint8)
        moved = cv2.dilate(moved, np.ones((3, 3), np.uint8))  # a pixel looks up 3 x 3 texels
        todo = (buffers.face >= still.first_moving_face) | (moved.ravel()[still.texels] > 0)
        picture = still.picture.copy()
    _shade(picture, buffers, camera, screen, backdrop, crowd, light, shadow, todo)
    owner = np.empty(buffers.face.shape, np.int32)
    fill_owner(buffers.face, crowd.owner, owner)
    return picture, owner


def _shade(
    picture: Picture,
    buffers: Buffers,
    camera: CameraModel,
    screen: Floats,
    backdrop: Backdrop,
    crowd: Crowd,
    light: Light,
    shadow: Shadow,
    todo: Mask,
) -> Ints:
    """Call `shade` with plain arrays and numbers; returns the texels looked up."""
    texels = np.full(buffers.face.shape, -1, np.int32)
    shade(
        picture,
        texels,
        todo,
        buffers.key,
        buffers.face,
        buffers.weight,
        screen,
        crowd.vertices,
        crowd.normals,
        crowd.colours,
        crowd.faces,
        camera.rotation,
        camera.position,
        float(camera.matrix[0, 0]),
        float(camera.matrix[0, 2]),
        float(camera.matrix[1, 2]),
        light.axes,
        shadow.depth,
        shadow.low_u,
        shadow.low_v,
        shadow.texels_per_m,
        np.array(light.sun, dtype=np.float64),
        np.array(light.sky, dtype=np.float64),
        *backdrop.ground,
        backdrop.ground_texel_m,
        backdrop.walls,
        backdrop.half_m,
        backdrop.wall_texel_m,
    )
    return texels


@compiled
def fill_owner(face: Ints, mesh_of_face: Ints, out: Ints) -> None:
    """The mesh index of every pixel, -1 where no face was drawn."""
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            f = face[y, x]
            out[y, x] = mesh_of_face[f] if f >= 0 else -1


@compiled
def _texture(texture: Bytes, x: float, y: float, out: Floats) -> None:
    """Bilinear sample of a repeating texture, 0..1."""
    height, width = texture.shape[0], texture.shape[1]
    column, row = int(np.floor(x)), int(np.floor(y))
    ax, ay = x - column, y - row
    x0, y0 = column % width, row % height
    x1, y1 = x0 + 1, y0 + 1
    if x1 == width:
        x1 = 0
    if y1 == height:
        y1 = 0
    for k in range(3):
        above = texture[y0, x0, k] * (1 - ax) + texture[y0, x1, k] * ax
        below = texture[y1, x0, k] * (1 - ax) + texture[y1, x1, k] * ax
        out[k] = (above * (1 - ay) + below * ay) / 255.0


@compiled
def _texel(point: Floats, axes: Floats, low_u: float, low_v: float, scale: float, size: int) -> int:
    """Index of the texel of the shadow map over a point, -1 at its border and outside."""
    u = (point[0] * axes[0, 0] + point[1] * axes[0, 1] + point[2] * axes[0, 2] - low_u) * scale
    v = (point[0] * axes[1, 0] + point[1] * axes[1, 1] + point[2] * axes[1, 2] - low_v) * scale
    row, column = int(np.floor(v)), int(np.floor(u))
    if row < 1 or column < 1 or row >= size - 1 or column >= size - 1:
        return -1
    return row * size + column


@compiled
def _sunlit(point: Floats, axes: Floats, depth: Keys, texel: int, bias: float) -> float:
    """Part of the sun that reaches a point: closer or not, over 3 x 3 texels; 1 outside the map."""
    if texel < 0:
        return 1.0
    row, column = texel // depth.shape[0], texel % depth.shape[0]
    mine = point[0] * axes[2, 0] + point[1] * axes[2, 1] + point[2] * axes[2, 2]
    mine += SUN_HEIGHT_M + bias
    # Where the corners agree, so does nearly always what lies between them.
    corners = 0
    for i in range(row - 1, row + 2, 2):
        for j in range(column - 1, column + 2, 2):
            if mine >= depth[i, j]:
                corners += 1
    if corners == 0 or corners == 4:
        return corners / 4.0
    lit = 0
    for i in range(row - 1, row + 2):
        for j in range(column - 1, column + 2):
            if mine >= depth[i, j]:
                lit += 1
    return lit / 9.0


@compiled
def shade(
    picture: Picture,
    texels: Ints,
    todo: Mask,
    key: Keys,
    face: Ints,
    weight: Picture,
    screen: Floats,
    vertices: Floats,
    normals: Floats,
    colours: Floats,
    faces: Ints,
    rotation: Floats,
    eye: Floats,
    focal: float,
    centre_x: float,
    centre_y: float,
    axes: Floats,
    depth: Keys,
    low_u: float,
    low_v: float,
    scale: float,
    sun: Floats,
    sky: Floats,
    ground0: Bytes,
    ground1: Bytes,
    ground2: Bytes,
    ground3: Bytes,
    ground_texel: float,
    walls: Bytes,
    half: float,
    wall_texel: float,
) -> None:
    """Fill `picture` with linear radiance: meshes where a face was drawn, else ground or walls.

    Only where `todo`; writes there also the texel of the shadow map that was looked up.
    """
    height, width = key.shape
    colour, normal, point, ray = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    for y in range(height):
        for x in range(width):
            if not todo[y, x]:
                continue
            f = face[y, x]
            if f >= 0:
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                distance = 1.0 / key[y, x]
                wa = weight[y, x, 0] * screen[a, 2] * distance
                wb = weight[y, x, 1] * screen[b, 2] * distance
                wc = 1 - wa - wb
                length = 0.0
                for k in range(3):
                    colour[k] = wa * colours[a, k] + wb * colours[b, k] + wc * colours[c, k]
                    normal[k] = wa * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
                    point[k] = wa * vertices[a, k] + wb * vertices[b, k] + wc * vertices[c, k]
                    length += normal[k] * normal[k]
                length = 1.0 / (np.sqrt(length) + 1e-9)
                facing = 0.0
                for k in range(3):
                    normal[k] *= length
                    facing += normal[k] * axes[2, k]
                lit = 0.0
                if facing > 0:
                    bias = 0.025 + 0.03 * (1 - facing)
                    texel = _texel(point, axes, low_u, low_v, scale, depth.shape[0])
                    texels[y, x] = texel
                    lit = facing * _sunlit(point, axes, depth, texel, bias)
                open_sky = 0.62 + 0.38 * normal[2]
                for k in range(3):
                    picture[y, x, k] = colour[k] * (sky[k] * open_sky + sun[k] * lit)
                continue

            right, down = (x + 0.5 - centre_x) / focal, (y + 0.5 - centre_y) / focal
            for k in range(3):
                ray[k] = right * rotation[0, k] + down * rotation[1, k] + rotation[2, k]
            distance = 1e30
            side = 0  # 1 = ground, 2 = a wall to the east or west, 3 = to the north or south
            if ray[2] < -1e-6:
                distance = -eye[2] / ray[2]
                side = 1
            for k in range(2):
                if abs(ray[k]) > 1e-9:
                    to_wall = ((half if ray[k] > 0 else -half) - eye[k]) / ray[k]
                    if 0 < to_wall < distance:
                        distance = to_wall
                        side = 2 + k
            for k in range(3):
                point[k] = eye[k] + distance * ray[k]
            if side == 1:
                slope = abs(ray[2]) / np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
                footprint = distance / focal / ground_texel / max(0.2, np.sqrt(slope))
                u, v = point[0] / ground_texel, point[1] / ground_texel
                if footprint < 1.5:
                    _texture(ground0, u, v, colour)
                elif footprint < 3:
                    _texture(ground1, u / 2, v / 2, colour)
                elif footprint < 6:
                    _texture(ground2, u / 4, v / 4, colour)
                else:
                    _texture(ground3, u / 8, v / 8, colour)
                texel = _texel(point, axes, low_u, low_v, scale, depth.shape[0])
                texels[y, x] = texel
                lit = _sunlit(point, axes, depth, texel, 0.02) * axes[2, 2]
                for k in range(3):
                    picture[y, x, k] = colour[k] * colour[k] * (sky[k] + sun[k] * lit)
            else:
                if side == 2:
                    along = point[1] + half + (0 if ray[0] > 0 else 4) * half
                else:
                    along = point[0] + half + (2 if ray[1] > 0 else 6) * half
                last_row = walls.shape[0] - 1.001
                row = min(max(walls.shape[0] - 1 - point[2] / wall_texel, 0.0), last_row)
                _texture(walls, along / wall_texel, row, colour)
                for k in range(3):
                    picture[y, x, k] = colour[k] * colour[k] * (sky[k] * 1.1 + sun[k] * 0.45)
