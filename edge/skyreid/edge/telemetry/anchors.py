"""Anchors: places on the earth that were found in pictures, and what they say of where a camera is.

A least squares fit of what the camera has to be displaced by so that each place is seen where it
was found (Gauss and Newton; Triggs et al., Bundle Adjustment: A Modern Synthesis, 2000), with what
was believed before as one more observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError

Float64 = NDArray[np.float64]

_STEPS = 25
_CONDITION_MAX = 1e10
_UNKNOWN = np.array([1e3, 1e3, 1e3, 10, 10, 10])
"""A standard deviation that says nothing."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """A place that was found in a picture."""

    model: CameraModel
    """The camera, as telemetry says it."""
    pixel: tuple[float, float]
    point: Float64
    """[3] of the site."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What anchors say."""

    by: Float64
    """[6], as of `CameraModel.displaced`."""
    cov: Float64
    """[6, 6] of it, m² and rad²."""
    off_px: Float64
    """[N, 2], where the camera so displaced sees them, less where they were found."""


def fit(anchors: Sequence[Anchor], sigmas: Sequence[float | None], sigma_px: float) -> Fitted:
    """By what the cameras of all anchors have to be displaced.

    Args:
        anchors: one or more.
        sigmas: [6] standard deviations of what is believed before, metres and radians; 0 = it is
            not to be changed, None = nothing is believed.
        sigma_px: standard deviation of where a place was found, each axis.

    Raises:
        InputError: a place is behind its camera, or they do not determine what is asked.
    """
    said = np.array([_UNKNOWN[i] if s is None else s for i, s in enumerate(sigmas)])
    free = np.flatnonzero(said > 0)
    by = np.zeros(6)
    for _ in range(_STEPS):
        off, slopes = off_px(anchors, by).ravel(), _slopes(anchors, by, free)
        weight = slopes.T @ slopes / sigma_px**2
        pull = slopes.T @ off / sigma_px**2 + by[free] / said[free] ** 2
        known = weight + np.diag(1 / said[free] ** 2)
        step = -np.linalg.solve(known, pull)
        by[free] += np.clip(step, -1.0 * _UNKNOWN[free], _UNKNOWN[free])
        if np.abs(step).max() < 1e-9:
            break
    scale = np.where(free < 3, 10.0, 0.1)  # metres and radians of one size, seen from ten metres
    asked = [i for i, f in enumerate(free) if sigmas[int(f)] is None]
    if asked and np.linalg.cond((weight * np.outer(scale, scale))[np.ix_(asked, asked)]) > (
        _CONDITION_MAX
    ):
        raise InputError("the places do not say it: two or more are needed, far from each other")
    rest = off_px(anchors, by)
    spare = max(rest.size - len(asked), 1)
    worse = max(1.0, float((rest**2).sum()) / sigma_px**2 / spare)
    cov = np.zeros((6, 6))
    cov[np.ix_(free, free)] = np.linalg.inv(weight / worse + np.diag(1 / said[free] ** 2))
    return Fitted(by, cov, rest)


def off_px(anchors: Sequence[Anchor], by: Float64) -> Float64:
    """[N, 2] pixels from where places were found to where displaced cameras see them.

    Raises:
        InputError: a place is behind its camera.
    """
    seen = []
    for anchor in anchors:
        pixel, depth = anchor.model.displaced(by).project(anchor.point[None])
        if depth[0] <= 0:
            raise InputError(
                f"a place at {anchor.point.round(1).tolist()} m, found at pixel "
                f"{anchor.pixel}, is behind the camera that telemetry says"
            )
        seen.append(pixel[0] - anchor.pixel)
    return np.array(seen)


def _slopes(anchors: Sequence[Anchor], by: Float64, free: NDArray[np.int64]) -> Float64:
    """Derivative [2 N, F] of `off_px`."""
    columns = []
    for axis in free:
        step = np.zeros(6)
        step[axis] = 1e-4
        ahead, behind = off_px(anchors, by + step), off_px(anchors, by - step)
        columns.append((ahead - behind).ravel() / 2e-4)
    return np.stack(columns, 1)
