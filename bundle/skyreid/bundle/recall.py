"""Recall and precision of a detector: whose detection is right, and who is a don't-care.

One rule for training's evaluation, the demo and the server's report. People who are mostly hidden
or very small are *don't-care*, handled as MOT17 does (Milan et al., arXiv 1603.00831): a detection
that matches one is neither right nor wrong, and nobody has to find them. Detections take people
greedily, best score first, as PASCAL VOC and COCO count, which lets one pass serve every score
threshold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections, Float32, iou

IOU_MIN = 0.5
"""Overlap from which on a box is a person's."""
VISIBILITY_MIN = 0.5
"""Part of the body that nothing hides, below which a person is a don't-care."""
HEIGHT_MIN_PX = 24.0
"""Lower people are don't-cares too."""

Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tally:
    """What became of the detections of some frames."""

    scores: Float32
    """[K], of detections that are right or wrong."""
    right: Bool
    """[K]"""
    people: int
    """People who should be found."""

    def rates(self, score_min: float = 0.0) -> tuple[float | None, float | None]:
        """Recall and precision (0 to 1) of the detections at or above a score.

        None where there is nothing to divide by: nobody to find, or nothing detected.
        """
        chosen = self.right[self.scores >= score_min]
        found = int(chosen.sum())
        recall = found / self.people if self.people else None
        return recall, found / len(chosen) if len(chosen) else None


def cared(boxes: NDArray[np.floating], visibility: NDArray[np.floating]) -> Bool:
    """Whether each person counts, bool [K]; the others are don't-cares.

    Args:
        boxes: [K, 4] x0, y0, x1, y1 in pixels, whole bodies.
        visibility: [K], 0 to 1.
    """
    result: Bool = (visibility >= VISIBILITY_MIN) & (boxes[:, 3] - boxes[:, 1] >= HEIGHT_MIN_PX)
    return result


def judge(detections: Detections, boxes: NDArray[np.floating], counts: Bool) -> Tally:
    """Match the detections of one frame to its people.

    Best score first, each takes the free person with the highest IoU of at least `IOU_MIN`, one
    who counts before one who does not.

    Args:
        detections: in any order.
        boxes: [K, 4] of the people.
        counts: bool [K], see `cared`.
    """
    free = np.ones(len(counts), bool)
    right, ignored = np.zeros(len(detections), bool), np.zeros(len(detections), bool)
    overlaps = iou(detections.boxes, boxes)
    for index in np.argsort(-detections.scores, kind="stable"):
        for group in (counts, ~counts):
            open_to_match = free & group & (overlaps[index] >= IOU_MIN)
            if open_to_match.any():
                taken = int(np.argmax(np.where(open_to_match, overlaps[index], -1)))
                free[taken] = False
                right[index], ignored[index] = counts[taken], not counts[taken]
                break
    return Tally(detections.scores[~ignored], right[~ignored], int(counts.sum()))


def merge(parts: Iterable[Tally]) -> Tally:
    """Several tallies as one."""
    listed = list(parts)
    return Tally(
        np.concatenate([part.scores for part in listed] or [np.zeros(0, np.float32)]),
        np.concatenate([part.right for part in listed] or [np.zeros(0, bool)]),
        sum(part.people for part in listed),
    )
