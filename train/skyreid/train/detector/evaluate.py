"""A detector over clips with truth: what it finds, at every threshold.

Whose detection is right is the rule of ``bundle/recall.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from skyreid.bundle.recall import Tally, cared, judge, merge
from skyreid.contract.errors import InputError
from skyreid.train.detector.clips import NOBODY, View, read_frames
from skyreid.train.detector.crops import Sample
from skyreid.train.detector.inference import Detect


def tally(detect: Detect, view: View, *, step: int = 1) -> Tally:
    """Run a detector over every ``step``-th frame of a camera.

    Raises:
        InputError: the video ends before its truth does.
    """
    parts, last = [], 0
    for last, frame in read_frames(view.video, step):
        people = view.truth.get(last, NOBODY)
        parts.append(judge(detect(frame), people.boxes, cared(people.boxes, people.visibility)))
    if missing := [number for number in view.truth if number >= last + step]:
        raise InputError(
            f"{view.video} ends at frame {last}, and {len(missing)} frames after it have people in "
            "the truth: copy the whole video, or the truth that belongs to it"
        )
    return merge(parts)


def tally_pictures(detect: Detect, pictures: Iterable[Sample]) -> Tally:
    """Run a detector over labelled pictures; whom they ignore is a don't-care."""
    return merge(
        judge(detect(picture), boxes, cared(boxes, np.where(ignored, 0, 1)))
        for picture, boxes, ignored in pictures
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


def _f1(recall: float | None, precision: float | None) -> float:
    return 2 * recall * precision / (recall + precision) if recall and precision else 0.0
