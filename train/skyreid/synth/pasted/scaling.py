"""Cut-outs in any size, premultiplied: scaling never mixes in the colour of what is not there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from skyreid.synth.shading import Bytes, Picture

_LEAST_SIDE_PX = 24


@dataclass(frozen=True)
class Scalable:
    """A cut-out premultiplied, in its own size and in halves of it: each uint8 [H, W, 4]."""

    levels: tuple[Bytes, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Its own height and width in pixels."""
        height, width = self.levels[0].shape[:2]
        return height, width

    def at(self, height: int, width: int) -> Picture:
        """It in another size: premultiplied float32 [height, width, 4], 0 to 255."""
        source = self.levels[0]
        for level in self.levels:
            if level.shape[0] >= height and level.shape[1] >= width:
                source = level
        how = cv2.INTER_AREA if height < source.shape[0] else cv2.INTER_LINEAR
        out: Picture = cv2.resize(source, (width, height), interpolation=how).astype(np.float32)
        return out


def scalable(rgba: Bytes) -> Scalable:
    """A picture RGBA uint8 [H, W, 4], not premultiplied, made ready for scaling."""
    levels = [premultiplied(rgba)]
    while min(levels[-1].shape[:2]) >= 2 * _LEAST_SIDE_PX:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return Scalable(tuple(levels))


def premultiplied(rgba: Bytes) -> Bytes:
    """RGBA uint8 whose colours are multiplied by their alpha."""
    alpha = cv2.merge([rgba[..., 3]] * 3)
    colours = cv2.multiply(np.ascontiguousarray(rgba[..., :3]), alpha, scale=1 / 255)
    return np.dstack([np.asarray(colours, np.uint8), rgba[..., 3]])
