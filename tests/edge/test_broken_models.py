"""A model that cannot be used is one line and an exit code of the real process, never a signal.

ONNX Runtime throws C++ exceptions, and GStreamer is loaded before it: only a process of its own,
with both in it, shows whether an exception stays one.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import write_bundle
from skyreid.bundle.manifest import Manifest, model_key
from skyreid.contract.input_spec import InputSpec

SPEC = InputSpec(height=8, width=4)
CHECKPOINT = "c" * 64


def serialised(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], domain: str) -> bytes:
    graph = helper.make_graph(
        nodes,
        "broken",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 8, 4, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    sets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9)
    return bytes(model.SerializeToString())


def random_bytes() -> bytes:
    return np.random.default_rng(0).bytes(5000)


def unknown_operator() -> bytes:
    node = helper.make_node("Evil", ["pictures"], ["embedding"], domain="evil.ops")
    return serialised([node], [], "evil.ops")


def cut_in_half() -> bytes:
    whole = unknown_operator()
    return whole[: len(whole) // 2]


def allocates_4_tb_as_it_runs() -> bytes:
    """The size hangs on the picture, so that it loads: memory runs out in a run."""
    nodes = [
        helper.make_node("Shape", ["pictures"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"]),
        helper.make_node("Mul", ["n", "most"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["embedding"], keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([1 << 40], np.int64), "most"),
    ]
    return serialised(nodes, weights, "evil.ops")


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Path:
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    path = tmp_path / "edge.toml"
    path.write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n'
        '[camera]\nid = "cam1"\nsource = "test://64x64@5"\n'
        f'[detector]\nmodel = "{models}/blind"\n'
        '[embedder]\nbundles = ["broken"]\n[spool]\npath = "spool.db"\n'
    )
    return path


def write_broken(path: Path, model: bytes) -> None:
    """A bundle whose sums are right and whose model is not; no writer of ours makes one."""
    manifest = Manifest(
        kind="embedder",
        name="broken",
        model_key=model_key(CHECKPOINT, SPEC, 3),
        input=SPEC,
        embedding_dim=3,
        formats=("fp32",),
        opset=20,
        checkpoint_sha256=CHECKPOINT,
    )
    write_bundle(
        path,
        manifest,
        {"fp32": unknown_operator()},
        golden_pictures=np.zeros((2, 8, 4, 3), np.uint8),
        golden_outputs={"embedding": np.ones((2, 3), np.float32)},
        parity={},
    )
    file, sums = path / "model.fp32.onnx", path / "SHA256SUMS"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(model)
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(model).hexdigest()))


def edge(environment: dict[str, str], *arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "skyreid.edge", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("verb", "model", "said"),
    [
        ("run", random_bytes, "does not load"),
        ("check", cut_in_half, "does not load"),
        ("check", unknown_operator, "does not load"),
        ("check", allocates_4_tb_as_it_runs, "does not run on pictures"),
    ],
)
def test_an_exception_of_onnx_runtime_is_no_crash_beside_gstreamer(
    needs_gst: None,
    settings: Path,
    environment: dict[str, str],
    verb: str,
    model: Callable[[], bytes],
    said: str,
) -> None:
    write_broken(settings.parent / "broken", model())
    code, error = edge(environment, verb, settings)
    lines = [line for line in error.splitlines() if line.startswith("error (")]
    assert code == 2, (code, error)
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in error


def loops_for_ever() -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["go on"]),
            helper.make_node("Add", ["value", "one"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 3]),
        ],
        [numpy_helper.from_array(np.ones((2, 3), np.float32), "one")],
    )
    node = helper.make_node("Loop", ["rounds", "yes", "start"], ["embedding"], body=body)
    weights = [
        numpy_helper.from_array(np.array(1 << 62, np.int64), "rounds"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.zeros((2, 3), np.float32), "start"),
    ]
    return serialised([node], weights, "evil.ops")


def test_a_graph_that_never_ends_is_cut_off(
    needs_gst: None, settings: Path, environment: dict[str, str]
) -> None:
    write_broken(settings.parent / "broken", loops_for_ever())
    soon = "import skyreid.bundle.limit as limit; limit.CPU_S = 1; limit.CPU_PER_PICTURE_S = 0;"
    command = f"{soon} import skyreid.edge.__main__ as edge, sys; sys.exit(edge.main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "check", str(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "running it has not ended after" in done.stderr
