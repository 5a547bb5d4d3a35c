import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.embedder import open_all
from skyreid.bundle.manifest import model_key
from skyreid.bundle.runner import self_test, start
from skyreid.contract.errors import BundleError, GateError, InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import parity, trace
from skyreid.export.__main__ import main
from skyreid.export.bundle import RangePictures, export_bundle
from skyreid.train import checkpoint
from skyreid.train.models.method import Method
from skyreid.train.models.tps import ServingLtps


def test_a_detector_bundle_opens_verifies_and_passes_its_self_test(detector_bundle: Path) -> None:
    bundle = open_bundle(detector_bundle)
    assert bundle.manifest.kind == "detector"
    assert bundle.manifest.detector is not None
    assert bundle.manifest.detector.model_dump() == {
        "family": "heatmap", "stride": 4, "align": 16, "score_min": 0.34,
        "half_from_px": 0, "half_height_px": 0, "fit": "corner", "rows": 0, "file": None,
    }  # fmt: skip
    with start(bundle) as runner:
        assert min(self_test(bundle, runner).values()) > 0.9999


def test_the_uint8_input_feeds_only_a_cast_and_every_side_is_dynamic(detector_bundle: Path) -> None:
    model = onnx.load(detector_bundle / "model.fp32.onnx")
    assert [n.op_type for n in model.graph.node if "images" in n.input] == ["Cast"]
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert [bool(side.dim_param) for side in sides] == [True, True, True, False]
    assert not any(n.op_type == "BatchNormalization" for n in model.graph.node)


def test_an_embedder_bundle_equals_torch_at_any_batch(
    embedder_bundle: Path, embedder_checkpoint: Path
) -> None:
    bundle = open_bundle(embedder_bundle)
    traced = trace.load(embedder_checkpoint, "any")
    key = model_key(traced.checkpoint_sha256, bundle.manifest.input, 24)
    assert (bundle.manifest.model_key, bundle.manifest.embedding_dim) == (key, 24)
    assert (bundle.manifest.view, bundle.manifest.detector) == ("ground", None)
    pictures = np.random.default_rng(6).integers(0, 256, (5, 32, 16, 3), dtype=np.uint8)
    with start(bundle) as runner:
        self_test(bundle, runner)
        found = runner.run(pictures)
    np.testing.assert_allclose(np.linalg.norm(found["embedding"], axis=1), 1, atol=1e-5)
    parity.require("test", parity.distance(found, trace.ask(traced, pictures)), 1e-5)
    model = onnx.load(embedder_bundle / "model.fp32.onnx")
    readers = {n.op_type for n in model.graph.node if "images" in n.input}
    assert readers - {"Shape"} == {"Cast"}


@pytest.mark.parametrize("shape", [(1, 16, 48), (3, 64, 32), (2, 720, 1280)])
def test_the_exported_detector_equals_torch_at_sizes_it_never_saw(
    detector_bundle: Path, detector_checkpoint: Path, shape: tuple[int, int, int]
) -> None:
    random = np.random.default_rng(5)
    pictures = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    with start(open_bundle(detector_bundle)) as runner:
        found = runner.run(pictures)
    traced = trace.load(detector_checkpoint, "any")
    apart = parity.distance(found, trace.reference(traced, pictures), traced.family)
    parity.require("test", apart, parity.TORCH_LIMIT)


def test_a_failing_gate_exits_3_and_leaves_nothing(
    detector_checkpoint: Path,
    detector_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ready = (detector_bundle / "model.fp32.onnx").read_bytes()
    monkeypatch.setattr(trace, "export", lambda traced, example: ready)  # the slow part
    monkeypatch.setattr(parity, "TORCH_LIMIT", -1.0)
    out = tmp_path / "bundle"
    assert main(["bundle", str(detector_checkpoint), "-o", str(out), "--view", "any"]) == 3
    assert list(tmp_path.iterdir()) == []
    assert "parity, ONNX Runtime against torch" in capsys.readouterr().err.splitlines()[-1]


def test_weights_that_no_onnx_file_can_carry_are_refused_before_anything_is_traced() -> None:
    with torch.device("meta"):  # shapes without memory
        module = torch.nn.Linear(1 << 15, 17_000)
    huge = trace.Traced("embedder", module, InputSpec(height=64, width=32), {}, "0" * 64)
    with pytest.raises(GateError, match=r"holds 2\.2 GB of weights.* 2\.1 GB at most"):
        trace.export(huge, np.zeros((2, 64, 32, 3), np.uint8))


def test_inspect_prints_one_json_object(
    detector_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(detector_bundle), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["manifest"]["name"] == "tiny detector"
    assert facts["files"]["model.fp32.onnx"] > 0
    assert set(facts["parity"]["gates"]) >= {"batch 1", "batch 2", "batch 4"}
    assert main(["inspect", str(detector_bundle)]) == 0
    assert "sides multiples of 16, default score 0.34" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("formats", "said"),
    [("fp32,int8", "needs --pictures"), ("fp64", "known are fp32, fp16, int8"), ("", "known are")],
)
def test_formats_that_cannot_be_made_are_refused(
    detector_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    formats: str,
    said: str,
) -> None:
    arguments = [str(detector_checkpoint), "-o", str(tmp_path / "b"), "--view", "any"]
    assert main(["bundle", *arguments, "--formats", formats]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "b").exists()


def test_int8_of_a_detector_a_warp_where_none_is_and_a_huge_batch_are_refused(
    detector_checkpoint: Path, embedder_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    crops = RangePictures(tmp_path)
    with pytest.raises(InputError, match="a detector has no Linear"):
        export_bundle(
            detector_checkpoint,
            out,
            view="any",
            name="x",
            formats=("int8",),
            range_pictures=crops,
        )
    with pytest.raises(InputError, match=r"--form sampling: .* vdt has none"):
        export_bundle(embedder_checkpoint, out, view="any", name="x", form={"sampling": "grid"})
    with pytest.raises(InputError, match="--batch-max 257"):
        export_bundle(embedder_checkpoint, out, view="any", name="x", batch_max=257)
    assert not out.exists()


def test_an_existing_directory_is_left_alone(detector_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="exists already"):
        export_bundle(detector_checkpoint, tmp_path, view="any", name="x")


def test_bad_input_exits_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent.safetensors"
    assert main(["bundle", str(absent), "-o", str(tmp_path / "b"), "--view", "any"]) == 2
    assert "absent.safetensors" in capsys.readouterr().err.splitlines()[-1]
    assert main(["inspect", str(tmp_path / "absent")]) == 2


def test_embeddings_that_are_not_of_unit_length_fail() -> None:
    from skyreid.export.bundle import _embedding_dim

    assert _embedding_dim({"embedding": np.eye(3, dtype=np.float32)}) == 3
    with pytest.raises(GateError, match="not L2-normalised"):
        _embedding_dim({"embedding": np.full((2, 3), 0.9, np.float32)})


def test_a_detector_is_exported_in_fp16_and_verified(
    detector_checkpoint: Path,
    detector_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = (detector_bundle / "model.fp32.onnx").read_bytes()
    monkeypatch.setattr(trace, "export", lambda traced, example: ready)  # the slow part
    out = tmp_path / "bundle"
    arguments = ["--view", "any", "--formats", "fp16", "--batch-max", "2"]
    assert main(["bundle", str(detector_checkpoint), "-o", str(out), *arguments]) == 0
    bundle = open_bundle(out)
    assert bundle.manifest.formats == ("fp16",)
    assert json.loads(bundle.files["parity.json"])["fp16"]["half"] > 10
    assert main(["verify", str(out)]) == 2  # nothing to compare with
    assert main(["verify", str(out), "--checkpoint", str(detector_checkpoint)]) == 0
    found = json.loads(open_bundle(out).files["parity.json"])["verified"]
    assert found["batches"]["fp16"]["2"]["box_min_cosine"] > 0.9999


def test_the_two_bundles_of_a_method_that_needs_the_view_are_one_model(
    small: Callable[[str], dict[str, Any]],
    drawn: Callable[[str], Method],
    exported: Callable[[str, Literal["aerial", "ground"]], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, path = drawn("visa").state_dict(), tmp_path / "visa.safetensors"
    spec = InputSpec(height=64, width=32)
    checkpoint.save(path, kind="embedder", config=small("visa"), state=state, input_spec=spec)
    views: tuple[Literal["aerial", "ground"], ...] = ("aerial", "ground")
    for view in views:
        ready = exported("visa", view)
        with monkeypatch.context() as patch:
            patch.setattr(trace, "export", lambda traced, example, r=ready: r)  # the slow part
            export_bundle(path, tmp_path / view, view=view, name=view, batch_max=2)
    opened = open_all([tmp_path / view for view in views])
    assert len({bundle.manifest.model_key for bundle in opened}) == 1
    assert opened[0].model("fp32") != opened[1].model("fp32")
    group = sum(v.numel() for k, v in state.items() if k.startswith("backbone.sky_experts"))
    for bundle in opened:
        graph = onnx.load_from_string(bundle.model("fp32")).graph
        held = sum(numpy_helper.to_array(tensor).size for tensor in graph.initializer)
        assert 0 < group < sum(v.numel() for v in state.values()) - held
    with pytest.raises(InputError, match="--view aerial and --view ground"):
        export_bundle(path, tmp_path / "any", view="any", name="any")


def test_gsalign_samples_by_the_operator_where_it_is_asked_to(
    small: Callable[[str], dict[str, Any]], drawn: Callable[[str], Method], tmp_path: Path
) -> None:
    path = tmp_path / "gsalign.safetensors"
    spec = InputSpec(height=64, width=32)
    state = drawn("gsalign").state_dict()
    checkpoint.save(path, kind="embedder", config=small("gsalign"), state=state, input_spec=spec)
    ways = [trace.load(path, "any", form=form) for form in ({}, {"sampling": "grid"})]
    found = [
        {part.sampling for part in way.module.modules() if isinstance(part, ServingLtps)}
        for way in ways
    ]
    assert found == [{"hat"}, {"grid"}]
    pictures = np.random.default_rng(7).integers(0, 256, (2, 64, 32, 3), dtype=np.uint8)
    one, two = (trace.ask(way, pictures)["embedding"] for way in ways)
    np.testing.assert_allclose(one, two, atol=1e-5)
