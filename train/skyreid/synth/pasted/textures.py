"""Colours and noise that clutter is made of."""

from __future__ import annotations

import cv2
import numpy as np

from skyreid.synth.shading import Bytes, Picture

Colour = tuple[float, float, float]
"""R, G, B, 0 to 255."""


def dull(rng: np.random.Generator) -> Colour:
    """What walls, streets and metal are: grey, three times in four nearly so."""
    return _around(rng, 12 if rng.random() < 0.75 else 50)


def bright(rng: np.random.Generator) -> Colour:
    """What signs, cars and shops may be."""
    return _around(rng, 70)


def darker(colour: Colour, factor: float) -> Colour:
    """A colour in the shade, or in the sun with a factor above 1."""
    r, g, b = (min(255.0, factor * channel) for channel in colour)
    return r, g, b


def leaf(rng: np.random.Generator) -> Colour:
    """Foliage from dry to dark."""
    return float(rng.uniform(25, 100)), float(rng.uniform(50, 125)), float(rng.uniform(15, 65))


def _around(rng: np.random.Generator, spread: float) -> Colour:
    r, g, b = (float(q) for q in np.clip(rng.uniform(15, 235) + rng.normal(0, spread, 3), 0, 255))
    return r, g, b


def octaves(rng: np.random.Generator, height: int, width: int, finest: int = 7) -> Picture:
    """Noise float32 [H, W, 3] of deviation 1, over cells of many sizes; mostly grey.

    Args:
        rng: where it comes from.
        height: in pixels.
        width: in pixels.
        finest: 2 to this power is how many cells the finest octave has across.
    """
    total = np.zeros((height, width, 3), np.float32)
    roughness = rng.uniform(0.2, 0.9)
    for level in range(int(rng.integers(2, 5)), finest + 1):
        across = 2**level
        down = max(2, across * height // width + 1)
        cells = rng.standard_normal((down, across, 1)).astype(np.float32)
        if rng.random() < 0.2:  # stains have colours, though faint ones
            cells = cells + rng.standard_normal((down, across, 3)).astype(np.float32) * 0.3
        grown = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
        total += grown.reshape(height, width, -1) * np.float32(2 ** (-level * roughness))
    result: Picture = (total - total.mean()) / (total.std() + np.float32(1e-6))
    return result


def roughened(rng: np.random.Generator, picture: Bytes, strength: float) -> None:
    """Add noise of a deviation of `strength` grey levels, in place."""
    height, width = picture.shape[:2]
    noise = octaves(rng, height, width) * np.float32(strength)
    picture[:] = cv2.add(picture, noise, dtype=cv2.CV_8U)


def shaded(rng: np.random.Generator, picture: Bytes) -> None:
    """Darken a random polygon as the shadow of a house or a tree does, in place."""
    height, width = picture.shape[:2]
    points = rng.uniform(-0.2, 1.2, (5, 2)) * [width, height]
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [cv2.convexHull(points.astype(np.int32))], (1.0,), cv2.LINE_AA)
    if rng.random() < 0.5:  # the light that falls through leaves
        mask *= (octaves(rng, height, width)[..., 0] > rng.uniform(-1, 0.5)).astype(np.float32)
    mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.6, 4)))
    picture[:] = np.asarray(picture * (1 - mask[..., None] * rng.uniform(0.2, 0.65)), np.uint8)
