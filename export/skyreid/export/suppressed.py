"""Files that end with a suppression of their own, and what makes family ``nms-in-graph`` of them.

One output, a row for each box that is left, [1, K, 6 or 7] or [K, 6 or 7]: corners in pixels of the
input, score, class (Ultralytics with NMS, YOLOv10), or picture, corners, class, score (YOLOv7); or
several outputs by name (``labelled.py``). Where K follows from the picture, rows are filled up with
nothing to `ROWS_MAX`, so that the bundle's outputs have a size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skyreid.bundle.family import Family
from skyreid.export import labelled
from skyreid.export.declared import Declared
from skyreid.export.foreign import Answers, Floats, Foreign, Tail

ROWS_MAX = 300
_COLUMNS = {6: ([0, 1, 2, 3], 4, 5), 7: ([1, 2, 3, 4], 6, 5)}
"""Corners, score and class among six or seven columns."""


class Suppressed(Foreign):
    """See `Foreign`."""

    declared = Declared(channels="rgb", range="1", fit="centre")
    rows_max = ROWS_MAX

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """See `Foreign.read`."""
        if len(answers.outputs) > 1:
            return labelled.read(answers, family)
        rows = answers.outputs[0]
        if rows.ndim != 3 or rows.shape[2] not in _COLUMNS:
            raise answers.refusal(family, "expected rows of 6 or 7 columns, or several outputs")
        corners, score_at, class_at = _COLUMNS[rows.shape[2]]
        scores, classes = rows[..., score_at], rows[..., class_at]
        if not (scores.min() >= 0 and scores.max() <= 1) or (classes != np.round(classes)).any():
            raise answers.refusal(
                family,
                f"columns {score_at} and {class_at} of {rows.shape[2]} are not score (0 to 1) and "
                "class (a whole number)",
            )
        if rows.shape[2] == 7 and (rows[..., 0] != np.round(rows[..., 0])).any():
            raise answers.refusal(family, "column 0 of 7 is not the picture's number")
        mine = np.abs(classes - answers.declared.person) < 0.5
        return {"boxes": rows[..., corners], "scores": (scores * mine).astype(np.float32)}

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """See `Foreign.tail`."""
        if len(outputs) > 1:
            return labelled.tail(outputs, answers, family)
        tail, (rows,) = Tail(), outputs
        corners, score_at, class_at = _COLUMNS[answers.outputs[0].shape[2]]
        tail.add("Identity", [tail.columns(rows, "corners", corners)], "boxes")
        scores, classes = (
            tail.columns(rows, "score", score_at),
            tail.columns(rows, "class", class_at),
        )
        scores = labelled.only(tail, scores, classes, answers.declared.person)
        tail.add("Identity", [scores], "scores")
        return tail


FOREIGN = Suppressed()
