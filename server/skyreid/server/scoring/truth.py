"""What a clip's people really did: boxes of truth, who counts, and whose each tracked box is.

A clip keeps one ``gt/cam{n}.txt`` per camera, MOTChallenge rows with the visibility in column 9 and
person numbers that are the same in every camera. Who is a don't-care, and from which overlap on a
box is a person's, is the rule of ``bundle/recall.py``, which also counts the detector. Tracks are
matched otherwise, as the tracking metrics ask: without scores, for the largest sum of overlaps
(Hungarian), don't-cares along with the others; then these are removed together with the boxes that
matched them, which is how MOT17 handles its distractors (Milan et al., arXiv:1603.00831).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from skyreid.bundle.detections import iou
from skyreid.bundle.recall import IOU_MIN, cared
from skyreid.contract.errors import InputError
from skyreid.contract.recording import MotRows, read_mot

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
    counts = cared(rows.box_xyxy, rows.visibility)
    return CameraTruth(rows.frame, rows.identity, rows.box_xyxy, counts)


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
        overlap = iou(truth.box_xyxy[theirs], box_xyxy[mine])
        overlap[overlap < IOU_MIN] = 0.0
        left, right = linear_sum_assignment(-overlap)
        fits = overlap[left, right] > 0.0
        row[mine[right[fits]]] = theirs[left[fits]]
    ignored = (row >= 0) & ~truth.cared[row] if len(truth.cared) else np.zeros(len(row), bool)
    return Matched(row, ignored)
