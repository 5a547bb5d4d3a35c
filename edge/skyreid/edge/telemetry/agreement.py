"""Lag of a drone's telemetry, and whether it agrees with the picture: one motion laid over another.

What the picture does (`video.motion`) and what it would do by the poses that were said are two
paths of the same kind: right, down and clockwise, in widths of the picture. The one is the other,
later. A least squares fit moves it in time, with a slow drift of the picture's path and one factor
free: the time is the lag, its curvature says how well it is known (Draper and Smith, Applied
Regression Analysis, chapter 24), and a factor far from one says that telemetry and picture are not
of one camera, or that an angle has the wrong sign or is counted from elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel, moved
from skyreid.edge.video.motion import middle_motion

Float64 = NDArray[np.float64]

WINDOW_S = 20.0
"""So much of the past is looked at."""
_LEAST_S = 8.0
"""With less nothing is said."""
_LAGS_S = np.arange(-0.3, 1.201, 0.02)
_SPACING_S = 0.09
"""Of packets that come faster some are left out."""
_DRIFT = 2
"""Degree of the polynomial by which the picture's path may drift."""
_WIDER = 1.6
"""What of 60 flights with drawn errors the spread was, over what curvature says (docs/LOG.md)."""
_LOW_M = 1.0
"""Whoever is lower is not above the ground that is seen."""
_ERROR_MAX_S = 0.06
"""A lag that is known worse is not known."""
_OTHER_MIN = 16.0
"""By how much, in variances, another time must fit worse that is no neighbour: else either may be
the right one."""
_FACTOR_ERROR_MAX = 0.1
_FACTORS = (0.5, 2.0)
_NOISES_MAX = 3.0
_AXES = ("yaw", "pitch", "roll")


@dataclass(frozen=True)
class Agreement:
    """What the two paths say of each other."""

    lag_s: float | None
    """By which a pose is older than its time stamp; None = motion did not tell."""
    error_s: float
    """Standard deviation of that."""
    fault: str
    """What they disagree in; empty = nothing, or nothing moved."""


class Comparison:
    """Collects the picture's path, and fits poses to it."""

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self._path: deque[Float64] = deque()

    def clear(self) -> None:
        """Forget the pictures."""
        self._times.clear()
        self._path.clear()

    def add(self, time_ns: int, path: Float64, *, anew: bool) -> None:
        """Take in where the picture is [3]; ``anew``: it is counted from another start."""
        if anew or (self._times and not 0 < time_ns - self._times[-1] < 1_000_000_000):
            self.clear()
        self._times.append(time_ns)
        self._path.append(path)
        while self._times[-1] - self._times[0] > (WINDOW_S + 2) * 1e9:
            self._times.popleft()
            self._path.popleft()

    def fit(
        self, times: Sequence[int], models: Sequence[CameraModel], noise: float
    ) -> Agreement | None:
        """Lay said poses over the pictures; None where there is too little of either.

        Args:
            times: time stamps in nanoseconds, ascending, on the clock of the pictures' times.
            models: of these times.
            noise: by how much poses may be off and not always the same, in widths of the picture.
        """
        if len(self._times) < 20:
            return None
        first, last = self._times[0] / 1e9, self._times[-1] / 1e9
        # Every lag is tried with the same packets.
        low, high = first + _LAGS_S[-1], last + _LAGS_S[0]
        at, said = _said_path(times, models, low, high)
        if len(at) < 20 or at[-1] - at[0] < _LEAST_S:
            return None
        zero = at.mean()
        basis = np.linalg.qr(np.vander((at - zero) / WINDOW_S, _DRIFT + 1))[0]

        def drifted(path: Float64) -> Float64:
            """Without what drifts, [3, N]."""
            left: Float64 = (path - basis @ (basis.T @ path)).T
            return left

        picture_at = np.array(self._times) / 1e9
        picture = np.array(self._path)

        def seen(lag_s: float) -> Float64:
            return drifted(
                np.stack([np.interp(at - lag_s, picture_at, p) for p in picture.T], axis=1)
            )

        return _judged(drifted(said), [seen(lag_s) for lag_s in _LAGS_S], noise)


def _judged(said: Float64, seen: Sequence[Float64], noise: float) -> Agreement:
    """The best of the lags, for paths [3, N] without drift."""
    misfit = np.array([float((_rest(said, path) ** 2).sum()) for path in seen])
    best = int(misfit.argmin())
    path = seen[best]
    factors, rest = _factors(said, path), _rest(said, path)
    free = max(said.shape[1] - _DRIFT - 2, 1)
    # Axes have errors of their own, and are weighed by them.
    variances = np.maximum((rest**2).sum(1) / free * _clumped(rest), 1e-14)
    fault = _disagreement(said, path, variances, noise)
    if fault or not 0 < best < len(_LAGS_S) - 1:
        return Agreement(None, np.inf, fault)
    weighed = np.array([float(((_rest(said, p) ** 2).sum(1) / variances).sum()) for p in seen])
    best = int(weighed.argmin())
    if not 0 < best < len(_LAGS_S) - 1:
        return Agreement(None, np.inf, "")
    step = float(_LAGS_S[1] - _LAGS_S[0])
    slope = factors[:, None] * (seen[best + 1] - seen[best - 1]) / (2 * step)
    slope = _rest(slope, path)  # what the factor explains says nothing of time
    told = float(((slope**2).sum(1) / variances * (factors > 0)).sum())
    error = float(np.hypot(_WIDER / max(told, 1e-12) ** 0.5, step / 6))
    below, here, above = weighed[best - 1 : best + 2]
    bend = below - 2 * here + above
    lag = float(_LAGS_S[best]) + (step * (below - above) / (2 * bend) if bend > 0 else 0.0)
    others = np.abs(_LAGS_S - lag) > max(4 * error, 3 * step)
    rival = float(weighed[others].min(initial=np.inf)) - float(here)
    known = error <= _ERROR_MAX_S and rival >= _OTHER_MIN
    return Agreement(lag if known else None, error if known else np.inf, "")


def _disagreement(said: Float64, path: Float64, variances: Float64, noise: float) -> str:
    """Which of the three does not go with the picture; empty where none is known not to."""
    see = "see telemetry.yaw_frame, boresight_deg, the field of view, and whose telemetry this is"
    powers, factors, rest = (path**2).sum(1), _factors(said, path), _rest(said, path)
    for axis, name in enumerate(_AXES):
        factor = float(factors[axis])
        error = float((variances[axis] / max(powers[axis], 1e-30)) ** 0.5)
        if error <= _FACTOR_ERROR_MAX and not _FACTORS[0] <= factor <= _FACTORS[1]:
            return f"telemetry says {factor:.1f} times the {name} that the picture shows: {see}"
        if float((rest[axis] ** 2).mean()) ** 0.5 > _NOISES_MAX * noise:
            return f"telemetry says a {name} that the picture does not show: {see}"
    return ""


def _factors(said: Float64, path: Float64) -> Float64:
    """[3], by which each axis of what is seen is what is said."""
    factors: Float64 = (said * path).sum(1) / np.maximum((path**2).sum(1), 1e-30)
    return factors


def _rest(said: Float64, path: Float64) -> Float64:
    """[3, N], what of the one the other does not explain."""
    rest: Float64 = said - _factors(said, path)[:, None] * path
    return rest


def _clumped(rest: Float64) -> Float64:
    """[3], by how much neighbours that err alike make a variance larger: of an AR(1) process."""
    power = np.maximum((rest**2).sum(1), 1e-30)
    alike = np.clip((rest[:, :-1] * rest[:, 1:]).sum(1) / power, 0.0, 0.95)
    larger: Float64 = (1 + alike) / (1 - alike)
    return larger


def _said_path(
    times: Sequence[int], models: Sequence[CameraModel], low_s: float, high_s: float
) -> tuple[Float64, Float64]:
    """Times [N] in seconds and path [N, 3] of a picture that moves as poses say."""
    at: list[float] = []
    path: list[Float64] = []
    before: CameraModel | None = None
    here = np.zeros(3)
    for index in range(bisect_left(times, round(low_s * 1e9)), len(times)):
        time_s = times[index] / 1e9
        if time_s > high_s:
            break
        if at and time_s - at[-1] < _SPACING_S:
            continue
        model = models[index]
        if before is not None:
            here = here + _moved(before, model)
        before = model
        at.append(time_s)
        path.append(here)
    return np.array(at), np.array(path).reshape(-1, 3)


def _moved(before: CameraModel, after: CameraModel) -> Float64:
    """How far the picture moves right and down and turns, [3], as `middle_motion` has it."""
    width = before.width_px
    middle = np.array([width / 2, before.height_px / 2, 1.0])
    low = min(before.position[2], after.position[2]) < _LOW_M
    if low or any(model.ground_point(*middle[:2]) is None for model in (before, after)):
        turned = after.rotation @ before.rotation.T  # what is far away
        homography = after.matrix @ turned @ np.linalg.inv(before.matrix)
    else:
        homography = moved(before, after, 0.0)
    return middle_motion(homography, width, before.height_px)
