"""What a detector finds in one frame, and the box arithmetic that detectors and tracker share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """People of one frame.

    ``boxes`` float32 [N, 4] x0, y0, x1, y1 in pixels of the frame, inside it; ``scores`` float32
    [N], 0 to 1. Best first. ``looks`` float32 [N, D] says what each one looks like (see
    ``looks.py``), None where nobody has looked.
    """

    boxes: Float32
    scores: Float32
    looks: Float32 | None = None

    def __len__(self) -> int:
        return len(self.scores)


def nobody() -> Detections:
    """No detection at all."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def area(boxes: NDArray[np.floating]) -> Float64:
    """Areas [N] of boxes [N, 4]; 0 for a box that is inside out."""
    size = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).astype(np.float64)
    result: Float64 = size[:, 0] * size[:, 1]
    return result


def intersection(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float64:
    """Common area [A, B] of boxes [A, 4] and [B, 4]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.clip(high - low, 0, None).astype(np.float64)
    result: Float64 = size[..., 0] * size[..., 1]
    return result


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float64:
    """Intersection over union [A, B] of boxes [A, 4] and [B, 4]."""
    common = intersection(a, b)
    union = area(a)[:, None] + area(b)[None] - common
    result: Float64 = common / np.maximum(union, 1e-9)
    return result


def choose(detections: Detections, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Detections:
    """Some of the detections, by index or mask."""
    looks = None if detections.looks is None else detections.looks[chosen]
    return Detections(detections.boxes[chosen], detections.scores[chosen], looks)


def suppress(detections: Detections, iou_max: float) -> Detections:
    """Greedy non-maximum suppression.

    Of two boxes with a higher IoU than ``iou_max`` the one with the lower score goes. The result
    is best first.
    """
    ordered = choose(detections, np.argsort(-detections.scores, kind="stable"))
    overlap = iou(ordered.boxes, ordered.boxes)
    alive = np.ones(len(ordered), bool)
    for index in range(len(ordered)):
        if alive[index]:
            alive[index + 1 :] &= overlap[index, index + 1 :] <= iou_max
    return choose(ordered, alive)


def clip(detections: Detections, width: int, height: int) -> Detections:
    """Cut the boxes off at the frame; one with nothing inside the frame goes."""
    limit = np.array([width, height, width, height], np.float32)
    boxes = np.clip(detections.boxes, 0, limit)
    inside = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    cut = Detections(boxes, detections.scores, detections.looks)
    return choose(cut, inside)
