"""AugMix on a batch: pictures mixed with changed copies of themselves.

Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
ICLR 2020 (arXiv:1912.02781), as the re-identification framework runs it that GSAlign stands on:
three chains of one operation at severity 1, Dirichlet and Beta weights of coefficient .1, no
consistency loss. The operations and their ranges are the paper's.

What differs: all geometry samples bilinearly, where the framework's rotation takes the nearest.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

CHAINS = 3
SEVERITY = 1  # of 10
COEFFICIENT = 0.1  # of the Dirichlet and of the Beta distribution
OPERATIONS = (
    "autocontrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def mix(picture: Float32, rng: np.random.Generator) -> Float32:
    """Float32 [H, W, 3] RGB in whole numbers 0 to 255; the same, mixed with changed copies.

    Args:
        picture: to change.
        rng: where chance comes from.
    """
    weights = rng.dirichlet([COEFFICIENT] * CHAINS)
    share = rng.beta(COEFFICIENT, COEFFICIENT)
    blend = np.zeros_like(picture)
    for weight in weights.tolist():
        name = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        level = SEVERITY * rng.uniform(0.1, 1.0)
        sign = 1 - 2 * int(rng.integers(2))
        blend += np.float32(weight) * changed(picture, name, level, sign)
    mixed: Float32 = np.floor(np.float32(1 - share) * picture + np.float32(share) * blend)
    return mixed


def changed(picture: Float32, name: str, level: float, sign: int) -> Float32:
    """One operation on one picture.

    Args:
        picture: float32 [H, W, 3] in whole numbers 0 to 255.
        name: one of OPERATIONS.
        level: how far, 0 to 10.
        sign: 1 or -1, which way a geometric operation goes.
    """
    height, width, _ = picture.shape
    match name:
        case "autocontrast":
            low, high = picture.min((0, 1)), picture.max((0, 1))
            stretched = np.floor((picture - low) * (255 / np.maximum(high - low, 1)))
            return np.clip(np.where(high > low, stretched, picture), 0, 255)
        case "equalize":
            return np.stack([_equalized(channel) for channel in np.moveaxis(picture, 2, 0)], 2)
        case "posterize":
            step = np.float32(2.0 ** (4 + int(level * 4 / 10)))  # 4 - int(..) of 8 bits are kept
            kept: Float32 = np.floor(picture / step) * step
            return kept
        case "solarize":
            threshold = 256 - int(level * 256 / 10)
            return np.where(picture < threshold, picture, 255 - picture)
        case "rotate":
            angle = math.radians(sign * int(level * 30 / 10))
            cos, sin = math.cos(angle), math.sin(angle)
            x, y = (width - 1) / 2, (height - 1) / 2
            return _moved(
                picture, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]]
            )
        case "shear_x":  # x' = x + s y, with y from the picture's upper edge
            shear = sign * level * 0.3 / 10
            return _moved(picture, [[1.0, shear, shear / 2], [0.0, 1.0, 0.0]])
        case "shear_y":
            shear = sign * level * 0.3 / 10
            return _moved(picture, [[1.0, 0.0, 0.0], [shear, 1.0, shear / 2]])
        case "translate_x":
            return _moved(picture, [[1.0, 0.0, _pixels(sign, level, width)], [0.0, 1.0, 0.0]])
        case "translate_y":
            return _moved(picture, [[1.0, 0.0, 0.0], [0.0, 1.0, _pixels(sign, level, height)]])
    raise ValueError(f"no operation is called {name!r}")


def _pixels(sign: int, level: float, size: int) -> int:
    """A shift of whole pixels; at most a third of `size` at level 10."""
    return sign * int(level * (size / 3) / 10)


def _equalized(channel: Float32) -> Float32:
    """[H, W] with a flat histogram, in whole numbers as imaging libraries do it."""
    values = channel.astype(np.uint8)
    counts = np.bincount(values.ravel(), minlength=256)
    step = int(counts[counts > 0][:-1].sum()) // 255
    if step == 0:
        return channel
    before = np.cumsum(counts) - counts
    table = np.minimum((before + step // 2) // step, 255).astype(np.float32)
    equal: Float32 = table[values]
    return equal


def _moved(picture: Float32, places: list[list[float]]) -> Float32:
    """Sampled where an affine map in pixels points to; black comes from outside."""
    height, width, _ = picture.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved: Float32 = cv2.warpAffine(picture, np.array(places), (width, height), flags=flags)
    return np.rint(moved)
