"""From boxes to what the detector is trained against.

Elliptical Gaussians that follow a box's width and height, and box regression at every cell under
the Gaussian, are from Liu et al., "Training-Time-Friendly Network" (arXiv 1909.00700): many more
cells teach the box than the centre cell alone, which matters when training takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.train.models.heatmap import STRIDE

SPREAD = 0.54
"""Sigma of a person's Gaussian as a fraction of a sixth of the box side (TTFNet's alpha)."""
_LEAST_SIGMA = 0.45


@dataclass(frozen=True)
class Targets:
    """What one picture should answer; h and w are the heatmap's height and width."""

    heat: NDArray[np.float32]
    """[h, w], 1 at a person's centre cell, a Gaussian around it."""
    weight: NDArray[np.float32]
    """[h, w], 0 where nothing is asked (people too hidden to count), else 1."""
    box: NDArray[np.float32]
    """[4, h, w], left, top, right, bottom distances in pixels, where ``box_weight`` > 0."""
    box_weight: NDArray[np.float32]
    """[h, w], each person's cells sum to 1."""


def draw_targets(
    boxes: NDArray[np.float32], ignored: NDArray[np.bool_], height_px: int, width_px: int
) -> Targets:
    """Targets of one picture.

    Args:
        boxes: [K, 4] x0, y0, x1, y1 in pixels, inside the picture.
        ignored: [K], people that are neither positive nor negative.
        height_px: the picture's height, a multiple of the stride.
        width_px: its width.
    """
    h, w = height_px // STRIDE, width_px // STRIDE
    heat = np.zeros((h, w), np.float32)
    weight = np.ones((h, w), np.float32)
    box = np.zeros((4, h, w), np.float32)
    box_weight = np.zeros((h, w), np.float32)
    centre_x = (np.arange(w, dtype=np.float32) + 0.5) * STRIDE
    centre_y = (np.arange(h, dtype=np.float32) + 0.5) * STRIDE

    for x0, y0, x1, y1 in boxes[ignored]:
        inside = np.ix_((centre_y >= y0) & (centre_y <= y1), (centre_x >= x0) & (centre_x <= x1))
        weight[inside] = 0

    # The largest first: where two people overlap, the cells go to the smaller one.
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for index in np.argsort(-areas):
        if ignored[index]:
            continue
        x0, y0, x1, y1 = (float(v) for v in boxes[index])
        sigma_x = max(_LEAST_SIGMA, SPREAD * (x1 - x0) / STRIDE / 6)
        sigma_y = max(_LEAST_SIGMA, SPREAD * (y1 - y0) / STRIDE / 6)
        column = min(w - 1, int((x0 + x1) / 2 / STRIDE))
        row = min(h - 1, int((y0 + y1) / 2 / STRIDE))
        gaussian = np.exp(
            -((np.arange(h)[:, None] - row) ** 2) / (2 * sigma_y**2)
            - ((np.arange(w)[None, :] - column) ** 2) / (2 * sigma_x**2)
        ).astype(np.float32)
        weight[gaussian > 0.1] = 1
        heat = np.maximum(heat, gaussian)
        cells = gaussian > 0.3
        rows, columns = np.nonzero(cells)
        box[0, rows, columns] = centre_x[columns] - x0
        box[1, rows, columns] = centre_y[rows] - y0
        box[2, rows, columns] = x1 - centre_x[columns]
        box[3, rows, columns] = y1 - centre_y[rows]
        box_weight[cells] = gaussian[cells] / gaussian[cells].sum()
    # A cell can lie outside a narrow box; an exponential cannot be negative.
    box_weight[(box <= 0.5).any(0)] = 0
    return Targets(heat, weight, box, box_weight)
