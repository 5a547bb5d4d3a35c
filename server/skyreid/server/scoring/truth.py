"""What a clip's people really did: boxes of truth, who counts, and which box belongs to whom.

A clip keeps one ``gt/cam{n}.txt`` per camera, MOTChallenge rows with the visibility in column 9 and
person numbers that are the same in every camera. People who can hardly be seen are *don't-care*:
to find them is not right and to miss them is not wrong. They take part in the matching and are then
removed together with the boxes that matched them, which is how MOT17 handles its distractors
(Milan et al., MOT16: A benchmark for multi-object tracking, arXiv:1603.00831).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from skyreid.contract.errors import InputError
from skyreid.contract.recording import MotRows, read_mot

VISIBILITY_MIN = 0.5
HEIGHT_MIN_PX = 24.0
IOU_MIN = 0.5

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CameraTruth:
    """The people of one camera, one row per person and frame.

    frame int64 [N] (from 1, ascending), person int64 [N], box_xyxy float64 [N, 4] in pixels, cared
    bool [N]: False for a don't-care.
    """

    frame: Int64
    person: Int64
    box_xyxy: Float64
    cared: Bool


@dataclass(frozen=True, eq=False)
class Matched:
    """Boxes against one camera's truth.

    row int64 [N]: index of the truth row that the box matched, -1 for none. ignored bool [N]: the
    row is a don't-care, so the box is neither right nor wrong.
    """

    row: Int64
    ignored: Bool


def read_truth(clip: Path) -> dict[str, CameraTruth]:
    """Truth of every camera of a clip, by the camera's name (``cam1``).

    Raises:
        InputError: the clip has no truth, or a file of it cannot be used.
    """
    files = sorted((clip / "gt").glob("cam*.txt"))
    if not files:
        raise InputError(f"clip {clip}: no gt/cam*.txt in it, so there is no truth to compare with")
    return {path.stem: _camera(read_mot(path, truth=True), path) for path in files}


def _camera(rows: MotRows, path: Path) -> CameraTruth:
    seen = np.stack([rows.frame, rows.identity], 1)
    if len(np.unique(seen, axis=0)) < len(seen):
        raise InputError(f"truth {path}: a person has two boxes in one frame")
    height = rows.box_xyxy[:, 3] - rows.box_xyxy[:, 1]
    cared = (rows.visibility >= VISIBILITY_MIN) & (height >= HEIGHT_MIN_PX)
    return CameraTruth(rows.frame, rows.identity, rows.box_xyxy, cared)


def overlaps(truth_xyxy: Float64, boxes_xyxy: Float64) -> Float64:
    """Intersection over union of boxes [T, 4] and [N, 4], pixels -> [T, N]."""
    low = np.maximum(truth_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
    high = np.minimum(truth_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), 2)
    areas = _areas(truth_xyxy)[:, None] + _areas(boxes_xyxy)[None, :] - common
    iou: Float64 = common / np.maximum(areas, 1e-12)
    return iou


def _areas(boxes: Float64) -> Float64:
    area: Float64 = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), 1)
    return area


def match(truth: CameraTruth, frame: Int64, box_xyxy: Float64) -> Matched:
    """Match boxes to truth, frame by frame, one to one, for the largest sum of overlaps.

    Args:
        truth: of the same camera.
        frame: int64 [N], from 1.
        box_xyxy: float64 [N, 4], pixels.
    """
    row = np.full(len(frame), -1, np.int64)
    for number in np.unique(frame):
        mine = np.flatnonzero(frame == number)
        theirs = np.flatnonzero(truth.frame == number)
        iou = overlaps(truth.box_xyxy[theirs], box_xyxy[mine])
        iou[iou < IOU_MIN] = 0.0
        left, right = linear_sum_assignment(-iou)
        fits = iou[left, right] > 0.0
        row[mine[right[fits]]] = theirs[left[fits]]
    ignored = (row >= 0) & ~truth.cared[row] if len(truth.cared) else np.zeros(len(row), bool)
    return Matched(row, ignored)
