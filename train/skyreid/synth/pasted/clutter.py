"""Whole pictures with nobody in them: streets, rooms and heaps of shapes, all procedural."""

from __future__ import annotations

import cv2
import numpy as np

from skyreid.synth.pasted.buildings import front, room, text, windows
from skyreid.synth.pasted.objects import OBJECTS, foliage
from skyreid.synth.pasted.textures import dull, leaf, octaves, roughened, shaded
from skyreid.synth.shading import Bytes

SIZE_PX = (384, 512)
"""Height and width of a clutter picture."""


def clutter(rng: np.random.Generator) -> Bytes:
    """One picture, uint8 [384, 512, 3] RGB."""
    picture = np.empty((*SIZE_PX, 3), np.uint8)
    kind = rng.choice(["street", "room", "above", "heap"], p=[0.45, 0.22, 0.13, 0.2])
    if kind == "street":
        _street(rng, picture)
    elif kind == "room":
        room(rng, picture)
        _scatter(rng, picture, SIZE_PX[0] // 2, int(rng.integers(0, 6)))
    elif kind == "above":
        _from_above(rng, picture)
    else:
        _heap(rng, picture)
    if rng.random() < 0.4:
        shaded(rng, picture)
    if rng.random() < 0.75:
        roughened(rng, picture, rng.uniform(2, 14))
    if rng.random() < 0.35:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.6)), np.uint8)
    return picture


def _street(rng: np.random.Generator, picture: Bytes) -> None:
    """Sky or trees, a row of fronts, the ground with its lines, then what stands on it."""
    height, width = picture.shape[:2]
    foot = int(height * rng.uniform(0.2, 0.75))
    picture[:foot] = dull(rng)
    picture[foot:] = dull(rng)
    fall = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None] * rng.normal(0, 25)
    noise = octaves(rng, height, width) * np.float32(rng.uniform(3, 20))
    picture[:] = cv2.add(picture, fall + noise, dtype=cv2.CV_8U)
    at = int(rng.uniform(-0.3, 0.1) * width)
    while at < width:
        wide = int(rng.uniform(0.15, 0.8) * width)
        choice = rng.random()
        if choice < 0.65:
            top = int(foot * rng.uniform(-0.6, 0.6))
            front(rng, picture, at, top, wide, foot - top)
        elif choice < 0.85:
            for _ in range(3):
                place = (int(at + rng.uniform(0, 1) * wide), int(foot * rng.uniform(0.5, 1)))
                foliage(rng, picture, *place, foot * rng.uniform(0.5, 1.2))
        at += wide
    _lines(rng, picture, foot)
    _scatter(rng, picture, foot, int(rng.integers(2, 16)))


def _lines(rng: np.random.Generator, picture: Bytes, horizon: int) -> None:
    """Kerbs, road markings and joints that meet at the horizon."""
    height, width = picture.shape[:2]
    meet = (int(rng.uniform(-0.5, 1.5) * width), horizon - int(rng.uniform(0, 40)))
    for _ in range(int(rng.integers(0, 7))):
        near = (int(rng.uniform(-1, 2) * width), height)
        start = [int(a + (b - a) * 0.15) for a, b in zip(meet, near, strict=True)]
        cv2.line(picture, start, near, dull(rng), int(rng.integers(1, 9)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        row = int(rng.uniform(horizon, height))
        end = (width, row + int(rng.normal(0, 25)))
        cv2.line(picture, (0, row), end, dull(rng), int(rng.integers(1, 12)), cv2.LINE_AA)


def _scatter(rng: np.random.Generator, picture: Bytes, horizon: int, count: int) -> None:
    """Objects on the ground, the farther first; sizes grow from the horizon downwards."""
    height, width = picture.shape[:2]
    growth, least = rng.uniform(0.3, 1.3), rng.uniform(12, 90)
    for foot in np.sort(rng.uniform(horizon, 1.15 * height, count)).astype(int).tolist():
        size = least + growth * (foot - horizon)
        draw = OBJECTS[rng.integers(len(OBJECTS))]
        draw(rng, picture, int(rng.uniform(-0.15, 1) * width), foot, size)


def _from_above(rng: np.random.Generator, picture: Bytes) -> None:
    """Ground as a drone sees it: paving, lawns, lanes, roofs, crowns of trees, parked cars."""
    height, width = picture.shape[:2]
    picture[:] = dull(rng)
    noise = octaves(rng, height, width) * np.float32(rng.uniform(4, 25))
    picture[:] = cv2.add(picture, noise, dtype=cv2.CV_8U)
    for _ in range(int(rng.integers(1, 6))):
        points = rng.uniform(-0.2, 1.2, (4, 2)) * [width, height]
        colour = leaf(rng) if rng.random() < 0.4 else dull(rng)
        cv2.fillPoly(picture, [cv2.convexHull(points.astype(np.int32))], colour, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 6))):
        ends = (rng.uniform(-0.2, 1.2, (2, 2)) * [width, height]).astype(int).tolist()
        cv2.line(picture, ends[0], ends[1], dull(rng), int(rng.integers(1, 12)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 14))):
        middle = tuple((rng.uniform(0, 1, 2) * [width, height]).tolist())
        sides = (float(rng.uniform(8, 70)), float(rng.uniform(8, 70)))
        corners = cv2.boxPoints((middle, sides, float(rng.uniform(0, 90)))).astype(np.int32)
        cv2.fillPoly(picture, [corners], dull(rng), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 5))):
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        foliage(rng, picture, x, y, rng.uniform(20, 120))


def _heap(rng: np.random.Generator, picture: Bytes) -> None:
    """No scene at all: anything anywhere, in any size."""
    height, width = picture.shape[:2]
    picture[:] = dull(rng)
    _lines(rng, picture, int(rng.uniform(0, 1) * height))
    for _ in range(int(rng.integers(4, 28))):
        x, y = int(rng.uniform(-0.1, 1) * width), int(rng.uniform(0, 1.2) * height)
        size = float(np.exp(rng.uniform(np.log(15), np.log(300))))
        choice = rng.random()
        if choice < 0.7:
            OBJECTS[rng.integers(len(OBJECTS))](rng, picture, x, y, size)
        elif choice < 0.85:
            windows(rng, picture, x, y - int(size), int(size * rng.uniform(0.3, 2)), int(size))
        else:
            text(rng, picture, x, y, int(size / 3) + 6)
