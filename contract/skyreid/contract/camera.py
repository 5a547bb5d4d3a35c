"""Camera model and site frame: from a pixel to metres on the ground, with its uncertainty.

The site frame is a local tangent plane: x east, y north, z up, metres, ground at z = 0. A camera is
an ideal pinhole: x right, y down, z forward, pixel centres at half-integers. See Hartley and
Zisserman, Multiple View Geometry, chapter 6.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError, reason
from skyreid.contract.rotation import turn, turned_by
from skyreid.contract.sighting import Ground, View

Float64 = NDArray[np.float64]

ASPECT_SHARE = 0.015
"""By so much may the aspect ratio of a scaled picture differ: sides are multiples of 8 or 16."""


@dataclass(frozen=True)
class Plane:
    """A plane of the site: z = height + east_slope x + north_slope y."""

    height_m: float = 0.0
    east_slope: float = 0.0
    north_slope: float = 0.0

    def up(self, east_m: float, north_m: float) -> float:
        """Its height at a place."""
        return self.height_m + self.east_slope * east_m + self.north_slope * north_m

    def raised(self, by_m: float) -> Plane:
        """The plane so much above it."""
        return Plane(self.height_m + by_m, self.east_slope, self.north_slope)


FLAT = Plane()
"""The ground, where nothing else is known."""


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A pinhole camera at one moment.

    ``matrix`` [3, 3] is K in pixels, ``rotation`` [3, 3] turns site axes into camera axes and
    ``translation`` [3] follows it: x_camera = rotation @ x_site + translation.
    """

    matrix: Float64
    rotation: Float64
    translation: Float64
    width_px: int
    height_px: int

    @cached_property
    def position(self) -> Float64:
        """[3] metres in the site frame, read-only."""
        centre: Float64 = -self.rotation.T @ self.translation
        centre.flags.writeable = False
        return centre

    def project(self, points: Float64) -> tuple[Float64, Float64]:
        """Site points [N, 3] -> pixels [N, 2] and depth [N] in metres.

        Pixels are meaningless where the depth is not positive.
        """
        seen = points @ self.rotation.T + self.translation
        depth = seen[:, 2]
        safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        pixels = (seen / safe[:, None]) @ self.matrix.T
        return pixels[:, :2], depth

    def scaled(self, width_px: int, height_px: int) -> CameraModel | None:
        """The camera whose pictures have another size; None where that is no scaled picture.

        A substream has the same picture in fewer pixels, give or take the rounding of its sides to
        those that a codec takes. Another aspect ratio is a picture that was cut or squeezed, and
        nobody says which.
        """
        if (width_px, height_px) == (self.width_px, self.height_px):
            return self
        if not same_picture((width_px, height_px), (self.width_px, self.height_px)):
            return None
        scale = np.diag([width_px / self.width_px, height_px / self.height_px, 1.0])
        matrix = scale @ self.matrix
        return CameraModel(matrix, self.rotation, self.translation, width_px, height_px)

    def displaced(self, by: Float64) -> CameraModel:
        """The camera moved by [3] metres of the site and turned by [3] radians.

        Both in one vector [6]; turns are about its own axes (right, down, forward).
        """
        rotation = turn(by[3:]) @ self.rotation
        place = self.position + by[:3]
        return CameraModel(self.matrix, rotation, -rotation @ place, self.width_px, self.height_px)

    def displacement(self, other: CameraModel) -> Float64:
        """The [6] by which `displaced` puts this camera where another one is."""
        turned = turned_by(other.rotation @ self.rotation.T)
        return np.concatenate([other.position - self.position, turned])

    def toward(self, other: CameraModel, share: float) -> CameraModel:
        """Between this camera (0) and another one (1): on a line, turning evenly (slerp)."""
        there = self.displaced(share * self.displacement(other))
        matrix = self.matrix + share * (other.matrix - self.matrix)
        return CameraModel(matrix, there.rotation, there.translation, self.width_px, self.height_px)

    def ray(self, x_px: float, y_px: float) -> Float64:
        """Direction [3] in the site frame of the ray through a pixel (not normalised)."""
        direction: Float64 = self._site_from_pixel @ np.array([x_px, y_px, 1.0])
        return direction

    @cached_property
    def _site_from_pixel(self) -> Float64:
        """[3, 3]: made once, a frame asks three times a person."""
        turned: Float64 = self.rotation.T @ np.linalg.inv(self.matrix)
        return turned

    def ground_point(self, x_px: float, y_px: float, plane: Plane = FLAT) -> Float64 | None:
        """East and north [2] where the pixel's ray comes down to a plane.

        None where it does not (at or above the horizon, or the camera is below it).
        """
        # Number by number: of three numbers numpy takes longer to begin than to end.
        east, north, up = self.ray(x_px, y_px).tolist()
        east_m, north_m, up_m = self.position.tolist()
        falls = up - plane.east_slope * east - plane.north_slope * north
        if falls >= -1e-6 * math.hypot(east, north, up):
            return None
        over_m = up_m - plane.up(east_m, north_m)
        if over_m <= 0:
            return None
        return np.array([east_m - east * over_m / falls, north_m - north * over_m / falls])

    def ground(
        self,
        x_px: float,
        y_px: float,
        *,
        sigma_px: float,
        sigma_m: float,
        range_max_m: float,
        plane: Plane = FLAT,
    ) -> Ground | None:
        """Ground position of a foot point with its covariance, first order.

        Args:
            x_px: column of the foot point.
            y_px: row of the foot point.
            sigma_px: standard deviation of the foot point in the picture, both axes.
            sigma_m: standard deviation added on the ground, both axes (pose and plane errors).
            range_max_m: beyond this distance from the camera the answer is None: near the horizon
                one pixel is worth tens of metres.
            plane: the ground.
        """
        here = self.ground_point(x_px, y_px, plane)
        if here is None or math.dist(here.tolist(), self.position[:2].tolist()) > range_max_m:
            return None
        step = 0.5
        right = self.ground_point(x_px + step, y_px, plane)
        below = self.ground_point(x_px, y_px + step, plane)
        if right is None or below is None:
            return None
        jacobian = np.stack([right - here, below - here], 1) / step  # [2, 2] metres per pixel
        (ee, en), (_, nn) = (jacobian @ jacobian.T).tolist()
        square, rest = sigma_px**2, sigma_m**2
        east_m, north_m = here.tolist()
        return Ground(east_m, north_m, ee * square + rest, en * square, nn * square + rest)


@dataclass(frozen=True, eq=False)
class Pose:
    """A camera at the moment of a frame, in its pixels, and how far it may be off."""

    model: CameraModel
    cov: Float64 | None = None
    """[6, 6] of what it may be `displaced` by, m² and rad². None = surveyed: what it may be off is
    part of what is assumed of a foot point."""
    motion: Float64 | None = None
    """[3, 3] from pixels of the frame before to pixels of this one, for what stands on the ground;
    None = the camera stood still, or nobody knows."""


def moved(before: CameraModel, after: CameraModel, height_m: float) -> Float64:
    """Homography [3, 3] that takes pixels of a camera to those of it elsewhere.

    Of what lies ``height_m`` above the ground (Hartley and Zisserman, section 13.1).
    """

    def seen(model: CameraModel) -> Float64:
        up = model.rotation[:, 2] * height_m + model.translation
        plane: Float64 = model.matrix @ np.column_stack([model.rotation[:, :2], up])
        return plane

    taken: Float64 = seen(after) @ np.linalg.inv(seen(before))
    scaled: Float64 = taken / taken[2, 2]
    return scaled


def same_picture(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two widths and heights can be those of one picture, scaled."""
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= ASPECT_SHARE


@dataclass(frozen=True, eq=False)
class CameraPoses:
    """A camera's models over a recording: one for a fixed camera, one per frame for a moving one.

    ``frames`` are frame numbers from 1, ascending.
    """

    view: View
    fps: float
    frames: tuple[int, ...]
    models: tuple[CameraModel, ...]

    def at(self, time_s: float) -> CameraModel:
        """The model in force ``time_s`` seconds after the first frame (the latest not after it)."""
        frame = round(time_s * self.fps, 3) + 1.0
        index = bisect_right(self.frames, frame + 0.5) - 1
        return self.models[max(index, 0)]


def read_poses(path: Path, camera: str) -> CameraPoses:
    """Read one camera's poses from a calibration file.

    The file is JSON: ``{"1": {"width", "height", "fps", "kind": "aerial" | "ground", "frames":
    [{"frame": 1, "K": 3x3, "R": 3x3, "t": [3]}, ...]}, ...}``; camera ``cam1`` is entry ``1``.

    Raises:
        InputError: the file or the entry cannot be used.
    """
    try:
        table = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"camera poses {path}: {reason(error, path)}") from error
    if not isinstance(table, dict):
        raise InputError(f"camera poses {path}: not a JSON object by camera")
    name = camera.removeprefix("cam")
    if name not in table:
        raise InputError(
            f"camera poses {path}: no camera {camera!r}, it has {sorted(table)!r:.200}"
        )
    entry = table[name]
    try:
        size = int(entry["width"]), int(entry["height"])
        rows = sorted(entry["frames"], key=lambda row: int(row["frame"]))
        models = tuple(
            CameraModel(
                np.asarray(row["K"], float).reshape(3, 3),
                np.asarray(row["R"], float).reshape(3, 3),
                np.asarray(row["t"], float).reshape(3),
                *size,
            )
            for row in rows
        )
        if not models:
            raise ValueError("no frames")
        _require_usable(models, size)
        frames = tuple(int(row["frame"]) for row in rows)
        fps = float(entry["fps"])
        if not 0 < fps <= _FPS_MAX or max(map(abs, frames)) > _FRAME_MAX:
            raise ValueError(f"fps {fps:g}, or a frame beyond {_FRAME_MAX}")
        return CameraPoses(View.of(entry["kind"]), fps, frames, models)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"camera poses {path}, camera {camera}: {error!r:.300}") from error


_SIDE_MAX_PX, _FPS_MAX, _FRAME_MAX = 1 << 16, 1000.0, 1 << 40


def _require_usable(models: Sequence[CameraModel], size: tuple[int, int]) -> None:
    if not all(0 < side <= _SIDE_MAX_PX for side in size):
        raise ValueError(f"a picture of {size[0]} x {size[1]} pixels")
    numbers = [np.concatenate([m.matrix, m.rotation, m.translation[None]]) for m in models]
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e9:
        raise ValueError("a number beyond 1e9, or none")
    if np.abs(np.linalg.det([m.matrix for m in models])).min() < 1e-9:
        raise ValueError("a matrix K that no pixel's ray can be found with")


def write_poses(path: Path, cameras: Mapping[str, CameraPoses]) -> None:
    """Write a calibration file that ``read_poses`` reads; keys are camera names (``cam1``)."""
    table = {
        name.removeprefix("cam"): {
            "width": poses.models[0].width_px,
            "height": poses.models[0].height_px,
            "fps": poses.fps,
            "kind": poses.view.word,
            "frames": _rows(poses.frames, poses.models),
        }
        for name, poses in cameras.items()
    }
    path.write_text(json.dumps(table) + "\n")


def _rows(frames: Sequence[int], models: Sequence[CameraModel]) -> list[dict[str, Any]]:
    return [
        {
            "frame": frame,
            "K": model.matrix.tolist(),
            "R": model.rotation.tolist(),
            "t": model.translation.tolist(),
        }
        for frame, model in zip(frames, models, strict=True)
    ]
