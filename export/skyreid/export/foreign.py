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

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a file itself said to pictures of its own size."""

    path: Path
    height: int
    width: int
    outputs: list[Floats]
    """In the file's order, float32 [N, ...]."""


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


class Foreign:
    """A file that takes RGB 0 to 255 and whose outputs are its family's already, in order."""

    bgr: bool = False
    """Whether the planes are blue, green, red."""
    scale: float = 1.0
    """That pixels 0 to 255 are multiplied by."""

    def align(self, answers: Answers) -> int:
        """What height and width of such a network are multiples of."""
        return 1

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """The family's outputs [N, ...] from the file's answers, in numpy: the reference.

        Raises:
            BundleError: the file is not of the family.
        """
        if len(answers.outputs) != len(family.outputs):
            raise BundleError(
                f"{answers.path} is no detector of family {family.name}: it has "
                f"{len(answers.outputs)} outputs, the family {len(family.outputs)}"
            )
        return dict(zip(family.outputs, answers.outputs, strict=True))

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """The same as nodes behind the file's outputs, float32 by name, in its order."""
        tail = Tail()
        for mine, name in zip(outputs, family.outputs, strict=True):
            tail.add("Identity", [mine], name)
        return tail
