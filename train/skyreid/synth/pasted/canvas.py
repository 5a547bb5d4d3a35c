"""A picture that things are pasted into, and the book of who covers which pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from skyreid.synth.shading import Bytes, Picture

GROUND = 0
"""Owner of a pixel that nothing was pasted over."""
THING = -1
"""Owner of a pixel of what is no person; people have numbers from 1."""


@dataclass(frozen=True)
class Pasted:
    """A person that was pasted: number, whole box x0, y0, x1, y1, opaque pixels in the picture."""

    number: int
    body: tuple[float, float, float, float]
    pixels: int


class Canvas:
    """Paste one after the other; the later one stands in front."""

    def __init__(self, ground: Bytes) -> None:
        """Begin with a picture uint8 [H, W, 3]; it is not changed."""
        self.picture: Picture = ground.astype(np.float32)
        self.owner: npt.NDArray[np.int32] = np.full(ground.shape[:2], GROUND, np.int32)

    def paste(self, cutout: Picture, x: int, y: int, owner: int = THING) -> int:
        """Lay a cut-out, premultiplied float32 [h, w, 4], with its upper left corner at x, y.

        Returns:
            How many of the picture's pixels it hides.
        """
        cut = self._overlap(cutout, x, y)
        if cut is None:
            return 0
        rows, columns, mine = cut
        piece = cutout[mine]
        there = self.picture[rows, columns]
        there *= 1 - piece[..., 3:] * np.float32(1 / 255)
        there += piece[..., :3]
        hidden = piece[..., 3] > 127.5
        self.owner[rows, columns][hidden] = owner
        return int(np.count_nonzero(hidden))

    def darken(self, shadow: Picture, x: int, y: int) -> None:
        """Multiply by 1 - shadow [h, w]; whose pixels they are does not change."""
        cut = self._overlap(shadow, x, y)
        if cut is not None:
            rows, columns, mine = cut
            self.picture[rows, columns] *= 1 - shadow[mine][..., None]

    def visibility(self, person: Pasted) -> float:
        """The part of a person's pixels in the picture that nothing was pasted over."""
        return np.count_nonzero(self.owner == person.number) / max(1, person.pixels)

    def covered(self, box: npt.NDArray[np.float32]) -> float:
        """The part of a box x0, y0, x1, y1 that anything was pasted over."""
        x0, y0, x1, y1 = box.astype(int)
        return float((self.owner[y0 : y1 + 1, x0 : x1 + 1] != GROUND).mean())

    def finished(self) -> Bytes:
        """The picture as uint8."""
        return np.clip(self.picture, 0, 255).astype(np.uint8)

    def _overlap(
        self, mask: Picture, x: int, y: int
    ) -> tuple[slice, slice, tuple[slice, slice]] | None:
        """Rows and columns of the picture that the mask meets, and the same of the mask."""
        height, width = self.owner.shape
        x0, x1 = max(0, x), min(width, x + mask.shape[1])
        y0, y1 = max(0, y), min(height, y + mask.shape[0])
        if x0 >= x1 or y0 >= y1:
            return None
        return slice(y0, y1), slice(x0, x1), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def contact_shadow(rng: np.random.Generator, width: int) -> Picture:
    """A soft dark ellipse as wide as feet, [h, w] of 0 to 1; its middle belongs to the feet."""
    half_w, half_h = max(2, int(width * rng.uniform(0.3, 0.8))), max(1, int(width * 0.12))
    pad = 2 + half_h
    shadow = np.zeros((2 * (half_h + pad) + 1, 2 * (half_w + pad) + 1), np.float32)
    middle = (half_w + pad, half_h + pad)
    strength = float(rng.uniform(0.2, 0.6))
    cv2.ellipse(shadow, middle, (half_w, half_h), 0, 0, 360, (strength,), -1)
    soft: Picture = cv2.GaussianBlur(shadow, (0, 0), max(0.8, 0.08 * width))
    return soft


def cast_shadow(rng: np.random.Generator, alpha: Picture) -> tuple[Picture, int]:
    """The silhouette alpha [h, w] laid on the ground by a sun, towards the camera or sideways.

    Returns:
        shadow [h', w'] of 0 to 1, its first row at the feet, and the column where the feet are.
    """
    height, width = alpha.shape
    long, lean = rng.uniform(0.15, 0.6), rng.normal(0, 0.8)
    out_h = max(2, int(height * long))
    shift = int(abs(lean) * out_h) + 1
    left = shift if lean < 0 else 0
    onto = np.array([[1, -lean * long, left + lean * long * height], [0, -long, out_h]])
    laid = cv2.warpAffine(alpha, onto, (width + shift, out_h), flags=cv2.INTER_AREA)
    soft: Picture = cv2.GaussianBlur(laid, (0, 0), max(0.6, 0.01 * height))
    return soft * np.float32(rng.uniform(0.2, 0.6)), left
