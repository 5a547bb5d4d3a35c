"""Quality of crops: which of a person deserve an embedding, and how much each of them counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Float64, area, intersection

UInt8 = NDArray[np.uint8]

BORDER_PX = 2.0
"""A box that ends this close to the frame's border is taken to be cut by it."""


@dataclass(frozen=True)
class QualityOptions:
    """What makes a crop good. See ``quality``."""

    height_min_px: float = 24.0
    """Lower boxes are worth nothing."""
    aspect_max: float = 6.0
    """Boxes that are more than this times as high as wide, or half as wide as that, are worth
    nothing: not a person alone."""
    side_good_px: float = 64.0
    """From this root of the area on, size does not limit the quality."""
    border_factor: float = 0.4
    """A person who is cut by the frame's border counts this much."""
    behind_factor: float = 0.3
    """How much of the occlusion factor a person behind this one takes."""
    sharpness_good: float = 0.1
    """See ``sharpness``; blur does not limit the quality from here on."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What the quality of the crops of one frame is made of, each [N], 0 to 1."""

    size: Float64
    border: Float64
    free: Float64
    score: Float64

    @property
    def product(self) -> Float64:
        """Quality without the sharpness, which needs the pixels."""
        result: Float64 = self.size * self.border * self.free * self.score
        return result

    def weakest(self, row: int) -> str:
        """What limits the quality of one box most, in two or three words."""
        limits = {
            "size or shape": self.size[row],
            "cut by the border": self.border[row],
            "covered": self.free[row],
            "unsure detection": self.score[row],
        }
        return min(limits, key=lambda name: float(limits[name]))


def measure(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    width: int,
    height: int,
    options: QualityOptions,
) -> Measures:
    """Geometry's part of the quality of every box of a frame.

    ``quality = size * border * free * score * sharp`` with

    * size: root of the area over ``side_good_px``, at most 1; 0 below the least height or with an
      aspect that no person alone has;
    * border: ``border_factor`` where the box touches the frame's border, else 1;
    * free: 1 - the fraction of the box that nearer people cover - ``behind_factor`` times that
      which farther ones do, at least 0. Nearer is who stands lower in the picture;
    * score: the detector's;
    * sharp: see ``sharpness``.

    Args:
        boxes: [N, 4] x0, y0, x1, y1 of everybody in the frame.
        scores: [N] of the detector, 0 to 1.
        width: of the frame in pixels.
        height: of the frame in pixels.
        options: what makes a crop good.
    """
    o = options
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    aspect = sides[:, 1] / np.maximum(sides[:, 0], 1e-9)
    person = (sides[:, 1] >= o.height_min_px) & (aspect <= o.aspect_max)
    person &= aspect >= 2 / o.aspect_max
    size = np.where(person, np.minimum(np.sqrt(area(boxes)) / o.side_good_px, 1.0), 0.0)
    limit = np.array([width, height])
    cut = (boxes[:, :2] <= BORDER_PX).any(1) | (boxes[:, 2:] >= limit - BORDER_PX).any(1)
    covered = intersection(boxes, boxes) / np.maximum(area(boxes), 1e-9)[:, None]
    np.fill_diagonal(covered, 0.0)
    nearer = boxes[None, :, 3] >= boxes[:, None, 3]
    taken = (covered * np.where(nearer, 1.0, o.behind_factor)).sum(1)
    return Measures(
        size,
        np.where(cut, o.border_factor, 1.0),
        np.clip(1 - taken, 0.0, 1.0),
        np.clip(scores.astype(np.float64), 0.0, 1.0),
    )


def sharpness(picture: UInt8, options: QualityOptions) -> float:
    """How sharp a crop uint8 [h, w, 3] RGB is, 0 to 1.

    Variance of the Laplacian over the variance of the brightness (so that contrast does not count),
    on a common height of 96 px at most, relative to ``sharpness_good``.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if grey.shape[0] > 96:
        scale = 96 / grey.shape[0]
        size = max(1, round(grey.shape[1] * scale)), 96
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    contrast = _variance(grey) + 1.0
    edges = _variance(cv2.Laplacian(grey, cv2.CV_32F))
    return min(1.0, edges / contrast / options.sharpness_good)


def _variance(values: NDArray[Any]) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0]) ** 2
