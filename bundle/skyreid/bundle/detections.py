"""What a detector finds in one picture, and the box arithmetic of everybody: IoU, NMS, clipping.

Numpy only: a device has no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

KEPT_MAX = 1000
"""People that `suppress` leaves at most, the best ones: what comes after it, a tracker above all,
takes time by the square of their number, and a detector that is out of order finds somebody in
every cell."""


@dataclass(frozen=True, eq=False)
class Detections:
    """People of one picture.

    ``boxes`` float32 [N, 4] x0, y0, x1, y1 in pixels of the picture; ``scores`` float32 [N], 0 to
    1. ``looks`` float32 [N, D] says what each one looks like, None where nobody has looked: a
    detector does not, a device may (``edge/people/quality.py``).
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
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).astype(np.float64, copy=False)
    result: Float64 = size[:, 0] * size[:, 1]
    return result


def intersection(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float64:
    """Common area [A, B] of boxes [A, 4] and [B, 4]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.maximum(high - low, 0).astype(np.float64, copy=False)
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


def join(*parts: Detections) -> Detections:
    """The boxes and scores of all parts in one."""
    boxes = np.concatenate([part.boxes for part in parts])
    return Detections(boxes, np.concatenate([part.scores for part in parts]))


def suppress(detections: Detections, iou_max: float, kept_max: int = KEPT_MAX) -> Detections:
    """Greedy non-maximum suppression (NMS).

    Of two boxes with a higher IoU than ``iou_max`` the one with the lower score goes. The result
    is best first and holds ``kept_max`` people at most.

    Time and memory grow with people kept times boxes near them, never with the square of the boxes:
    from the best score on, each box that is still alive is kept and looks only at those whose left
    edge is near enough to overlap it.
    """
    scores, boxes = detections.scores, detections.boxes
    across = np.argsort(boxes[:, 0], kind="stable")
    place = np.empty(len(across), np.int64)
    place[across] = np.arange(len(across))
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[across].T)
    sizes = area(boxes[across]).astype(np.float32)
    widest = (x1 - x0).max(initial=0)
    first = np.searchsorted(x0, x0 - widest, "left").tolist()
    last = np.searchsorted(x0, x1, "right").tolist()
    alive = np.ones(len(across), bool)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        i = place[index]
        if not alive[i]:
            continue
        kept.append(index)
        if len(kept) == kept_max:
            break
        near = slice(first[i], last[i])
        # `iou` of one box with those near it, in columns and in place: a fifth of the time.
        common = np.minimum(x1[near], x1[i])
        common -= np.maximum(x0[near], x0[i])
        common.clip(0, None, out=common)
        tall = np.minimum(y1[near], y1[i])
        tall -= np.maximum(y0[near], y0[i])
        common *= tall.clip(0, None, out=tall)
        union = sizes[near] + sizes[i]
        union -= common
        union *= iou_max
        alive[near] &= common <= union
    return choose(detections, np.array(kept, np.int64))


def clip(detections: Detections, width: int, height: int) -> Detections:
    """Cut the boxes off at the picture; one with less than a pixel of it inside goes."""
    limit = np.array([width, height, width, height], np.float32)
    boxes = np.clip(detections.boxes, 0, limit)
    inside = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    cut = Detections(boxes, detections.scores, detections.looks)
    return choose(cut, inside)
