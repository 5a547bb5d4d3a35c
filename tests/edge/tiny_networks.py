"""Bundles of the smallest networks there are, for devices of tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import write_bundle
from skyreid.bundle.manifest import DetectorSpec, Manifest, model_key
from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.input_spec import InputSpec

SPEC = InputSpec(height=8, width=4)


def write_embedder(path: Path) -> None:
    """Mean colour per channel, L2-normalised."""
    nodes = [
        helper.make_node("Cast", ["pictures"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["mean"], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 8, 4, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    data = model.SerializeToString()
    pictures = np.random.default_rng(0).integers(1, 256, (8, 8, 4, 3), np.uint8)
    with OnnxRunner(data, name="golden") as runner:
        outputs = runner.run(pictures)
    manifest = Manifest.model_validate(
        {
            "kind": "embedder",
            "name": "tiny",
            "model_key": model_key("c" * 64, SPEC, 3),
            "view": "any",
            "input": SPEC,
            "embedding_dim": 3,
            "formats": ("fp32",),
            "opset": 20,
            "checkpoint_sha256": "c" * 64,
        }
    )
    write_bundle(
        path,
        manifest,
        {"fp32": data},
        golden_pictures=pictures,
        golden_outputs=outputs,
        parity={},
    )


def counting(value: str, out: str) -> list[onnx.NodeProto]:
    """Nodes that take 2^40 steps for each by which ``value`` is above 200."""
    float_, bool_ = TensorProto.FLOAT, TensorProto.BOOL
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Neg", ["was"], ["is"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", bool_, []),
            helper.make_tensor_value_info("was", float_, []),
        ],
        [
            helper.make_tensor_value_info("goes", bool_, []),
            helper.make_tensor_value_info("is", float_, []),
        ],
    )
    large = numpy_helper.from_array(np.array(2.0**40, np.float32), "large")
    on = numpy_helper.from_array(np.array(True), "on")
    return [
        helper.make_node("Constant", [], ["large"], value=large),
        helper.make_node("Constant", [], ["on"], value=on),
        helper.make_node("Constant", [], ["dark"], value_float=200.0),
        helper.make_node("Sub", [value, "dark"], ["above"]),
        helper.make_node("Relu", ["above"], ["light"]),
        helper.make_node("Mul", ["light", "large"], ["steps"]),
        helper.make_node("Cast", ["steps"], ["trips"], to=TensorProto.INT64),
        helper.make_node("Loop", ["trips", "on", value], [out], body=step),
    ]


def write_detector(path: Path, *, hangs: bool = False) -> None:
    """A YOLOX of 64 x 64 that sees the same in every picture, and nobody in any.

    ``hangs``: it counts to a trillion and more in every light picture, which its own is not.
    """
    cells = 8 * 8 + 4 * 4 + 2 * 2
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    blank = {"boxes": np.full((1, cells, 4), 7, np.float32), "scores": np.zeros((1, cells), "f4")}
    nodes = [
        helper.make_node("Cast", ["images"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["seen"], ["lightest"], keepdims=0),
        *(counting("lightest", "most") if hangs else []),
        helper.make_node("Mul", ["most" if hangs else "lightest", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"blank {name}", "nothing"], [name]) for name in blank),
    ]
    graph = helper.make_graph(
        nodes,
        "blind",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 64, 64, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(values.shape))
            for name, values in blank.items()
        ],
        [zero, *(numpy_helper.from_array(v, f"blank {name}") for name, v in blank.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    manifest = Manifest(
        kind="detector",
        name="blind",
        input=InputSpec(height=64, width=64, crop_margin=0.0),
        formats=("fp32",),
        opset=18,
        batch_max=1,
        checkpoint_sha256="d" * 64,
        detector=DetectorSpec(family="yolox", stride=0, align=32, score_min=0.1),
    )
    write_bundle(
        path,
        manifest,
        {"fp32": model.SerializeToString()},
        golden_pictures=np.zeros((1, 64, 64, 3), np.uint8),
        golden_outputs={"boxes": blank["boxes"]},  # nobody's scores have no direction to compare
        parity={},
    )
