"""Packed pictures, one pixel beside the other (RGB, BGRx, ...), as RGB: other people's pipelines.

A camera's own pipeline never has them: decoders write 4:2:0 planes, and so converting is spared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]

PACKED = {"RGB": 3, "BGR": 3, "RGBx": 4, "BGRx": 4, "RGBA": 4, "BGRA": 4, "GRAY8": 1}
"""Bytes a pixel by GStreamer's name of the format."""


def packed_rgb(data: UInt8, name: str, size: tuple[int, int], stride: int, offset: int) -> UInt8:
    """The picture in a buffer, uint8 [H, W, 3] RGB: of ``RGB`` a view of it, else a copy.

    Args:
        data: uint8 [bytes] of the buffer.
        name: one of ``PACKED``.
        size: height and width in pixels.
        stride: bytes from row to row.
        offset: of the first row.

    Raises:
        TypeError: the picture reaches beyond the memory.
    """
    import cv2

    depth = PACKED[name]
    pixels: UInt8 = np.ndarray((*size, depth), np.uint8, data, offset, (stride, depth, 1))
    if name == "RGB":
        return pixels
    turn = {
        "BGR": cv2.COLOR_BGR2RGB,
        "RGBx": cv2.COLOR_RGBA2RGB,
        "RGBA": cv2.COLOR_RGBA2RGB,
        "BGRx": cv2.COLOR_BGRA2RGB,
        "BGRA": cv2.COLOR_BGRA2RGB,
        "GRAY8": cv2.COLOR_GRAY2RGB,
    }
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), turn[name]))
