"""What a detected person looks like, in a few numbers: enough to tell two who cross apart.

Not re-identification: it only has to last from one frame to the next, and costs microseconds.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections, Float32

ROWS, COLUMNS = 6, 2
SIZE = 3 * ROWS * COLUMNS
"""Numbers per person."""
_SIDE, _END = 0.2, 0.06  # cut off left and right, top and bottom: background


def with_looks(picture: NDArray[np.uint8], found: Detections) -> Detections:
    """The same people, with what each of them looks like in the RGB picture uint8 [H, W, 3]."""
    return Detections(found.boxes, found.scores, describe(picture, found.boxes))


def describe(picture: NDArray[np.uint8], boxes: NDArray[np.floating]) -> Float32:
    """Mean colour of the cells of a 6 x 2 grid on each box, float32 [N, 36] in CIE L*a*b*.

    Args:
        picture: RGB uint8 [H, W, 3].
        boxes: [N, 4] x0, y0, x1, y1 in its pixels.
    """
    height, width = picture.shape[:2]
    out = np.zeros((len(boxes), SIZE), np.float32)
    for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        left, right = _span(x0 + _SIDE * (x1 - x0), x1 - _SIDE * (x1 - x0), COLUMNS, width)
        top, bottom = _span(y0 + _END * (y1 - y0), y1 - _END * (y1 - y0), ROWS, height)
        inside = picture[top:bottom, left:right]
        cells = cv2.resize(inside, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(cells.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
        out[index] = lab.ravel()
    return out


def _span(low: float, high: float, least: int, limit: int) -> tuple[int, int]:
    """Whole pixels from ``low`` to ``high``, at least ``least`` where there are any."""
    start = min(max(round(low), 0), max(limit - least, 0))
    return start, min(max(round(high), min(start + least, limit)), limit)
