"""The ONNX graph: simplify it, and the rules that every target of ours needs."""

from __future__ import annotations

from typing import Any

import onnx
import onnxsim

from skyreid.contract.errors import GateError

INPUT = "images"
"""The one input of every graph of ours: uint8 [N, H, W, 3] RGB."""
OPSET = 20
"""The newest that TensorRT 10.3 (JetPack 6) documents; it has LayerNormalization and Gelu whole."""

_FORBIDDEN = {
    "Attention": "TensorRT before 10.14 cannot parse it",
    "NonZero": "its output's shape depends on the data",
    "Loop": "control flow",
    "If": "control flow",
    "Scan": "control flow",
}


def simplify(raw: bytes) -> bytes:
    """Fold constants and fuse batch normalisation.

    Raises:
        GateError: the simplifier's own comparison failed.
    """
    model, same = onnxsim.simplify(onnx.load_from_string(raw))
    if not same:
        raise GateError("onnxsim changed what the model computes")
    for part in (model, model.graph):  # traces of the machine it was made on
        part.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    serialised: bytes = model.SerializeToString()
    return serialised


def check(data: bytes, batch: int | None = None) -> dict[str, Any]:
    """Hold a graph against the rules of the export.

    Args:
        data: serialised ONNX.
        batch: that it takes; None = any.

    Returns:
        ``nodes`` (count), ``opset`` and ``operators`` (count by type).

    Raises:
        GateError: the graph is invalid, too new, holds an operator that a target lacks, has another
            batch, or lets its uint8 input feed anything but a Cast (TensorRT allows no other).
    """
    model = onnx.load_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GateError(f"onnx.checker: {error}") from error
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > OPSET:
        raise GateError(f"opset {opset} is newer than {OPSET}, which TensorRT 10.3 reads")
    inputs = list(model.graph.input)
    uint8 = onnx.TensorProto.UINT8
    if [i.name for i in inputs] != [INPUT] or inputs[0].type.tensor_type.elem_type != uint8:
        found = ", ".join(i.name for i in inputs)
        raise GateError(f"expected one uint8 input {INPUT}, the graph has: {found}")
    first = inputs[0].type.tensor_type.shape.dim[0]
    if batch is None and not first.dim_param:
        raise GateError("the batch is fixed; it must be dynamic")
    if batch is not None and first.dim_value != batch:
        raise GateError(f"the batch must be fixed at {batch}")
    operators: dict[str, int] = {}
    for node in model.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        if INPUT in node.input and node.op_type not in ("Cast", "Shape"):
            raise GateError(
                f"the uint8 input feeds {node.op_type} {node.name}; TensorRT allows only Cast"
            )
        if node.op_type in _FORBIDDEN:
            raise GateError(f"operator {node.op_type}: {_FORBIDDEN[node.op_type]}")
    return {"nodes": len(model.graph.node), "opset": opset, "operators": operators}
