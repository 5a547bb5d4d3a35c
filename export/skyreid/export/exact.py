"""Which parts of a graph decide something, and so stay in float32 in every numeric format.

A rounding error of a feature moves an embedding a little; a rounding error in front of a choice
moves it by a whole patch or expert. What is kept, each with its reason:

* ``choice``: whatever is computed for the sake of a TopK alone: routers, cosines that rank
  patches, selectors of tokens.
* ``place``: from the mean over a picture to the sine and cosine of the angle it is turned by.
* ``tail``: from the last norm or Linear to the output: a trained neck subtracts means that are
  large beside what is left, and the L2 norm squares.

A node belongs to a part only when nothing outside the part reads it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

import onnx

Part = Literal["choice", "place", "tail"]

MOVES = frozenset(
    "Reshape Transpose Slice Split Squeeze Unsqueeze Expand Flatten Identity Gather GatherElements "
    "GatherND Tile Pad MaxPool".split()
)
"""Operators that move values and compute none."""

_CHOOSES = frozenset(("TopK", "ArgMax", "ArgMin"))
_PLACES = frozenset(("Cos", "Sin", "GridSample"))
_POOLS = frozenset(("ReduceMean", "GlobalAveragePool", "AveragePool"))
_PRODUCTS = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"))
_NORMS = frozenset(("LayerNormalization", "Softmax"))


def parts(model: onnx.ModelProto) -> dict[str, Part]:
    """The part of every node that is kept in float32, by the name of the node's first output."""
    nodes = list(model.graph.node)
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node.output[0])
    outputs = {output.name for output in model.graph.output}
    chooses = {n.output[0] for n in nodes if n.op_type in _CHOOSES}
    places = {n.output[0] for n in nodes if n.op_type in _PLACES}
    found: dict[str, Part] = {}
    choice: set[str] = set(chooses)
    place: set[str] = set(places)
    tail: set[str] = set()
    for node in reversed(nodes):
        name, read_by = node.output[0], [r for o in node.output for r in readers.get(o, ())]
        shown = any(o in outputs for o in node.output)
        if name in chooses or (not shown and _all_in(read_by, choice)):
            choice.add(name)
            found[name] = "choice"
        elif name in places or (not shown and _all_in(read_by, place)):
            found[name] = "place"
            # Behind a mean over the picture lies a convolution, whose errors the mean evens out.
            if node.op_type not in _POOLS:
                place.add(name)
        elif (shown or _all_in(read_by, tail)) and node.op_type not in _PRODUCTS | _NORMS:
            tail.add(name)
            found[name] = "tail"
    return found


def _all_in(names: list[str], part: Set[str]) -> bool:
    return bool(names) and all(name in part for name in names)
