"""Draws what a device makes of a frame: boxes, tracks, crops kept or not, the ground grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel
from skyreid.edge.people.quality import Judged
from skyreid.edge.people.tracker import Track

UInt8 = NDArray[np.uint8]
Colour = tuple[int, int, int]
Up = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

KEPT: Colour = (70, 210, 110)
"""RGB, as the others: this crop goes into the person's embedding."""
LEFT: Colour = (245, 190, 60)
"""Followed; this crop is not kept."""
UNTOLD: Colour = (240, 90, 70)
"""Followed, and not believed to be somebody yet: nothing is said of it."""
FOUND: Colour = (150, 150, 150)
"""Only a detection, too weak to be followed."""
GRID: Colour = (90, 170, 230)
LANDMARK: Colour = (255, 60, 200)
STEPS_M = (1, 2, 5, 10, 20, 50)
LINES_MAX = 24
"""Grid lines of one direction at most; then the next step."""
REACH_M = 80.0
"""The grid ends so far from the camera."""


def sketch(
    picture: UInt8,
    *,
    detections: Sequence[Sequence[float]],
    tracks: Sequence[Track],
    judged: Mapping[int, Judged],
    model: CameraModel | None,
    line: str,
    landmarks: Sequence[NDArray[np.float64]] = (),
    up: Up | None = None,
) -> UInt8:
    """A copy of a picture with everything drawn onto it.

    Args:
        picture: uint8 [H, W, 3] RGB.
        detections: x0, y0, x1, y1 each, in pixels.
        tracks: whoever is followed.
        judged: what became of their crops, by track.
        model: where the camera stands and looks; None = no grid.
        line: written below.
        landmarks: points [3] of the site, which the picture should show where they are drawn.
        up: heights of the ground at places east and north; None = it is flat.
    """
    drawn = np.ascontiguousarray(picture)
    drawn = drawn.copy() if drawn is picture else drawn
    thick = max(1, round(drawn.shape[0] / 400))
    if model is not None:
        _grid(drawn, model, up)
        for number, point in enumerate(landmarks, 1):
            _landmark(drawn, model, point, number)
    for x0, y0, x1, y1 in detections:
        cv2.rectangle(drawn, (int(x0), int(y0)), (int(x1), int(y1)), FOUND, 1)
    for track in tracks:
        if not track.detected:
            continue
        said = judged.get(track.number)
        colour = UNTOLD if not track.confirmed else KEPT if said and said.kept else LEFT
        x0, y0, x1, y1 = (int(v) for v in track.box_xyxy)
        cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, thick + 1)
        _label(drawn, f"{track.number}{_verdict(said)}", x0, y0, colour)
    _label(drawn, line, 0, drawn.shape[0], (235, 235, 235))
    return drawn


def _verdict(said: Judged | None) -> str:
    if said is None:
        return ""
    return f" {said.quality:.2f}" + ("" if said.kept else f" {said.why}")


def _label(drawn: UInt8, text: str, x: int, y: int, colour: Colour) -> None:
    """Text on a dark ground, its lower left corner at a point, inside of the picture."""
    size = max(0.35, drawn.shape[0] / 1600)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = max(0, min(x, drawn.shape[1] - width - 4))
    y = max(height + base + 2, min(y, drawn.shape[0]))
    cv2.rectangle(drawn, (x, y - height - base - 2), (x + width + 4, y), (15, 18, 22), -1)
    at = x + 2, y - base
    cv2.putText(drawn, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _landmark(drawn: UInt8, model: CameraModel, point: NDArray[np.float64], number: int) -> None:
    """A cross; at the edge that it lies beyond, or below the middle, if the picture misses it."""
    pixels, depth = model.project(point[None])
    height, width = drawn.shape[:2]
    x, y = (float(v) for v in pixels[0])
    inside = depth[0] > 0 and 0 <= x < width and 0 <= y < height
    if depth[0] <= 0:
        x, y = width / 2, float(height)
    at = (int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1)))
    size = max(12, height // 20)
    cv2.drawMarker(drawn, at, LANDMARK, cv2.MARKER_CROSS, size, 2, cv2.LINE_AA)
    where = "" if inside else " is behind the camera" if depth[0] <= 0 else " is beyond the picture"
    _label(drawn, f"landmark {number}{where}", at[0] + 6, at[1] - 6, LANDMARK)


def _grid(drawn: UInt8, model: CameraModel, up: Up | None) -> None:
    lines, step_m = ground_grid(model)
    height, width = drawn.shape[:2]
    for line in lines:
        if up is not None:
            line[:, 2] = np.nan_to_num(up(line[:, 0], line[:, 1]))
        pixels, depth = model.project(line)
        near = (np.abs(pixels) < 4 * max(width, height)).all(1) & (depth > 0)
        for a, b, shown in zip(pixels[:-1], pixels[1:], near[:-1] & near[1:], strict=True):
            if shown:
                start, end = (int(a[0]), int(a[1])), (int(b[0]), int(b[1]))
                cv2.line(drawn, start, end, GRID, 1, cv2.LINE_AA)
    if lines:
        _label(drawn, f"ground grid {step_m} m", 0, 0, GRID)


def ground_grid(model: CameraModel) -> tuple[list[NDArray[np.float64]], int]:
    """Lines on the ground that the camera sees, float64 [N, 3] in metres each, and their step."""
    columns = np.linspace(0, model.width_px - 1, 9)
    rows = np.linspace(0, model.height_px - 1, 9)
    east0, north0, _ = model.position
    seen = [
        point
        for x in columns
        for y in rows
        if (point := model.ground_point(float(x), float(y))) is not None
        and np.hypot(point[0] - east0, point[1] - north0) <= REACH_M
    ]
    if not seen:
        return [], 0
    low, high = np.min(seen, 0)[:2], np.max(seen, 0)[:2]
    step_m = next((s for s in STEPS_M if (high - low).max() / s <= LINES_MAX), STEPS_M[-1])
    low, high = np.floor(low / step_m) * step_m, np.ceil(high / step_m) * step_m
    lines = []
    for axis in (0, 1):
        along = np.linspace(low[1 - axis], high[1 - axis], 60)
        for at in np.arange(low[axis], high[axis] + step_m / 2, step_m):
            line = np.zeros((len(along), 3))
            line[:, axis], line[:, 1 - axis] = at, along
            lines.append(line)
    return lines, step_m
