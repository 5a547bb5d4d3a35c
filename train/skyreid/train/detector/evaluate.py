"""Recall and precision of a detector on clips with truth.

People who are mostly hidden or very small are don't-care, handled as MOT17 does (Milan et al.,
arXiv 1603.00831): a detection that matches one is neither right nor wrong. Detections take people
greedily, best score first, which lets one pass serve every score threshold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.train.detector.clips import NOBODY, People, View, read_frames
from skyreid.train.detector.crops import Sample
from skyreid.train.detector.decode import Float32, iou
from skyreid.train.detector.inference import Detect

IOU_MIN = 0.5
VISIBILITY_MIN = 0.5
HEIGHT_MIN_PX = 24.0


@dataclass(frozen=True)
class Tally:
    """What became of the detections of some frames."""

    scores: Float32
    """[K], of detections that are right or wrong."""
    right: NDArray[np.bool_]
    """[K]"""
    people: int
    """People who should be found."""

    def rates(self, score_min: float) -> tuple[float, float]:
        """Recall and precision (0 to 1) of the detections at or above a score."""
        chosen = self.right[self.scores >= score_min]
        found = int(chosen.sum())
        return found / max(1, self.people), found / max(1, len(chosen))


def judge(
    boxes: Float32, scores: Float32, people: People
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Match one frame's detections (best first) to its people.

    Returns:
        right bool [K], counted bool [K] (False: matched a don't-care), number of people to find.
    """
    heights = people.boxes[:, 3] - people.boxes[:, 1]
    wanted = (people.visibility >= VISIBILITY_MIN) & (heights >= HEIGHT_MIN_PX)
    free = np.ones(len(wanted), bool)
    right, counted = np.zeros(len(scores), bool), np.ones(len(scores), bool)
    overlaps = iou(boxes, people.boxes)
    for index, overlap in enumerate(overlaps):
        for group in (wanted, ~wanted):
            open_to_match = free & group & (overlap >= IOU_MIN)
            if open_to_match.any():
                taken = int(np.argmax(np.where(open_to_match, overlap, -1)))
                free[taken] = False
                right[index], counted[index] = wanted[taken], wanted[taken]
                break
    return right, counted, int(wanted.sum())


def tally(detect: Detect, view: View, *, step: int = 1) -> Tally:
    """Run a detector over every ``step``-th frame of a camera.

    Raises:
        InputError: the video ends before its truth does.
    """
    parts, last = [], 0
    for last, frame in read_frames(view.video, step):
        parts.append(_tally_frame(*detect(frame), view.truth.get(last, NOBODY)))
    if missing := [number for number in view.truth if number >= last + step]:
        raise InputError(
            f"{view.video} ends at frame {last}, and {len(missing)} frames after it have people in "
            "the truth: copy the whole video, or the truth that belongs to it"
        )
    return merge(parts)


def tally_pictures(detect: Detect, pictures: Iterable[Sample]) -> Tally:
    """Run a detector over labelled pictures; whom they ignore is a don't-care."""
    return merge(
        _tally_frame(*detect(picture), People(boxes, np.where(ignored, 0, 1).astype(np.float32)))
        for picture, boxes, ignored in pictures
    )


def merge(parts: Iterable[Tally]) -> Tally:
    """Several tallies as one."""
    listed = list(parts)
    return Tally(
        np.concatenate([part.scores for part in listed] or [np.zeros(0, np.float32)]),
        np.concatenate([part.right for part in listed] or [np.zeros(0, bool)]),
        sum(part.people for part in listed),
    )


def average_precision(part: Tally) -> float:
    """Area under the precision-recall curve, 0 to 1, precision made monotone as PASCAL VOC does."""
    order = np.argsort(-part.scores, kind="stable")
    hits = np.cumsum(part.right[order])
    if not len(hits) or not part.people:
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / part.people])
    return float((np.diff(recall) * precision).sum())


def best_threshold(parts: list[Tally]) -> tuple[float, float]:
    """The score of .10 to .80, in steps of .02, with the best F1 averaged over cameras; and it."""
    grid = np.round(np.arange(0.10, 0.81, 0.02), 2)
    means = [float(np.mean([_f1(*part.rates(score)) for part in parts])) for score in grid]
    best = int(np.argmax(means))
    return float(grid[best]), means[best]


def _f1(recall: float, precision: float) -> float:
    return 2 * recall * precision / max(1e-9, recall + precision)


def _tally_frame(boxes: Float32, scores: Float32, people: People) -> Tally:
    right, counted, wanted = judge(boxes, scores, people)
    return Tally(scores[counted], right[counted], wanted)
