"""What a detected person looks like, in a few numbers: enough to tell two who cross apart.

Not re-identification: it only has to last from one frame to the next, and costs microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    if not len(boxes):
        return np.zeros((0, SIZE), np.float32)
    cells = np.empty((len(boxes) * ROWS, COLUMNS, 3), np.uint8)
    for index, (left, top, right, bottom) in enumerate(_insides(boxes, width, height)):
        inside, into = picture[top:bottom, left:right], cells[ROWS * index : ROWS * (index + 1)]
        cv2.resize(inside, (COLUMNS, ROWS), into, 0, 0, cv2.INTER_AREA)
    lab = cv2.cvtColor(cells.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    return np.asarray(lab, np.float32).reshape(-1, SIZE)


def _insides(
    boxes: NDArray[np.floating], width: int, height: int
) -> Iterator[tuple[int, int, int, int]]:
    """Boxes without their edges, in whole pixels; a pixel a cell where there are any."""
    last_left, last_top = max(width - COLUMNS, 0), max(height - ROWS, 0)
    for x0, y0, x1, y1 in boxes.tolist():  # few boxes: numpy takes longer to begin
        beside, above = _SIDE * (x1 - x0), _END * (y1 - y0)
        left = min(max(round(x0 + beside), 0), last_left)
        top = min(max(round(y0 + above), 0), last_top)
        right = min(max(round(x1 - beside), left + COLUMNS), width)
        bottom = min(max(round(y1 - above), top + ROWS), height)
        yield left, top, right, bottom
