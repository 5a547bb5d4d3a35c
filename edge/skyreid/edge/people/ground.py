"""Foot point: where a detected person stands, from a box in pixels to metres on the ground.

From the side a person stands where the box ends. From above the box's lower edge is a shoulder, a
shoe or a shadow's edge, depending on the pitch; but its centre is always near the middle of the
body, so the ray through it meets the plane at half a person's height above the feet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import FLAT, CameraModel, CameraPoses, Plane, Pose, moved
from skyreid.contract.device import TelemetryHealth
from skyreid.contract.sighting import Ground, View
from skyreid.edge.people.terrain import Terrain
from skyreid.edge.video.frame import Frame

Float64 = NDArray[np.float64]

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
    """Standard deviation on the ground: a surveyed pose, plane, posture."""
    posture_m: float = 0.07
    """The last of these alone, where a pose says itself what it and the ground may be off."""
    range_max_m: float = 80.0
    """Beyond this distance there is no position."""


MIDDLE_M = FootOptions().middle_m


class KnownPoses:
    """The poses of a calibration file, of a camera that stands or of a flight that is over."""

    fault = ""
    condition: TelemetryHealth | None = None

    def __init__(self, poses: CameraPoses, start_ns: int | None) -> None:
        """``start_ns``: capture time of the first pose; None = that of the first frame seen."""
        self._poses, self._start_ns = poses, start_ns
        self._before: CameraModel | None = None

    def at(self, frame: Frame) -> Pose | None:
        """The camera at a frame; None where its picture is not the one that the poses are for."""
        if self._start_ns is None:
            self._start_ns = frame.captured_at_ns
        model = self._poses.at((frame.captured_at_ns - self._start_ns) / 1e9)
        before, self._before = self._before, model
        here = model.scaled(frame.width, frame.height)
        if here is None:
            return None
        if before is None or before is model:
            return Pose(here)
        there = before.scaled(frame.width, frame.height)
        return Pose(here, motion=None if there is None else moved(there, here, MIDDLE_M))


def locate(
    pose: Pose,
    box_xyxy: Sequence[float],
    view: View,
    options: FootOptions | None = None,
    terrain: Terrain | None = None,
) -> Ground | None:
    """Ground position of a person with its covariance.

    Args:
        pose: the camera at the moment of the box.
        box_xyxy: x0, y0, x1, y1 in pixels of the pose's frame.
        view: where the camera looks from.
        options: what is assumed; None = the defaults.
        terrain: the ground; None = it is flat, at z = 0.

    Returns:
        None where the box does not say: its feet are cut off by the frame, or it lies at the
        horizon or too far away; and where the ground is not known.
    """
    o, model = options or FootOptions(), pose.model
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    if y1 >= model.height_px - BORDER_PX:
        return None
    if x0 <= BORDER_PX or x1 >= model.width_px - BORDER_PX:
        return None
    aerial = view is View.AERIAL
    if aerial and y0 <= BORDER_PX:
        return None
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 if aerial else y1
    above_m = o.middle_m if aerial else 0.0
    plane = FLAT if terrain is None else terrain.seen(model, x, y, above_m)
    if plane is None:
        return None
    foot = _below_the_middle(model, x, y, plane, above_m) if aerial else (x, y)
    if foot is None:
        return None
    sigma = float(np.hypot(o.sigma_px, o.sigma_share * (y1 - y0)))
    rest = o.sigma_m if pose.cov is None else o.posture_m
    reach_m = o.range_max_m
    found = model.ground(*foot, sigma_px=sigma, sigma_m=rest, range_max_m=reach_m, plane=plane)
    return found if found is None or pose.cov is None else _less_sure(found, model, plane, pose.cov)


def _less_sure(found: Ground, model: CameraModel, plane: Plane, cov: Float64) -> Ground | None:
    """With what the camera's own pose adds to the covariance, first order.

    None where a standard deviation of it would put the place beyond the horizon.
    """
    up_m = plane.up(found.east_m, found.north_m)
    pixel, depth = model.project(np.array([[found.east_m, found.north_m, up_m]]))
    here = np.array([found.east_m, found.north_m])
    steps = np.maximum(np.sqrt(np.diag(cov)), 1e-6)
    slopes = []
    for axis, step in enumerate(steps):
        by = np.zeros(6)
        by[axis] = step
        ahead, behind = (
            model.displaced(sign * by).ground_point(float(pixel[0, 0]), float(pixel[0, 1]), plane)
            for sign in (1, -1)
        )
        if ahead is None or behind is None or depth[0] <= 0:
            return None
        slopes.append((ahead - behind) / (2 * step))
    jacobian = np.stack(slopes, 1)  # [2, 6]
    more = jacobian @ cov @ jacobian.T
    return Ground(
        float(here[0]),
        float(here[1]),
        found.cov_ee_m2 + float(more[0, 0]),
        found.cov_en_m2 + float(more[0, 1]),
        found.cov_nn_m2 + float(more[1, 1]),
    )


def _below_the_middle(
    model: CameraModel, x_px: float, y_px: float, plane: Plane, middle_m: float
) -> tuple[float, float] | None:
    """Pixel of the ground point below the point ``middle_m`` up that is seen at a pixel."""
    point = model.ground_point(x_px, y_px, plane.raised(middle_m))
    if point is None:
        return None
    east, north = float(point[0]), float(point[1])
    pixels, depth = model.project(np.array([[east, north, plane.up(east, north)]]))
    if depth[0] <= 0:
        return None
    return float(pixels[0, 0]), float(pixels[0, 1])
