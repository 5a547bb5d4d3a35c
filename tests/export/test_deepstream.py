"""What nvtracker would feed, by the very settings written for it, gives the kit's embedding."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.engine import Profile, build, load_api
from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.errors import BundleError, GateError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import View
from skyreid.export import deepstream, golden, parity, trace
from skyreid.export.__main__ import main

Exported = Callable[[str, Literal["aerial", "ground"] | None], bytes]


def read_settings(text: str) -> dict[str, Any]:
    """Keys and values below ``ReID:``, the subset of YAML that is written."""
    assert text.splitlines()[1] == "ReID:"
    rows = re.findall(r"^  (\w+): (.+?)(?:  #.*)?$", text, re.M)
    return {key: ast.literal_eval(value) for key, value in rows}


@pytest.fixture(scope="module")
def folder(
    embedder_checkpoint: Path, embedder_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    ready = open_bundle(embedder_bundle).model("fp32")
    out = tmp_path_factory.mktemp("deepstream") / "reid"
    said = ["bundle", str(embedder_checkpoint), "-o", str(out), "--view", "ground"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "export", lambda traced, example: ready)  # the slow part
        assert main([*said, "--io", "deepstream", "--batch-max", "4"]) == 0
    return out


def test_fed_by_its_settings_it_gives_the_embedding_of_the_kits_model(
    folder: Path, embedder_bundle: Path
) -> None:
    kit = open_bundle(embedder_bundle)
    pictures = np.random.default_rng(3).integers(0, 256, (5, 32, 16, 3), np.uint8)
    with OnnxRunner(kit.model("fp32"), name="kit") as runner:
        wanted = runner.run(pictures)["embedding"]
    said = read_settings((folder / deepstream.FOR_DEEPSTREAM).read_text())
    # By NVIDIA's guide: y = netScaleFactor * (x - offsets), RGB for 0, NCHW for 0.
    assert (said["colorFormat"], said["inputOrder"], said["keepAspc"]) == (0, 0, 0)
    assert said["inferDims"] == [3, 32, 16]
    planes = np.stack(
        [said["netScaleFactor"] * (pictures[..., c] - said["offsets"][c]) for c in range(3)], 1
    ).astype(np.float32)
    model = (folder / said["onnxFile"]).read_bytes()
    found = deepstream.run(model, planes)["embedding"]
    assert np.abs(found - wanted).max() <= 1e-4
    assert found.shape[1] == said["reidFeatureSize"]
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert said["addFeatureNormalization"] == 0
    assert said["batchSize"] == 4
    # Fed as NVIDIA's own network is, it would be wrong, and this test would say so.
    wrong = deepstream.as_fed(pictures, 0.01735207, (123.675, 116.28, 103.53))
    assert np.abs(deepstream.run(model, wrong)["embedding"] - wanted).max() > 1e-3


def test_it_names_the_model_key_of_the_bundle_and_what_was_measured(
    folder: Path, embedder_bundle: Path
) -> None:
    facts = ast.literal_eval((folder / deepstream.FACTS).read_text())
    assert facts["model_key"] == open_bundle(embedder_bundle).manifest.model_key
    assert facts["deepstream"] == "9.2"
    assert set(facts["against_torch"]) == {"batch 1", "batch 2", "batch 4"}
    assert max(v["embedding"] for v in facts["against_torch"].values()) <= parity.TORCH_LIMIT


def test_a_device_refuses_it_and_says_what_to_do(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"exported for DeepStream .* export it with --io kit"):
        Embedder([folder], view=View.GROUND)


@pytest.mark.parametrize(("method", "view"), [("vdt", None), ("visa", "aerial"), ("gsalign", None)])
def test_every_methods_graph_takes_planes_and_tensorrt_builds_it(
    exported: Exported, method: str, view: Literal["aerial"] | None
) -> None:
    kit = exported(method, view)
    planes = deepstream.planes_in(kit)
    entry = onnx.load_from_string(planes).graph.input[0].type.tensor_type
    assert entry.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_value for d in entry.shape.dim[1:]] == [3, 64, 32]
    assert entry.shape.dim[0].dim_param
    pictures = golden.draw(InputSpec(height=64, width=32))
    with OnnxRunner(kit, name=method) as runner:
        wanted = runner.run(pictures)["embedding"]
    found = deepstream.run(planes, deepstream.as_fed(pictures))["embedding"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)  # another kernel, perhaps
    _, trt = load_api()
    profile = Profile((1, 3, 64, 32), (2, 3, 64, 32), (8, 3, 64, 32))
    assert len(build(planes, profile, trt=trt, name=method).plan) > 10_000


def test_a_graph_with_another_beginning_is_refused(detector_bundle: Path) -> None:
    model = onnx.load_from_string(open_bundle(detector_bundle).model("fp32"))
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.op_type = "Identity"
    with pytest.raises(GateError, match="does not begin with one Cast"):
        deepstream.planes_in(model.SerializeToString())


def test_a_detector_other_formats_and_a_directory_that_exists_are_refused(
    detector_checkpoint: Path,
    embedder_checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    for checkpoint, target, more, word in (
        (detector_checkpoint, out, (), "nvtracker takes an embedder"),
        (embedder_checkpoint, out, ("--formats", "int8"), "--formats int8"),
        (embedder_checkpoint, out, ("--batch-max", "0"), "--batch-max 0"),
        (embedder_checkpoint, out, ("--pictures", "crops"), "--pictures"),
        (embedder_checkpoint, out, ("--form", "sampling=grid"), "--form"),
        (embedder_checkpoint, folder, (), "exists already"),
    ):
        said = ["bundle", str(checkpoint), "-o", str(target), "--view", "any"]
        assert main([*said, "--io", "deepstream", *more]) == 2
        assert word in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
