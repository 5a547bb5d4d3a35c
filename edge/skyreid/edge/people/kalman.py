"""Constant-velocity Kalman filter of a person's box, in seconds and not in frames.

Each of centre x, centre y, width and height is filtered by itself: position and velocity, driven by
white noise in the acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to
Tracking and Navigation", section 6.2.2). All noise is in proportion to the box's height, because a
person's height is what one metre is worth in pixels there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Standard deviations as fractions of the box's height."""

    centre: float = 0.055
    """Measured centre."""
    width: float = 0.09
    """Measured width: legs and arms swing."""
    height: float = 0.12
    """Measured height."""
    speed: float = 0.8
    """First guess of the velocity, per second: a person walks about one height a second."""
    acceleration: float = 0.5
    """Of the centre, per s^1.5 (the root of a spectral density)."""
    growth: float = 0.1
    """Of width and height, per s^1.5."""


@dataclass(frozen=True, eq=False)
class State:
    """The estimates of N boxes.

    ``mean`` [N, 4, 2]: value in pixels and velocity in pixels per second of centre x, centre y,
    width and height; ``cov`` [N, 4, 2, 2] their covariances.
    """

    mean: Float64
    cov: Float64

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, chosen: NDArray[np.integer] | NDArray[np.bool_] | list[int]) -> State:
        return State(self.mean[chosen], self.cov[chosen])

    @property
    def boxes(self) -> Float64:
        """[N, 4] x0, y0, x1, y1."""
        return to_corners(self.mean[:, :, 0])


def to_centre(boxes: NDArray[np.floating]) -> Float64:
    """x0, y0, x1, y1 [..., 4] -> centre x, centre y, width, height."""
    low, high = boxes[..., :2].astype(np.float64), boxes[..., 2:].astype(np.float64)
    return np.concatenate([(low + high) / 2, high - low], -1)


def to_corners(values: Float64) -> Float64:
    """Inverse of ``to_centre``; a size below one pixel becomes one."""
    half = np.maximum(values[..., 2:], 1.0) / 2
    return np.concatenate([values[..., :2] - half, values[..., :2] + half], -1)


def start(boxes: NDArray[np.floating], noise: Noise) -> State:
    """The states after the first boxes [N, 4]."""
    values = to_centre(boxes)
    mean = np.stack([values, np.zeros_like(values)], 2)
    cov = np.zeros((len(values), 4, 2, 2))
    cov[:, :, 0, 0] = _measured(values[:, 3], noise)
    cov[:, :, 1, 1] = (values[:, 3:] * noise.speed * np.array([1.0, 1.0, 0.25, 0.25])) ** 2
    return State(mean, cov)


def predict(state: State, step_s: float, noise: Noise) -> State:
    """The states ``step_s`` seconds later."""
    if not len(state):
        return state
    drive = np.array([[step_s**3 / 3, step_s**2 / 2], [step_s**2 / 2, step_s]])
    density = np.maximum(state.mean[:, 3:, 0], 1.0) * _shares(noise)[1]  # [N, 4]
    mean, cov = state.mean.copy(), state.cov.copy()
    # F P F' with F = [[1, step_s], [0, 1]]: numpy multiplies stacks of 2 x 2 one by one.
    mean[..., 0] += step_s * mean[..., 1]
    cov[..., 0, :] += step_s * cov[..., 1, :]
    cov[..., 0] += step_s * cov[..., 1]
    cov += (density * density)[..., None, None] * drive
    return State(mean, cov)


def update(state: State, boxes: NDArray[np.floating], noise: Noise) -> State:
    """The states after measured boxes [N, 4]; ``state`` is the prediction for their time."""
    values = to_centre(boxes)
    variance = _measured(values[:, 3], noise)
    gain = state.cov[..., 0] / (state.cov[..., 0, 0] + variance)[..., None]  # [N, 4, 2]
    residual = values - state.mean[..., 0]
    mean = state.mean + gain * residual[..., None]
    cov = state.cov - gain[..., :, None] * state.cov[..., None, 0, :]
    return State(mean, cov)


def move(state: State, homography: Float64) -> State:
    """The states after the picture moved by a homography [3, 3] (the camera turned or flew).

    Places go where it takes them, velocities with its derivative there, sizes with the root of that
    one's determinant. What it takes to infinity or beyond stays as it is.
    """
    mean, cov = state.mean.copy(), state.cov.copy()
    at = np.column_stack([state.mean[:, :2, 0], np.ones(len(state))]) @ homography.T  # [N, 3]
    seen = at[:, 2] > 1e-6
    at, weight = at[seen], at[seen, 2, None]
    there = at[:, :2] / weight
    slope = (homography[None, :2, :2] - there[:, :, None] * homography[2, :2]) / weight[
        ..., None
    ]  # [N, 2, 2]
    scale = np.sqrt(np.abs(np.linalg.det(slope)))[:, None, None]
    mean[seen, :2, 0] = there
    mean[seen, :2, 1] = np.einsum("nij,nj->ni", slope, state.mean[seen, :2, 1])
    mean[seen, 2:] *= scale
    cov[seen] *= scale[..., None] ** 2
    return State(mean, cov)


def distance(state: State, boxes: NDArray[np.floating], noise: Noise) -> Float64:
    """Squared Mahalanobis distance [N, M] of boxes [M, 4] from predictions, 4 dimensions."""
    mean = state.mean[..., 0]  # [N, 4]
    variance = state.cov[..., 0, 0] + _measured(mean[:, 3], noise)
    away = to_centre(boxes)[None] - mean[:, None]  # [N, M, 4]
    total: Float64 = (away**2 / variance[:, None]).sum(2)
    return total


def doubt(state: State, noise: Noise) -> Float64:
    """How unsure each prediction is, [N]: 0 where all is the detector's own noise.

    Log of the ratio of the determinants, the other half of a Gaussian's log-likelihood: by
    `distance` alone, whoever was not seen for a while is near to everything.
    """
    variance = _measured(state.mean[:, 3, 0], noise)
    total: Float64 = np.log1p(state.cov[..., 0, 0] / variance).sum(1)
    return total


def join(first: State, second: State) -> State:
    """The states of both, in order."""
    return State(np.concatenate([first.mean, second.mean]), np.concatenate([first.cov, second.cov]))


def nothing() -> State:
    """No state at all."""
    return State(np.zeros((0, 4, 2)), np.zeros((0, 4, 2, 2)))


def _measured(height: Float64, noise: Noise) -> Float64:
    """Variances [N, 4] of measured boxes of these heights [N] in pixels."""
    result: Float64 = (np.maximum(height, 1.0)[:, None] * _shares(noise)[0]) ** 2
    return result


@lru_cache(maxsize=8)
def _shares(noise: Noise) -> tuple[Float64, Float64]:
    """Of a measurement and of the acceleration, [4] each."""
    return (
        np.array([noise.centre, noise.centre, noise.width, noise.height]),
        np.array([noise.acceleration] * 2 + [noise.growth] * 2),
    )
