"""TensorRT's own parser and builder take every method, view and numeric format, and the detector.

TensorRT-RTX is a proxy: it needs no GPU, but it is another builder than the one on a Jetson, and
nothing is executed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import onnx
import pytest

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.engine import Built, Profile, build, load_api, profile_of
from skyreid.bundle.manifest import NumericFormat
from skyreid.contract.errors import BundleError
from skyreid.export import fp16, int8
from skyreid.train.models.method import Method
from skyreid.train.models.registry import methods

View = Literal["aerial", "ground"]
Format = Literal["fp32", "fp16", "int8", "int8-fp16"]

HEIGHT, WIDTH = 64, 32
PROFILE = Profile((1, HEIGHT, WIDTH, 3), (2, HEIGHT, WIDTH, 3), (8, HEIGHT, WIDTH, 3))

SERVED: list[tuple[str, View | None]] = [
    ("vit", None),
    ("vdt", None),
    ("visa", "aerial"),
    ("visa", "ground"),
    ("secap", None),
    ("gsalign", None),
    ("dtst", None),
    ("clip-reid", None),
]
"""The method and the view of each graph that differs: but for ViSA one graph serves both views."""


def in_format(fp32: bytes, form: Format) -> bytes:
    """The graph in a numeric format; the last is int8 with float16 around it."""
    if form == "fp32":
        return fp32
    if form == "fp16":
        return fp16.convert(fp32)
    wanted = int8.quantised_inputs(onnx.load_from_string(fp32))
    data = int8.quantise(fp32, dict.fromkeys(wanted, 8.0))
    int8.check(data)
    return data if form == "int8" else fp16.convert(data)


def built(model: bytes, profile: Profile, name: str) -> Built:
    _, trt = load_api()
    return build(model, profile, trt=trt, name=name)


def test_every_method_is_listed_and_per_view_where_it_must_be(
    drawn: Callable[[str], Method],
) -> None:
    assert {method for method, _ in SERVED} == set(methods())
    for method in methods():
        views = {view for listed, view in SERVED if listed == method}
        assert views == (set(get_args(View)) if drawn(method).needs_view else {None}), method


@pytest.mark.parametrize("form", get_args(Format))
@pytest.mark.parametrize(("method", "view"), SERVED)
def test_the_graph_is_parsed_and_built(
    method: str, view: View | None, form: Format, exported: Callable[[str, View | None], bytes]
) -> None:
    fp32 = exported(method, view)
    made = built(in_format(fp32, form), PROFILE, f"{method}/{view or 'any'}/{form}")
    assert made.layers >= len(onnx.load_from_string(fp32).graph.node) // 2
    assert len(made.plan) > 10_000


@pytest.mark.parametrize("form", ["fp32", "fp16"])
def test_the_detector_is_parsed_and_built(detector_bundle: Path, form: Format) -> None:
    model = in_format(open_bundle(detector_bundle).model("fp32"), form)
    made = built(model, Profile((1, 96, 128, 3), (1, 96, 128, 3), (4, 96, 128, 3)), "detector")
    assert len(made.plan) > 10_000


@pytest.mark.parametrize("form", ["fp32", "fp16"])
def test_a_wrapped_yolox_is_parsed_and_built(yolox_bundle: Path, form: NumericFormat) -> None:
    bundle = open_bundle(yolox_bundle)
    made = built(bundle.engine_model(form), profile_of(bundle.manifest), "yolox-nano")
    assert len(made.plan) > 1_000_000


def test_a_graph_that_only_onnx_runtime_takes_is_refused_with_the_node_named() -> None:
    """What the gate is for: a transpose of the uint8 input is legal ONNX."""
    nodes = [
        onnx.helper.make_node("Transpose", ["images"], ["turned"], name="turn", perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Cast", ["turned"], ["out"], to=onnx.TensorProto.FLOAT),
    ]
    uint8, real = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("images", uint8, ["n", HEIGHT, WIDTH, 3])],
        [onnx.helper.make_tensor_value_info("out", real, ["n", 3, HEIGHT, WIDTH])],
    )
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9
    )
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(BundleError, match=r"node turn, operator Transpose|UInt8"):
        built(model.SerializeToString(), PROFILE, "turned")
