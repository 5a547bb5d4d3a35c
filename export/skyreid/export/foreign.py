"""The form in which detector files of other projects come, and how it becomes a family's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from skyreid.bundle.family import Family
from skyreid.contract.errors import BundleError
from skyreid.export.declared import Declared

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a file itself said to pictures of its own size."""

    path: Path
    height: int
    width: int
    outputs: list[Floats]
    """In the file's order, float32 [N, ...]."""
    declared: Declared
    names: tuple[str, ...] = ()
    """Of the outputs, as the file has them."""

    def refusal(self, family: Family, why: str) -> BundleError:
        """That the file is not of the family."""
        shapes = ", ".join(str([1, *values.shape[1:]]) for values in self.outputs)
        return BundleError(f"{self.path} is no {family.name}, it gives {shapes}: {why}")


class Tail:
    """Nodes and constants to be put behind a file's outputs."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; returns its output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def columns(self, rows: str, name: str, which: Sequence[int] | int) -> str:
        """Some columns of rows [N, K, C]; of one alone [N, K]."""
        place = self.constant(f"tail/{name}/columns", np.array(which, np.int64))
        return self.add("Gather", [rows, place], f"tail/{name}", axis=2)

    def scaled(self, values: str, name: str, by: NDArray[Any] | float) -> str:
        """Values times a constant."""
        factor = self.constant(f"tail/{name}/by", np.array(by, np.float32))
        return self.add("Mul", [values, factor], f"tail/{name}")

    def corners(self, centre: str, size: str, output: str) -> str:
        """Boxes [N, K, 4] of their corners, from centres and sizes [N, K, 2]."""
        half = self.scaled(size, "half_sides", 0.5)
        low = self.add("Sub", [centre, half], "tail/low")
        high = self.add("Add", [centre, half], "tail/high")
        return self.add("Concat", [low, high], output, axis=2)


def corners(centred: Floats) -> Floats:
    """Boxes [N, K, 4] of their corners, from centre and size in four columns."""
    centre, half = centred[..., :2], centred[..., 2:4] / 2
    return np.concatenate([centre - half, centre + half], 2)


class Foreign:
    """A file whose outputs are its family's already, in order, and a family's conventions."""

    declared = Declared()
    """The conventions of the family's own exporter; whoever has another file says so."""
    rows_max: int | None = None
    """Of a family whose files give a different number of rows for each picture: rows that are
    taken, and filled up with nothing to."""
    wants_size: bool = False
    """Whether a second input with width and height is the family's (``orig_target_sizes``)."""

    def align(self, answers: Answers) -> int:
        """What height and width of such a network are multiples of."""
        return 1

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """The family's outputs [N, ...] from the file's answers, in numpy: the reference.

        Raises:
            BundleError: the file is not of the family.
        """
        if len(answers.outputs) != len(family.outputs):
            raise answers.refusal(family, f"the family has {len(family.outputs)} outputs")
        return dict(zip(family.outputs, answers.outputs, strict=True))

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """The same as nodes behind the file's outputs, float32 by name, in its order."""
        tail = Tail()
        for mine, name in zip(outputs, family.outputs, strict=True):
            tail.add("Identity", [mine], name)
        return tail


def require_person(answers: Answers, family: Family, classes: int) -> None:
    """Raise `BundleError` where the declared person is none of the classes."""
    person = answers.declared.person
    if person >= classes:
        raise answers.refusal(family, f"--person {person}, and its classes are 0 to {classes - 1}")
