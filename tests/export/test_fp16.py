"""Half precision: right where it rounds, exact where it decides, for every method and view."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.errors import GateError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import exact, fp16, golden, int8, ranges
from skyreid.train.models.registry import methods

View = Literal["aerial", "ground"]
Exported = Callable[[str, View | None], bytes]

SERVED: list[tuple[str, View | None]] = [
    *((method, None) for method in methods() if method != "visa"),
    ("visa", "aerial"),
    ("visa", "ground"),
]
PICTURES = golden.draw(InputSpec(height=64, width=32))


def embedded(model: bytes) -> np.ndarray:
    with OnnxRunner(model, name="test", quantised=b"QuantizeLinear" in model) as runner:
        return runner.run(PICTURES)["embedding"]


def widths(model: onnx.ModelProto) -> dict[str, int]:
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = (*typed.graph.value_info, *typed.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize(("method", "view"), SERVED)
def test_every_method_keeps_its_embedding_and_its_float32_parts(
    method: str, view: View | None, exported: Exported
) -> None:
    fp32 = exported(method, view)
    half = fp16.convert(fp32)
    assert fp16.check(half)["half"] > fp16.check(half)["casts"]
    assert len(half) < 0.65 * len(fp32)
    found, wanted = embedded(half), embedded(fp32)
    assert (found * wanted).sum(1).min() >= 0.9999
    model = onnx.load_from_string(half)
    kinds = widths(model)
    for node in model.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceL2", "Cos", "Sin", "Sqrt"):
            assert kinds[node.output[0]] == TensorProto.FLOAT, node.output[0]
        if node.op_type in ("Conv", "Gelu"):
            chosen = exact.parts(onnx.load_from_string(fp32)).get(node.output[0])
            wide = TensorProto.FLOAT if chosen else TensorProto.FLOAT16
            assert kinds[node.output[0]] == wide, node.output[0]
    assert [n.op_type for n in model.graph.node if "images" in n.input] == ["Shape", "Cast"]
    assert kinds["embedding"] == TensorProto.FLOAT


def test_an_int8_graph_takes_its_weights_and_scales_along(exported: Exported) -> None:
    fp32 = exported("vdt", None)
    rounded = int8.quantise(fp32, ranges.measure(fp32, PICTURES, "minmax"))
    half = fp16.convert(rounded)
    assert int8.check(half) == int8.check(rounded)
    one, two = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}
        for data in (rounded, half)
    )
    weights = [name for name in one if name.endswith("_int8")]
    assert len(weights) == 9
    for name in weights:
        np.testing.assert_array_equal(one[name], two[name])
        scale = name.removesuffix("_int8") + "_scale"
        np.testing.assert_array_equal(one[scale], two[f"{scale}_half"].astype(np.float32))
    assert (embedded(rounded) * embedded(half)).sum(1).min() > 0.999


def test_routers_selectors_and_angles_are_neither_halved_nor_quantised(exported: Exported) -> None:
    for method, view, part in (
        ("visa", "ground", "choice"),
        ("dtst", None, "choice"),
        ("gsalign", None, "place"),
    ):
        fp32 = exported(method, view)
        model = onnx.load_from_string(fp32)
        kept = exact.parts(model)
        constant = {tensor.name for tensor in model.graph.initializer}
        mine = [
            node.output[0]
            for node in model.graph.node
            if node.op_type in ("MatMul", "Gemm")
            and node.input[1] in constant
            and kept.get(node.output[0]) == part
        ]
        assert mine, method
        assert not set(mine) & {node.output[0] for node in int8.linears(model)}
        kinds = widths(onnx.load_from_string(fp16.convert(fp32)))
        assert {kinds[name] for name in mine} == {TensorProto.FLOAT}


def test_the_detector_keeps_its_boxes(detector_bundle: Path) -> None:
    bundle = open_bundle(detector_bundle)
    pictures, wanted = bundle.golden()
    half = fp16.convert(bundle.model("fp32"))
    fp16.check(half)
    with OnnxRunner(half, name="half") as runner:
        found = runner.run(pictures)
    np.testing.assert_allclose(found["box"], wanted["box"], rtol=0.02, atol=0.05)
    both = (found["heat"] > 0) & (wanted["heat"] > 0)
    assert both.sum() > 0.8 * (wanted["heat"] > 0).sum()
    assert np.abs(found["heat"] - wanted["heat"])[both].max() < 0.02


def graph_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    made = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT), *nodes],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 1, 1, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 1, 1, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())


def run(data: bytes, pixels: list[int]) -> np.ndarray:
    with OnnxRunner(data, name="test") as runner:
        return runner.run(np.array(pixels, np.uint8).reshape(1, 1, 1, 4))["embedding"].ravel()


EYE = np.eye(4, dtype=np.float32)


def test_a_square_beyond_float16_and_a_small_epsilon_survive() -> None:
    """RMS norm of (20000, 0, 0, 0): its square is 4e8, and 1e-12 would be 0."""
    data = graph_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Mul", ["y", "y"], ["squared"]),
            helper.make_node("ReduceMean", ["squared", "axes"], ["mean"]),
            helper.make_node("Add", ["mean", "eps"], ["held"]),
            helper.make_node("Sqrt", ["held"], ["length"]),
            helper.make_node("Div", ["y", "length"], ["z"]),
            helper.make_node("MatMul", ["z", "eye"], ["embedding"]),
        ],
        w=100 * EYE,
        eye=EYE,
        axes=np.array([3], np.int64),
        eps=np.array(1e-12, np.float32),
    )
    half = fp16.convert(data)
    np.testing.assert_allclose(run(half, [200, 0, 0, 0]), [2, 0, 0, 0], atol=1e-3)
    np.testing.assert_array_equal(run(half, [0, 0, 0, 0]), 0)
    assert widths(onnx.load_from_string(half))["y"] == TensorProto.FLOAT16


@pytest.mark.parametrize("large", [False, True])
def test_a_constant_that_float16_cannot_hold_keeps_its_node_in_float32(large: bool) -> None:
    constant = np.full((4, 4), 1e5, np.float32) if large else np.float32(1e-7)
    operator = "MatMul" if large else "Mul"
    data = graph_of(
        [
            helper.make_node("MatMul", ["x", "eye"], ["y"]),
            helper.make_node(operator, ["y", "c"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"]),
            helper.make_node("MatMul", ["p", "eye"], ["embedding"]),
        ],
        eye=EYE,
        c=constant,
    )
    kinds = widths(onnx.load_from_string(fp16.convert(data)))
    assert (kinds["y"], kinds["z"]) == (TensorProto.FLOAT16, TensorProto.FLOAT)


def test_cosines_are_float32_and_products_with_probabilities_are_not() -> None:
    data = graph_of(
        [
            helper.make_node("MatMul", ["x", "eye"], ["y"]),
            helper.make_node("ReduceL2", ["y", "axes"], ["length"]),
            helper.make_node("Clip", ["length", "eps"], ["held"]),
            helper.make_node("Div", ["y", "held"], ["unit"]),
            helper.make_node("Transpose", ["unit"], ["turned"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["turned", "y"], ["cosine"]),
            helper.make_node("Softmax", ["cosine"], ["p"]),
            helper.make_node("MatMul", ["y", "p"], ["mixed"]),
            helper.make_node("MatMul", ["mixed", "eye"], ["embedding"]),
        ],
        eye=EYE,
        axes=np.array([3], np.int64),
        eps=np.array(1e-12, np.float32),
    )
    half = fp16.convert(data)
    kinds = widths(onnx.load_from_string(half))
    assert (kinds["cosine"], kinds["mixed"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)
    np.testing.assert_allclose(run(half, [3, 4, 0, 1]), run(data, [3, 4, 0, 1]), rtol=2e-3)


def test_a_double_is_refused_by_name() -> None:
    data = graph_of([helper.make_node("Mul", ["x", "c"], ["embedding"])], c=np.array(2.0))
    with pytest.raises(GateError, match="constant c is float64"):
        fp16.convert(data)


def test_mixed_types_fail_the_check() -> None:
    model = onnx.load_from_string(
        fp16.convert(graph_of([helper.make_node("MatMul", ["x", "w"], ["embedding"])], w=EYE))
    )
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.input[0] = "x"
    with pytest.raises(GateError, match="fp16"):
        fp16.check(model.SerializeToString())
