"""Constant-velocity Kalman filter of a person's box, in seconds and not in frames.

Each of centre x, centre y, width and height is filtered by itself: position and velocity, driven by
white noise in the acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to
Tracking and Navigation", section 6.2.2). All noise is in proportion to the box's height, because a
person's height is what one metre is worth in pixels there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Standard deviations as fractions of the box's height."""

    centre: float = 0.04
    """Measured centre."""
    width: float = 0.06
    """Measured width: legs and arms swing."""
    height: float = 0.05
    """Measured height."""
    speed: float = 0.8
    """First guess of the velocity, per second: a person walks about one height a second."""
    acceleration: float = 0.8
    """Of the centre, per s^1.5 (the root of a spectral density)."""
    growth: float = 0.2
    """Of width and height, per s^1.5."""


@dataclass(frozen=True, eq=False)
class State:
    """One box's estimate.

    ``mean`` [4, 2]: value in pixels and velocity in pixels per second of centre x, centre y, width
    and height; ``cov`` [4, 2, 2] their covariances.
    """

    mean: Float64
    cov: Float64

    @property
    def box(self) -> Float64:
        """[4] x0, y0, x1, y1."""
        return to_corners(self.mean[:, 0])


def to_centre(box: NDArray[np.floating]) -> Float64:
    """x0, y0, x1, y1 [..., 4] -> centre x, centre y, width, height."""
    low, high = box[..., :2].astype(np.float64), box[..., 2:].astype(np.float64)
    return np.concatenate([(low + high) / 2, high - low], -1)


def to_corners(values: Float64) -> Float64:
    """Inverse of ``to_centre``; a size below one pixel becomes one."""
    half = np.maximum(values[..., 2:], 1.0) / 2
    return np.concatenate([values[..., :2] - half, values[..., :2] + half], -1)


def start(box: NDArray[np.floating], noise: Noise) -> State:
    """The state after the first box [4]."""
    values = to_centre(box)
    height = values[3]
    mean = np.stack([values, np.zeros(4)], 1)
    cov = np.zeros((4, 2, 2))
    cov[:, 0, 0] = _measured(height, noise)
    cov[:, 1, 1] = (np.array([1.0, 1.0, 0.25, 0.25]) * noise.speed * height) ** 2
    return State(mean, cov)


def predict(state: State, step_s: float, noise: Noise) -> State:
    """The state ``step_s`` seconds later."""
    move = np.array([[1.0, step_s], [0.0, 1.0]])
    drive = np.array([[step_s**3 / 3, step_s**2 / 2], [step_s**2 / 2, step_s]])
    height = max(float(state.mean[3, 0]), 1.0)
    density = np.array([noise.acceleration] * 2 + [noise.growth] * 2) * height
    mean = state.mean @ move.T
    cov = move @ state.cov @ move.T + density[:, None, None] ** 2 * drive
    return State(mean, cov)


def update(state: State, box: NDArray[np.floating], noise: Noise, trust: float = 1.0) -> State:
    """The state after a measured box [4].

    Args:
        state: prediction for the time of the box.
        box: x0, y0, x1, y1 in pixels.
        noise: of the measurement.
        trust: the measurement's variance is divided by it (a weak detection is less exact).
    """
    values = to_centre(box)
    variance = _measured(values[3], noise) / trust
    gain = state.cov[:, :, 0] / (state.cov[:, 0, 0] + variance)[:, None]  # [4, 2]
    residual = values - state.mean[:, 0]
    mean = state.mean + gain * residual[:, None]
    cov = state.cov - gain[:, :, None] * state.cov[:, None, 0, :]
    return State(mean, cov)


def distance(states: list[State], boxes: NDArray[np.floating], noise: Noise) -> Float64:
    """Squared Mahalanobis distance [N, M] of boxes [M, 4] from predictions, 4 dimensions."""
    if not states or not len(boxes):
        return np.zeros((len(states), len(boxes)))
    values = to_centre(boxes)  # [M, 4]
    mean = np.stack([s.mean[:, 0] for s in states])  # [N, 4]
    spread = np.stack([s.cov[:, 0, 0] for s in states])
    variance = spread[:, None] + _measured(mean[:, 3], noise)[:, None]  # [N, 1, 4]
    total: Float64 = ((values[None] - mean[:, None]) ** 2 / variance).sum(2)
    return total


def _measured(height: NDArray[np.float64] | np.float64, noise: Noise) -> Float64:
    """Variances [..., 4] of a measured box of this height in pixels."""
    share = np.array([noise.centre, noise.centre, noise.width, noise.height])
    result: Float64 = (np.maximum(height, 1.0)[..., None] * share) ** 2
    return result


def move(state: State, affine: Float64) -> State:
    """The state after the picture itself moved by an affine [2, 3] (the camera turned or flew)."""
    mean = state.mean.copy()
    mean[:2, 0] = affine[:, :2] @ state.mean[:2, 0] + affine[:, 2]
    mean[:2, 1] = affine[:, :2] @ state.mean[:2, 1]
    return State(mean, state.cov)
