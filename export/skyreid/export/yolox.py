"""YOLOX files as they are published, and what makes family ``yolox`` of them.

Ge et al., arXiv 2107.08430. The input is BGR 0..255. The one output has a row per cell: centre,
size, objectness and class probabilities, where centre and size are decoded already or relative to
the cell (``(p + cell) * stride`` and ``exp(p) * stride``), which the file does not say and
`is_raw` finds out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skyreid.bundle.boxes import P6_STRIDES, STRIDES, cell_count
from skyreid.bundle.family import Family
from skyreid.contract.errors import BundleError
from skyreid.export.declared import Declared
from skyreid.export.foreign import (
    Answers,
    Floats,
    Foreign,
    Tail,
    corners,
    require_person,
)


class ForeignYolox(Foreign):
    """See `Foreign`."""

    declared = Declared(channels="bgr", range="255", fit="corner")

    def align(self, answers: Answers) -> int:
        """See `Foreign.align`: the largest stride."""
        return strides_of(answers)[-1]

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """See `Foreign.read`."""
        rows = rows_of(answers)
        require_person(answers, family, rows.shape[2] - 5)
        centre, size = rows[..., :2], rows[..., 2:4]
        if is_raw(rows):
            cells, strides = grid(answers.height, answers.width, strides_of(answers))
            centre, size = (centre + cells) * strides, np.exp(size) * strides
        boxes = corners(np.concatenate([centre, size], 2))
        return {"boxes": boxes, "scores": rows[..., 4] * rows[..., 5 + answers.declared.person]}

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """See `Foreign.tail`."""
        tail, (rows,) = Tail(), outputs
        centre = tail.columns(rows, "centre", [0, 1])
        size = tail.columns(rows, "size", [2, 3])
        if is_raw(rows_of(answers)):
            cells, strides = grid(answers.height, answers.width, strides_of(answers))
            at = tail.constant("tail/cells", cells)
            centre = tail.scaled(tail.add("Add", [centre, at], "tail/cell"), "middle", strides)
            size = tail.scaled(tail.add("Exp", [size], "tail/grown"), "sides", strides)
        tail.corners(centre, size, "boxes")
        there = tail.columns(rows, "there", 4)
        person = tail.columns(rows, "person", 5 + answers.declared.person)
        tail.add("Mul", [there, person], "scores")
        return tail


FOREIGN = ForeignYolox()


def rows_of(answers: Answers) -> Floats:
    """The one output [N, cells, 5 + classes].

    Raises:
        BundleError: it is not there, or its columns are no probabilities of objects and classes.
    """
    shapes = ", ".join(str(list(values.shape)) for values in answers.outputs)
    refusal = f"{answers.path} is no YOLOX: "
    if len(answers.outputs) != 1 or answers.outputs[0].ndim != 3 or answers.outputs[0].shape[2] < 6:
        raise BundleError(
            f"{refusal}expected one output [1, cells, 5 + classes], it gives {shapes}"
        )
    (rows,) = answers.outputs
    known = [cell_count(answers.height, answers.width, s) for s in (STRIDES, P6_STRIDES)]
    if rows.shape[1] not in known:
        raise BundleError(
            f"{refusal}{answers.height} x {answers.width} pixels have {known[0]} cells, or "
            f"{known[1]} with stride 64, it gives {shapes}"
        )
    if not (rows[..., 4:].min() >= 0 and rows[..., 4:].max() <= 1):
        raise BundleError(f"{refusal}objectness and classes are not probabilities, 0 to 1")
    if np.ptp(rows[..., 4]) == 0:
        raise BundleError(f"{refusal}its objectness is {rows[0, 0, 4]:.3g} in every cell")
    return rows


def strides_of(answers: Answers) -> tuple[int, ...]:
    """Of the cells, in the order of the rows."""
    cells = answers.outputs[0].shape[1]
    five = cells == cell_count(answers.height, answers.width, STRIDES)
    return STRIDES if five else P6_STRIDES


def grid(height: int, width: int, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Cell columns and rows [cells, 2] and strides [cells, 1], in the order of the rows."""
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def is_raw(rows: Floats) -> bool:
    """Whether centres are relative to their cell: then they do not spread over the picture."""
    return bool(np.percentile(np.abs(rows[..., :2]), 90) < 2 * STRIDES[0])
