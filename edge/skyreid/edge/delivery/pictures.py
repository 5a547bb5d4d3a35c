"""A person's picture, encoded small enough to send: JPEG of at most 20 kB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.picture import MAX_PICTURE_BYTES

_QUALITIES = (90, 80, 70, 55, 40, 25)
_SIDE_MAX_PX = 512


def encode_picture(picture: NDArray[np.uint8], max_bytes: int = MAX_PICTURE_BYTES) -> bytes:
    """RGB uint8 [h, w, 3] -> JPEG of at most ``max_bytes``, as good as fits.

    The quality is lowered first, then the picture is made smaller.
    """
    import cv2

    side = max(picture.shape[:2])
    scale = min(1.0, _SIDE_MAX_PX / side)
    while True:
        if scale < 1.0:
            size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        else:
            small = picture
        bgr = np.ascontiguousarray(small[..., ::-1])
        for quality in _QUALITIES:
            done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if done and len(data) <= max_bytes:
                return bytes(data)
        scale *= 0.7
