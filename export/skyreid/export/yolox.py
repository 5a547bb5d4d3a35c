"""YOLOX files as they are published, and what makes family ``yolox`` of them.

Ge et al., arXiv 2107.08430. The input is BGR 0..255. The one output has a row per cell: centre,
size, objectness and class probabilities, where centre and size are decoded already or relative to
the cell (``(p + cell) * stride`` and ``exp(p) * stride``), which the file does not say and
`is_raw` finds out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skyreid.bundle.family import Family
from skyreid.bundle.yolox import P6_STRIDES, STRIDES, cell_count
from skyreid.contract.errors import BundleError
from skyreid.export.foreign import Answers, Floats, Foreign, Tail

PERSON = 0
"""The person's place among the classes: the first, as in COCO."""


class ForeignYolox(Foreign):
    """See `Foreign`."""

    bgr = True

    def align(self, answers: Answers) -> int:
        """See `Foreign.align`: the largest stride."""
        return strides_of(answers)[-1]

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """See `Foreign.read`."""
        rows = rows_of(answers)
        centre, size = rows[..., :2], rows[..., 2:4]
        if is_raw(rows):
            cells, strides = grid(answers.height, answers.width, strides_of(answers))
            centre, size = (centre + cells) * strides, np.exp(size) * strides
        boxes = np.concatenate([centre - size / 2, centre + size / 2], 2)
        return {"boxes": boxes, "scores": rows[..., 4] * rows[..., 5 + PERSON]}

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """See `Foreign.tail`."""
        tail, (rows,) = Tail(), outputs

        def column(name: str, values: Sequence[int] | int) -> str:
            place = tail.constant(f"tail/{name}/columns", np.array(values, np.int64))
            return tail.add("Gather", [rows, place], f"tail/{name}", axis=2)

        centre, size = column("centre", [0, 1]), column("size", [2, 3])
        if is_raw(rows_of(answers)):
            cells, strides = grid(answers.height, answers.width, strides_of(answers))
            at, stride = tail.constant("tail/cells", cells), tail.constant("tail/strides", strides)
            centre = tail.add("Add", [centre, at], "tail/cell")
            centre = tail.add("Mul", [centre, stride], "tail/middle")
            size = tail.add("Exp", [size], "tail/grown")
            size = tail.add("Mul", [size, stride], "tail/sides")
        half = tail.constant("tail/half", np.array(0.5, np.float32))
        half = tail.add("Mul", [size, half], "tail/half_sides")
        low = tail.add("Sub", [centre, half], "tail/low")
        high = tail.add("Add", [centre, half], "tail/high")
        tail.add("Concat", [low, high], "boxes", axis=2)
        tail.add("Mul", [column("there", 4), column("person", 5 + PERSON)], "scores")
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
    if rows[..., 4:].min() < 0 or rows[..., 4:].max() > 1:
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
