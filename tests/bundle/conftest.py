"""A tiny embedder bundle, made on the spot: mean colour per channel, L2-normalised."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import Bundle, write_bundle
from skyreid.bundle.manifest import Manifest, model_key
from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.input_spec import InputSpec

SPEC = InputSpec(height=8, width=4)


def tiny_model(scale: float = 1.0) -> bytes:
    """uint8 [N, 8, 4, 3] -> ``embedding`` float32 [N, 3]."""
    nodes = [
        helper.make_node("Cast", ["pictures"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["mean"], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    weights = [
        numpy_helper.from_array(np.array([scale, 1, 1], np.float32), "scale"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 8, 4, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_tiny(
    path: Path, *, view: str = "any", checkpoint: str = "c" * 64, golden_scale: float = 1.0
) -> Bundle:
    """Write a tiny bundle; ``golden_scale`` other than 1 makes its golden outputs wrong."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, 8, 4, 3), np.uint8)
    with OnnxRunner(tiny_model(golden_scale), name="golden") as runner:
        outputs = runner.run(pictures)
    manifest = Manifest.model_validate(
        {
            "kind": "embedder",
            "name": "tiny",
            "model_key": model_key(checkpoint, SPEC, 3),
            "view": view,
            "input": SPEC,
            "embedding_dim": 3,
            "formats": ("fp32",),
            "opset": 20,
            "checkpoint_sha256": checkpoint,
        }
    )
    return write_bundle(
        path,
        manifest,
        {"fp32": tiny_model()},
        golden_pictures=pictures,
        golden_outputs=outputs,
        parity={"fp32": {"max_abs": 0.0}},
    )


@pytest.fixture
def make_bundle() -> Callable[..., Bundle]:
    """``write_tiny``, for tests that need more than one bundle."""
    return write_tiny


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny(tmp_path / "tiny")
