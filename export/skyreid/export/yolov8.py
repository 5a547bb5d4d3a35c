"""YOLOv8 files as Ultralytics' exporter writes them, and what makes family ``yolov8`` of them.

The one output has centre, size (pixels of the input) and class probabilities for each cell, and no
objectness: [1, 4 + classes, cells], or turned, [1, cells, 4 + classes]. YOLOv9 and v11 come in the
same form. The input is RGB 0..1, the picture in its middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skyreid.bundle.boxes import P6_STRIDES, STRIDES, cell_count
from skyreid.bundle.family import Family
from skyreid.export.declared import Declared
from skyreid.export.foreign import (
    Answers,
    Floats,
    Foreign,
    Tail,
    corners,
    require_person,
)

STRIDE_4 = (4, *STRIDES)
"""Of the variants with a head for small objects (P2)."""
_SURE = 0.3
_ALSO = 0.5
"""Of a person's score: from here on another class is as sure of the same cell."""


class ForeignYolov8(Foreign):
    """See `Foreign`."""

    declared = Declared(channels="rgb", range="1", fit="centre")

    def align(self, answers: Answers) -> int:
        """See `Foreign.align`."""
        return 32

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """See `Foreign.read`."""
        rows = _rows(answers, family)
        classes = rows[..., 4:]
        require_person(answers, family, classes.shape[2])
        if not (classes.min() >= 0 and classes.max() <= 1):
            raise answers.refusal(family, "its classes are not probabilities, 0 to 1")
        scores = classes[..., answers.declared.person]
        _refuse_objectness(classes, scores, answers, family)
        return {"boxes": corners(rows), "scores": scores}

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """See `Foreign.tail`."""
        tail, (rows,) = Tail(), outputs
        if not _turned(answers, family):
            rows = tail.add("Transpose", [rows], "tail/turned", perm=[0, 2, 1])
        centre = tail.columns(rows, "centre", [0, 1])
        size = tail.columns(rows, "size", [2, 3])
        tail.corners(centre, size, "boxes")
        person = tail.columns(rows, "person", 4 + answers.declared.person)
        tail.add("Identity", [person], "scores")
        return tail


FOREIGN = ForeignYolov8()


def _rows(answers: Answers, family: Family) -> Floats:
    """[N, cells, 4 + classes] from either orientation."""
    turned = _turned(answers, family)
    return answers.outputs[0] if turned else answers.outputs[0].transpose(0, 2, 1)


def _turned(answers: Answers, family: Family) -> bool:
    """Whether the cells are the middle axis; the input's size says how many there are."""
    known = [
        cell_count(answers.height, answers.width, strides)
        for strides in (STRIDES, P6_STRIDES, STRIDE_4)
    ]
    expected = f"expected one output [1, 4 + classes, {known[0]}] or [1, {known[0]}, 4 + classes]"
    if len(answers.outputs) != 1 or answers.outputs[0].ndim != 3:
        raise answers.refusal(family, expected)
    _, middle, last = answers.outputs[0].shape
    if (middle in known) == (last in known) or min(middle, last) < 5:
        raise answers.refusal(family, expected)
    return middle in known


def _refuse_objectness(classes: Floats, scores: Floats, answers: Answers, family: Family) -> None:
    """YOLOX, v5 and v7 have an objectness where this family has its first class.

    What is sure to be there is sure to be something, so another column is high beside it; two
    classes hardly ever are high in one cell.
    """
    sure = scores >= _SURE
    if classes.shape[2] < 2 or not sure.any():
        return
    others = np.delete(classes, answers.declared.person, 2)[sure].max(1)
    if np.mean(others >= _ALSO * scores[sure]) > 0.5:
        raise answers.refusal(
            family,
            f"where class {answers.declared.person} is sure another class is too, as with an "
            "objectness: a YOLOX, v5 or v7",
        )
