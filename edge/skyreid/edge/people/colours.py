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
    if not len(boxes):
        return np.zeros((0, SIZE), np.float32)
    cells = np.empty((len(boxes) * ROWS, COLUMNS, 3), np.uint8)
    for index, (left, top, right, bottom) in enumerate(_insides(boxes, width, height).tolist()):
        inside = picture[top:bottom, left:right]
        cells[ROWS * index : ROWS * (index + 1)] = cv2.resize(
            inside, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA
        )
    lab = cv2.cvtColor(cells.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    return np.asarray(lab, np.float32).reshape(-1, SIZE)


def _insides(boxes: NDArray[np.floating], width: int, height: int) -> NDArray[np.int64]:
    """Boxes without their edges, in whole pixels [N, 4]; a pixel a cell where there are any."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    edge = np.array([_SIDE, _END]) * (high - low)
    limit, least = np.array([width, height]), np.array([COLUMNS, ROWS])
    start = np.minimum(np.maximum(np.rint(low + edge), 0), np.maximum(limit - least, 0))
    end = np.maximum(np.rint(high - edge), np.minimum(start + least, limit))
    return np.concatenate([start, np.minimum(end, limit)], 1).astype(np.int64)
