"""TensorRT's own parser and builder take every method, view and numeric format, and the detector.

TensorRT-RTX is a proxy: it needs no GPU, but it is another builder than the one on a Jetson, and
nothing is executed.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import onnx
import pytest
import torch

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.engine import Built, Profile, build, load_api
from skyreid.bundle.manifest import NumericFormat
from skyreid.contract.errors import BundleError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import golden, graph, int8, trace
from skyreid.train.checkpoint import Embedder
from skyreid.train.models.variants import METHODS, construct, variant

View = Literal["aerial", "ground"]

HEIGHT, WIDTH = 64, 32
TRUNK = {"dim": 48, "depth": 2, "heads": 3, "stride": 16}
OPTIONS = {"visa": {"experts": 2, "top_k": 1, "graph_top_k": 4}, "secap": {"prompts": 4}}
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


def drawn(method: str) -> torch.nn.Module:
    torch.manual_seed(0)
    made = variant(
        f"{method}-tiny",
        height=HEIGHT,
        width=WIDTH,
        people=2,
        trunk=TRUNK,
        options=OPTIONS.get(method),
    )
    return construct(made).eval()


@lru_cache(maxsize=2)  # the formats of one graph are tested one after the other
def exported(method: str, view: View | None) -> bytes:
    """The fp32 graph, as a bundle would hold it."""
    network = drawn(method)
    spec = InputSpec(height=HEIGHT, width=WIDTH)
    served = Embedder(network.serving(view), spec).eval().requires_grad_(False)
    traced = trace.Traced("embedder", served, spec, {}, "0" * 64, 0, 0)
    simple = graph.simplify(trace.export(traced, golden.draw(spec)[:2]))
    graph.check(simple)
    return simple


def in_format(fp32: bytes, numeric_format: NumericFormat) -> bytes:
    if numeric_format == "fp32":
        return fp32
    wanted = int8.quantised_inputs(onnx.load_from_string(fp32))
    data = int8.quantise(fp32, dict.fromkeys(wanted, 8.0))
    int8.check(data)
    return data


def built(model: bytes, profile: Profile, name: str) -> Built:
    _, trt = load_api()
    return build(model, profile, trt=trt, name=name)


def test_every_method_is_listed_and_per_view_where_it_must_be() -> None:
    assert {method for method, _ in SERVED} == set(METHODS)
    for method in METHODS:
        views = {view for listed, view in SERVED if listed == method}
        assert views == (set(get_args(View)) if drawn(method).needs_view else {None}), method


@pytest.mark.parametrize("numeric_format", ["fp32", "int8"])
@pytest.mark.parametrize(("method", "view"), SERVED)
def test_the_graph_is_parsed_and_built(
    method: str, view: View | None, numeric_format: NumericFormat
) -> None:
    model = in_format(exported(method, view), numeric_format)
    made = built(model, PROFILE, f"{method}/{view or 'any'}/{numeric_format}")
    assert made.layers >= len(onnx.load_from_string(exported(method, view)).graph.node) // 2
    assert len(made.plan) > 10_000


def test_the_detector_is_parsed_and_built(detector_bundle: Path) -> None:
    model = open_bundle(detector_bundle).model("fp32")
    made = built(model, Profile((1, 96, 128, 3), (1, 96, 128, 3), (4, 96, 128, 3)), "detector")
    assert len(made.plan) > 10_000


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
