"""From the detector's two arrays to boxes with scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.train.models.heatmap import STRIDE

Float32 = NDArray[np.float32]


def decode(
    heat: Float32, box: Float32, *, score_min: float, overlap_max: float = 0.6
) -> tuple[Float32, Float32]:
    """People of one picture, best first.

    Args:
        heat: [h, w] peaks, zero elsewhere.
        box: [4, h, w] distances in pixels.
        score_min: peaks below it are dropped.
        overlap_max: of two boxes with a higher IoU the one with the lower score is dropped.

    Returns:
        Boxes [K, 4] x0, y0, x1, y1 in pixels of the input (not clipped) and scores [K].
    """
    rows, columns = np.nonzero(heat >= score_min)
    scores = heat[rows, columns]
    order = np.argsort(-scores, kind="stable")
    rows, columns, scores = rows[order], columns[order], scores[order]
    x, y = (columns + np.float32(0.5)) * STRIDE, (rows + np.float32(0.5)) * STRIDE
    left, top, right, bottom = box[:, rows, columns]
    boxes = np.stack([x - left, y - top, x + right, y + bottom], 1).astype(np.float32)
    kept: list[int] = []
    overlaps = iou(boxes, boxes)
    for index in range(len(boxes)):
        if not kept or overlaps[index, kept].max() <= overlap_max:
            kept.append(index)
    return boxes[kept], scores[kept].astype(np.float32)


def iou(a: Float32, b: Float32) -> Float32:
    """Intersection over union of boxes [A, 4] and [B, 4] as [A, B]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    ratio: Float32 = overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, 1e-9)
    return ratio
