"""Whom a router chooses: found in a graph, and held from one numeric format to the next.

Another expert moves an embedding by a tenth and more, and a router among near ties takes another
one for a change of a hundredth in what it reads. The router itself is computed in float32 always
(`exact`); whether what it *reads* may be rounded is a matter of its margins: how far the last
chosen score lies above the first that is not. A choice of patches or tokens, which are gathered by
their numbers, is another thing: there one near tie for another costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skyreid.export import exact, int8
from skyreid.export.batched import run_onnx

Floats = NDArray[np.float32]

AGREEMENT_MIN = 0.999
"""Of the pictures, for whom a format chooses the experts that fp32 does."""


@dataclass(frozen=True)
class Router:
    """One router of a graph.

    Attributes:
        scores: name of the value that is chosen by, float32 [N, experts].
        takes: how many experts a picture gets.
    """

    scores: str
    takes: int


@dataclass(frozen=True)
class Choice:
    """How a format's choices compare with the exact ones.

    Attributes:
        experts: to choose among.
        takes: how many a picture gets.
        agreement: part of the pictures that get the same ones.
        margin: median, over pictures, of the exact margin between the last chosen and the next.
        smallest_margin: the smallest.
        moved: largest change of a score.
    """

    experts: int
    takes: int
    agreement: float
    margin: float
    smallest_margin: float
    moved: float

    def line(self, what: str) -> str:
        """For people."""
        return (
            f"{what}: {self.takes} of {self.experts} experts as in fp32 for "
            f"{100 * self.agreement:.1f} % of the pictures; margins {self.margin:.4f} (median), "
            f"{self.smallest_margin:.4f} (smallest), scores move by {self.moved:.4f} at most"
        )


def routers(model: onnx.ModelProto) -> list[Router]:
    """The choices whose numbers are compared with those of all experts, in the graph's order."""
    constant = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type != "TopK" or len(node.output) < 2 or node.input[1] not in constant:
            continue
        ahead, seen = [node.output[1]], set[str]()
        while ahead:
            name = ahead.pop()
            seen.add(name)
            for reader in readers.get(name, ()):
                if reader.op_type == "Equal":
                    takes = int(numpy_helper.to_array(constant[node.input[1]]).reshape(-1)[0])
                    found.append(Router(node.input[0], takes))
                    ahead = []
                    break
                if reader.op_type in exact.MOVES | {"Cast"} and reader.input[0] == name:
                    ahead += [out for out in reader.output if out not in seen]
    return found


def before(model: onnx.ModelProto, found: Sequence[Router]) -> frozenset[str]:
    """Linears, by their output, that a router's scores depend on."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    ahead, seen = [router.scores for router in found], set[str]()
    while ahead:
        node = made_by.get(ahead.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            ahead += list(node.input)
    return frozenset(node.output[0] for node in int8.linears(model) if node.output[0] in seen)


def ask(
    data: bytes,
    found: Sequence[Router],
    pictures: NDArray[np.uint8],
    *,
    name: str,
    quantised: bool,
) -> tuple[Floats, list[Floats]]:
    """A model's answers with what its routers chose by.

    Args:
        data: serialised ONNX.
        found: its routers.
        pictures: uint8 [N, H, W, 3].
        name: of the model, for messages.
        quantised: whether its Linears are int8.

    Returns:
        Embeddings float32 [N, D], and of every router the scores float32 [N, experts].
    """
    if found:
        model = onnx.load_from_string(data)
        for router in found:
            shown = helper.make_tensor_value_info(router.scores, TensorProto.FLOAT, None)
            model.graph.output.append(shown)
        data = model.SerializeToString()
    outputs = run_onnx(data, pictures, name=name, quantised=quantised)
    return outputs["embedding"], [outputs[router.scores] for router in found]


def compare(
    found: Sequence[Router], wanted: Sequence[Floats], got: Sequence[Floats]
) -> list[Choice]:
    """Choices by `got` scores beside those by `wanted` ones, a router each."""
    table = []
    for router, exactly, rounded in zip(found, wanted, got, strict=True):
        order = -np.sort(-exactly, axis=1)
        margins = order[:, router.takes - 1] - order[:, min(router.takes, order.shape[1] - 1)]
        same = [
            np.sort(np.argsort(-rows, axis=1, kind="stable")[:, : router.takes], axis=1)
            for rows in (exactly, rounded)
        ]
        table.append(
            Choice(
                exactly.shape[1],
                router.takes,
                float((same[0] == same[1]).all(1).mean()),
                float(np.median(margins)),
                float(margins.min()),
                float(np.abs(rounded - exactly).max()),
            )
        )
    return table
