"""INT8 as explicit Q/DQ on the Linears of a graph, and nowhere else.

Weights are symmetric int8 per output channel, activations symmetric int8 per tensor, zero points
0: what both ONNX Runtime and a strongly typed TensorRT network take as it is. Residual additions,
norms, softmax and products of two activations stay as they were: an int8 residual stream costs a
vision transformer its accuracy. So does an int8 router: Linears that `exact` keeps stay as they
were too, and so may others (`keep`). Weights are stored as int8 with a DequantizeLinear.

Every scale is a float16 number, so that the variant with float16 around the Linears
(`fp16.convert` of this one) holds the same int8 weights under the same scales.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from skyreid.contract.errors import GateError, InputError
from skyreid.export import exact

_LIMIT = 127  # -128 is left out, so that scale and range are symmetric
_SMALLEST_SCALE = 2.0**-20  # of a channel: float16 has four bits left there; above is more


def linears(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that multiply an activation by a constant matrix: MatMul, or a 2-D Gemm.

    Without those of a router, a selector or a warp, which are kept in float32 (`exact.parts`).
    """
    constant = {i.name: i for i in model.graph.initializer}
    kept = exact.parts(model)
    return [
        node
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm")
        and node.input[1] in constant
        and len(constant[node.input[1]].dims) == 2
        and node.input[0] not in constant
        and node.output[0] not in kept
    ]


def named(model: onnx.ModelProto) -> dict[str, str]:
    """What to call the Linears, for people, by their outputs: place, size, and what is told of it.

    The exporter keeps the names of biases, and of few matrices.
    """
    found = linears(model)
    sizes = {i.name: tuple(i.dims) for i in model.graph.initializer}
    added = {n.input[0]: n.input[1] for n in model.graph.node if n.op_type == "Add"}
    names = {}
    for place, node in enumerate(found, 1):
        rows, columns = sizes[node.input[1]]
        if _transposed(node):
            rows, columns = columns, rows
        behind = [*node.input[1:], added.get(node.output[0], "")]
        told = next((name for name in behind if name in sizes and "." in name), "")
        told = f", {told.rsplit('.', 1)[0]}" if told else ""
        names[node.output[0]] = f"Linear {place} of {len(found)} ({rows} to {columns}{told})"
    return names


def quantised_inputs(model: onnx.ModelProto, kept: Set[str] = frozenset()) -> list[str]:
    """Names of the activations that need a range, each once, in the graph's order.

    Args:
        model: the fp32 graph.
        kept: outputs of Linears that stay as they are.

    Raises:
        InputError: the graph has no Linear.
    """
    names = list(
        dict.fromkeys(node.input[0] for node in linears(model) if node.output[0] not in kept)
    )
    if not names:
        raise InputError("the graph has no Linear: INT8 quantises nothing else")
    return names


def quantise(data: bytes, ranges: Mapping[str, float], kept: Set[str] = frozenset()) -> bytes:
    """The same graph with its Linears in int8.

    Args:
        data: serialised ONNX with float32 Linears.
        ranges: largest absolute value that matters of each activation of `quantised_inputs`.
        kept: outputs of Linears that stay as they are.

    Raises:
        InputError: a range is missing, not finite or not positive, or belongs to no Linear.
        GateError: a Linear has a form this cannot quantise.
    """
    model = onnx.load_from_string(data)
    wanted = quantised_inputs(model, kept)
    wrong = sorted(set(wanted) ^ set(ranges))
    if wrong:
        raise InputError(f"ranges do not fit the graph: {', '.join(wrong[:5])}")
    for name, value in ranges.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"range of {name} is {value}: it must be finite and positive")
        if value / _LIMIT > float(np.finfo(np.float16).max):
            raise InputError(f"range of {name} is {value}: its scale is beyond float16")
    constant = {i.name: i for i in model.graph.initializer}
    chosen = {node.output[0] for node in linears(model)} - kept
    nodes: list[onnx.NodeProto] = []
    added: dict[str, onnx.TensorProto] = {}
    read: Counter[str] = Counter()
    for node in model.graph.node:
        if node.output[0] not in chosen:
            nodes.append(node)
            continue
        activation, matrix = node.input[0], node.input[1]
        read[activation] += 1
        read[matrix] += 1
        pair = _activation(activation, ranges[activation] / _LIMIT, read[activation], added)
        weight: NDArray[np.float32] = numpy_helper.to_array(constant[matrix])
        if _transposed(node):
            weight = weight.T
        restored = _weight(matrix, weight, read[matrix], added)
        nodes += [*pair, restored, *_product(node, pair[1].output[0], restored.output[0])]
    used = {name for node in nodes for name in node.input}
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    still_read = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*still_read, *added.values()])
    del model.graph.value_info[:]  # of products that are gone
    serialised: bytes = model.SerializeToString()
    return serialised


def check(data: bytes, kept: Set[str] = frozenset()) -> dict[str, int]:
    """Hold a quantised graph against the rules above.

    Args:
        data: serialised ONNX.
        kept: outputs of Linears that may have stayed as they were.

    Returns:
        How many `linears`, `quantize` and `dequantize` nodes it has.

    Raises:
        GateError: a zero point is not 0, a Q feeds or follows anything but a Linear, or an
            unquantised Linear is left.
    """
    model = onnx.load_from_string(data)
    constant = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    counts = {"linears": 0, "quantize": 0, "dequantize": 0}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            counts["quantize" if node.op_type[0] == "Q" else "dequantize"] += 1
            if np.any(constant[node.input[2]]):
                raise GateError(f"{node.op_type} {node.output[0]} has a zero point that is not 0")
        parents = [made_by.get(name) for name in node.input]
        fed = [p is not None and p.op_type == "DequantizeLinear" for p in parents]
        if node.op_type == "MatMul" and all(fed):
            counts["linears"] += 1
        elif any(fed):
            raise GateError(
                f"{node.op_type} {node.output[0]} reads an int8 value; only Linears may"
            )
    left = [node.output[0] for node in linears(model) if node.output[0] not in kept]
    if left:
        raise GateError(f"Linears that are not quantised: {', '.join(left[:5])}")
    return counts


def _transposed(node: onnx.NodeProto) -> bool:
    """Whether a Gemm's matrix is [out, in].

    Raises:
        GateError: the Gemm scales or transposes what a Linear does not.
    """
    values: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if values.get("transA", 0) or values.get("alpha", 1.0) != 1 or values.get("beta", 1.0) != 1:
        raise GateError(f"Gemm {node.output[0]} is no plain Linear: {values}")
    return bool(values.get("transB", 0))


def _activation(
    name: str, scale: float, number: int, added: dict[str, onnx.TensorProto]
) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Q and DQ of an activation for its `number`-th reader alone, from 1.

    Where Linears share a pair, ONNX Runtime finds no int8 kernel for any of them and turns their
    weights into floats at every call.
    """
    suffix = _suffix(number)
    parts = [f"{name}_scale", f"{name}_zero"]
    added[parts[0]] = numpy_helper.from_array(_as_half(np.float32(scale))[()], parts[0])
    added[parts[1]] = numpy_helper.from_array(np.int8(0), parts[1])
    rounded, restored = f"{name}_q{suffix}", f"{name}_dq{suffix}"
    return (
        helper.make_node("QuantizeLinear", [name, *parts], [rounded]),
        helper.make_node("DequantizeLinear", [rounded, *parts], [restored]),
    )


def _weight(
    name: str, matrix: NDArray[np.float32], number: int, added: dict[str, onnx.TensorProto]
) -> onnx.NodeProto:
    """A matrix [in, out] as int8 with one scale per output channel, for its `number`-th reader.

    ONNX Runtime does not load a graph whose Linears share one where it makes unsigned bytes of it.
    """
    scale = _as_half(np.maximum(np.abs(matrix).max(0) / _LIMIT, _SMALLEST_SCALE))
    steps = np.clip(np.rint(matrix / scale), -_LIMIT, _LIMIT).astype(np.int8)
    suffix = _suffix(number)
    parts = [f"{name}_int8{suffix}", f"{name}_scale{suffix}", f"{name}_zero{suffix}"]
    values = (steps, scale, np.zeros(len(scale), np.int8))
    for part, value in zip(parts, values, strict=True):
        added[part] = numpy_helper.from_array(np.ascontiguousarray(value), part)
    return helper.make_node("DequantizeLinear", parts, [f"{name}_dq{suffix}"], axis=1)


def _suffix(number: int) -> str:
    """Of the names of what belongs to a value's `number`-th reader; the first has none."""
    return "" if number == 1 else f"_{number}"


def _as_half(scale: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """The next float16 number that is no smaller, as float32: a scale that covers what it did."""
    nearest = np.asarray(scale, np.float32).astype(np.float16)
    larger = np.where(nearest < scale, np.nextafter(nearest, np.float16(np.inf)), nearest)
    return np.asarray(larger, np.float32)


def _product(node: onnx.NodeProto, activation: str, matrix: str) -> list[onnx.NodeProto]:
    """MatMul, and the bias of a Gemm in float32 behind it."""
    if node.op_type == "MatMul" or len(node.input) < 3:
        return [helper.make_node("MatMul", [activation, matrix], list(node.output))]
    product = f"{node.output[0]}_product"
    return [
        helper.make_node("MatMul", [activation, matrix], [product]),
        helper.make_node("Add", [product, node.input[2]], list(node.output)),
    ]
