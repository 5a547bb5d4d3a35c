import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.contract.errors import GateError
from skyreid.export.graph import check


def model(*nodes: onnx.NodeProto, batch: str | int = "n", opset: int = 20, rank: int = 4) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 4, 4, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, list("abcd")[:rank])],
        [numpy_helper.from_array(np.float32(2), "two")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    data: bytes = made.SerializeToString()
    return data


CAST = helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT)
MUL = helper.make_node("Mul", ["x", "two"], ["out"])


def test_a_graph_that_casts_first_passes_and_is_counted() -> None:
    assert check(model(CAST, MUL)) == {"nodes": 2, "opset": 20, "operators": {"Cast": 1, "Mul": 1}}


def test_a_uint8_input_that_feeds_a_transpose_fails() -> None:
    transpose = helper.make_node("Transpose", ["images"], ["y"], perm=[0, 3, 1, 2])
    cast = helper.make_node("Cast", ["y"], ["x"], to=TensorProto.FLOAT)
    with pytest.raises(GateError, match="feeds Transpose"):
        check(model(transpose, cast, MUL))


def test_a_fixed_batch_fails() -> None:
    with pytest.raises(GateError, match="batch is fixed"):
        check(model(CAST, MUL, batch=2))


def test_a_newer_opset_fails() -> None:
    with pytest.raises(GateError, match="opset 21"):
        check(model(CAST, MUL, opset=21))


def test_operators_without_support_fail() -> None:
    with pytest.raises(GateError, match="NonZero: its output's shape depends on the data"):
        check(
            model(
                CAST,
                helper.make_node("NonZero", ["x"], ["z"]),
                helper.make_node("Cast", ["z"], ["out"], to=TensorProto.FLOAT),
                rank=2,
            )
        )


def test_an_invalid_graph_fails() -> None:
    with pytest.raises(GateError, match=r"onnx\.checker"):
        check(model(CAST, helper.make_node("Mul", ["x", "absent"], ["out"])))
