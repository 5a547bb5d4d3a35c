"""Foot point: where a detected person stands, from a box in pixels to metres on the ground.

From the side a person stands where the box ends. From above the box's lower edge is a shoulder, a
shoe or a shadow's edge, depending on the pitch; but its centre is always near the middle of the
body, so the ray through it meets the plane at half a person's height above the feet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skyreid.contract.camera import CameraModel
from skyreid.contract.sighting import Ground, View

BORDER_PX = 2.0
"""A box that ends this close to the frame's border is taken to be cut by it."""


@dataclass(frozen=True)
class FootOptions:
    """What is known about people and about the error of a box."""

    middle_m: float = 0.85
    """Height of the middle of a body above the ground."""
    sigma_share: float = 0.035
    """Standard deviation of the foot point as a fraction of the box's height."""
    sigma_px: float = 1.0
    """Standard deviation that is there even for the smallest box."""
    sigma_m: float = 0.1
    """Standard deviation on the ground: pose, plane, posture."""
    range_max_m: float = 80.0
    """Beyond this distance there is no position."""


def locate(
    model: CameraModel,
    box_xyxy: Sequence[float],
    view: View,
    options: FootOptions | None = None,
) -> Ground | None:
    """Ground position of a person with its covariance.

    Args:
        model: the camera at the moment of the box.
        box_xyxy: x0, y0, x1, y1 in pixels of the model's frame.
        view: where the camera looks from.
        options: what is assumed; None = the defaults.

    Returns:
        None where the box does not say: its feet are cut off by the frame, or it lies at the
        horizon or too far away.
    """
    o = options or FootOptions()
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    if y1 >= model.height_px - BORDER_PX:
        return None
    if x0 <= BORDER_PX or x1 >= model.width_px - BORDER_PX:
        return None
    if view is View.AERIAL:
        if y0 <= BORDER_PX:
            return None
        foot = _below_the_middle(model, (x0 + x1) / 2, (y0 + y1) / 2, o.middle_m)
    else:
        foot = (x0 + x1) / 2, y1
    if foot is None:
        return None
    sigma = float(np.hypot(o.sigma_px, o.sigma_share * (y1 - y0)))
    return model.ground(*foot, sigma_px=sigma, sigma_m=o.sigma_m, range_max_m=o.range_max_m)


def _below_the_middle(
    model: CameraModel, x_px: float, y_px: float, middle_m: float
) -> tuple[float, float] | None:
    """Pixel of the ground point below the point ``middle_m`` up that is seen at a pixel."""
    point = model.ground_point(x_px, y_px, middle_m)
    if point is None:
        return None
    pixels, depth = model.project(np.array([[point[0], point[1], 0.0]]))
    if depth[0] <= 0:
        return None
    return float(pixels[0, 0]), float(pixels[0, 1])
