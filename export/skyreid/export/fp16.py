"""The same graph in half precision, with every type written out: what TensorRT builds as it is.

Weights and activations become float16. In float32 stay, with Casts around them:

* what `exact.parts` names: choices, places and the tail;
* LayerNormalization, Softmax, and every operator that divides, squares, takes roots or sums:
  squares leave the range of float16 (65504) and small constants like an epsilon vanish in it;
* cosines: the product of vectors that were divided by their length;
* the input's normalisation, up to the first convolution.

Products accumulate in float32 on every target; queries times keys stay in float16, the form that
fused attention has on TensorRT, scaled on both sides before they meet. Q and DQ of an int8 graph
are taken along, so that `convert` of it gives the variant for TensorRT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from skyreid.contract.errors import GateError
from skyreid.export import exact

Width = Literal["half", "single"]

_PRODUCTS = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose"))
_ELEMENTWISE = frozenset(
    "Add Sub Mul Concat Where Relu Gelu Sigmoid Tanh Neg Abs Clip Max Min".split()
)
_QUANTISES = frozenset(("QuantizeLinear", "DequantizeLinear"))
_LENGTHS = frozenset(("ReduceL2", "LpNormalization"))
_BETWEEN = exact.MOVES | {"Clip", "Max", "Add"}  # from a length to what is divided by it
_TYPE = {"half": TensorProto.FLOAT16, "single": TensorProto.FLOAT}
_LARGEST, _SMALLEST = float(np.finfo(np.float16).max), float(np.finfo(np.float16).smallest_normal)


def convert(data: bytes) -> bytes:
    """The graph with float16 weights and activations; its input and outputs keep their types.

    Args:
        data: serialised float32 ONNX, or one whose Linears stand between Q and DQ.

    Raises:
        GateError: the graph holds float64, or control flow.
    """
    model = onnx.load_from_string(data)
    graph = _Graph(model)
    graph.rewrite()
    serialised: bytes = model.SerializeToString()
    return serialised


def check(data: bytes) -> dict[str, int]:
    """Hold a converted graph against the type rules, and count.

    Returns:
        `casts`; `half` and `single`, how many float16 and float32 values nodes give.

    Raises:
        GateError: an operator reads types that it does not take together.
    """
    model = onnx.load_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
        typed = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GateError(f"fp16: {error}") from error
    kinds = [v.type.tensor_type.elem_type for v in (*typed.graph.value_info, *typed.graph.output)]
    return {
        "casts": sum(node.op_type == "Cast" for node in model.graph.node),
        "half": kinds.count(TensorProto.FLOAT16),
        "single": kinds.count(TensorProto.FLOAT),
    }


class _Graph:
    """A graph on its way: the width of every float value, decided in the order of the nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.kept = exact.parts(model)
        self.made_by = {name: node for node in model.graph.node for name in node.output}
        self.constant = {tensor.name: tensor for tensor in model.graph.initializer}
        self.width: dict[str, Width] = {}  # of floats that nodes give
        self.unit: set[str] = set()  # vectors divided by their length
        self.casts: dict[tuple[str, Width], str] = {}
        self.halved: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> None:
        """Give every node its width, with Casts where a value is asked in the other one."""
        for node in self.graph.node:
            self._place(node)
        for output in self.graph.output:
            if self.width.get(output.name) == "half":
                self._show(output.name)
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.constant.items() if name in read]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept)

    def _place(self, node: onnx.NodeProto) -> None:
        if any(
            a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
            for a in node.attribute
        ):
            raise GateError(f"fp16: {node.op_type} {node.output[0]} is control flow")
        if node.op_type == "Cast":
            if helper.get_attribute_value(node.attribute[0]) == TensorProto.FLOAT:
                self.width[node.output[0]] = "single"
            self.nodes.append(node)
            return
        floats = [name for name in node.input if self._is_float(name)]
        if floats:
            width = self._width(node, floats)
            for index, name in enumerate(node.input):
                if name in floats and not (node.op_type == "Resize" and index > 0):
                    node.input[index] = self._as(name, width)
            for name in self._float_outputs(node):
                self.width[name] = width
        self.nodes.append(node)

    def _width(self, node: onnx.NodeProto, floats: list[str]) -> Width:
        """What a node computes in."""
        moving = [name for name in floats if name not in self.constant]
        widths = {self.width[name] for name in moving}
        if node.op_type in exact.MOVES:
            if node.input[0] in self.unit:
                self.unit.update(node.output)
            return self.width.get(node.input[0], "half")
        if node.op_type in _QUANTISES:
            return "half"
        if node.op_type == "Div" and self._is_length(node.input[1]):
            self.unit.update(node.output)
        if node.output[0] in self.kept or not all(self._fits(name) for name in floats):
            return "single"
        if node.op_type in _PRODUCTS:
            if len(moving) > 1 and (widths == {"single"} or self.unit.intersection(moving)):
                return "single"
            return "half"
        if node.op_type in _ELEMENTWISE:
            squares = node.op_type == "Mul" and node.input[0] == node.input[1]
            return "single" if squares or widths == {"single"} else "half"
        return "single"

    def _is_length(self, name: str) -> bool:
        """Whether a divisor is the length of a vector, held above an epsilon and spread out."""
        node = self.made_by.get(name)
        while node is not None and node.op_type in _BETWEEN:
            node = self.made_by.get(node.input[0])
        return node is not None and node.op_type in _LENGTHS

    def _is_float(self, name: str) -> bool:
        if name in self.constant:
            kind = self.constant[name].data_type
            if kind == TensorProto.DOUBLE:
                raise GateError(f"fp16: constant {name} is float64")
            return bool(kind == TensorProto.FLOAT)
        return name in self.width

    def _fits(self, name: str) -> bool:
        """Whether a constant survives float16: in range, and not a small number all alone."""
        if name not in self.constant:
            return True
        values = np.abs(numpy_helper.to_array(self.constant[name]))
        largest = float(values[np.isfinite(values)].max(initial=0))
        return largest <= _LARGEST and (values.size > 1 or not 0 < largest < _SMALLEST)

    def _float_outputs(self, node: onnx.NodeProto) -> Iterator[str]:
        """Outputs that are floats: none of a comparison, of TopK only the values."""
        if node.op_type in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
            return
        if node.op_type in ("ArgMax", "ArgMin", "QuantizeLinear", "Shape", "Size"):
            return
        yield from node.output[:1] if node.op_type == "TopK" else node.output

    def _as(self, name: str, width: Width) -> str:
        """A value in a width: itself, its cast, or for a constant its copy."""
        if name in self.constant:
            return self._half_constant(name) if width == "half" else name
        if self.width[name] == width:
            return name
        if (name, width) not in self.casts:
            cast = f"{name}_{width}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], to=_TYPE[width]))
            self.casts[name, width] = cast
        return self.casts[name, width]

    def _half_constant(self, name: str) -> str:
        if name not in self.halved:
            values: NDArray[np.float32] = numpy_helper.to_array(self.constant[name])
            self.halved[name] = half = f"{name}_half"
            self.constant[half] = numpy_helper.from_array(values.astype(np.float16), half)
        return self.halved[name]

    def _show(self, output: str) -> None:
        """Give an output that is computed in half precision its own type again."""
        inner = f"{output}_half"
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == output:
                        names[index] = inner
        self.nodes.append(helper.make_node("Cast", [inner], [output], to=TensorProto.FLOAT))
