"""A verified bundle says so and a failed one says that; nothing else is claimed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skyreid.bundle.archive import (
    INT8_FOR_ENGINES,
    Bundle,
    open_bundle,
    replace_file,
    write_bundle,
)
from skyreid.contract.errors import BundleError, InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import crops, int8, retrieval, signing
from skyreid.export.__main__ import main
from skyreid.export.verify import verify
from skyreid.train.evaluate import metrics
from skyreid.train.evaluate.embedding import embedded


@pytest.fixture
def bundle(all_formats: Path, tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(all_formats, tmp_path / "bundle"))


@pytest.fixture
def split(tree: Path) -> retrieval.TestSplit:
    return retrieval.read(tree, InputSpec(height=32, width=16), ("aerial", "ground"))


def verified(path: Path) -> dict[str, Any]:
    found = json.loads(open_bundle(path).files["parity.json"])["verified"]
    assert isinstance(found, dict)
    return found


def written_anew(source: Path, out: Path, **fields: object) -> Path:
    """The bundle with other fields in its manifest, and the formats that this leaves."""
    old = open_bundle(source)
    manifest = old.manifest.model_copy(update=fields)
    pictures, outputs = old.golden()
    write_bundle(
        out,
        manifest,
        {f: old.model(f) for f in manifest.formats},
        golden_pictures=pictures,
        golden_outputs=outputs,
        parity=json.loads(old.files["parity.json"]),
    )
    return out


def with_crude_ranges(path: Path) -> Bundle:
    """The bundle with an int8 model whose activations saturate."""
    old = open_bundle(path)
    fp32 = old.model("fp32")
    wanted = int8.quantised_inputs(onnx.load_from_string(fp32))
    return replace_file(old, "model.int8.onnx", int8.quantise(fp32, dict.fromkeys(wanted, 0.1)))


def test_one_export_makes_every_format_and_writes_down_how_close_each_is(all_formats: Path) -> None:
    bundle = open_bundle(all_formats)
    assert bundle.manifest.formats == ("fp32", "fp16", "int8")
    assert bundle.manifest.batch_max == 4
    proof = json.loads(bundle.files["parity.json"])
    assert proof["fp16"]["min_cosine"] >= 0.999
    assert proof["fp16"]["pictures"] == 32
    assert proof["int8"]["min_cosine"] >= 0.98
    assert proof["int8"]["engines"]["min_cosine"] >= 0.98
    assert "verified" not in proof
    assert json.loads(bundle.files["int8-ranges.json"])["pictures"] == 32
    assert bundle.engine_model("fp16") == bundle.model("fp16")
    assert bundle.engine_model("int8") == bundle.files[INT8_FOR_ENGINES] != bundle.model("int8")


def test_a_bundle_that_holds_says_so_with_its_numbers(
    bundle: Path, embedder_checkpoint: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_bundle(bundle)
    asked = ["--checkpoint", str(embedder_checkpoint), "--data", str(tree), "--json"]
    assert main(["verify", str(bundle), *asked]) == 0
    found = json.loads(capsys.readouterr().out)[str(bundle)]
    assert found == verified(bundle)
    assert found["failures"] == []
    # 32 queries show of nothing that it loses less than half a point.
    assert (found["passed"], found["verdict"]) == (False, "not shown")
    assert all("queries would show it" in line for line in found["not_shown"])
    assert found["reference"] == "torch"
    assert set(found["batches"]) == {"fp32", "fp16", "int8", "int8-fp16"}
    for batches in found["batches"].values():
        assert set(batches) == {"1", "2", "4"}
    assert max(row["embedding"] for row in found["batches"]["fp32"].values()) < 1e-5
    search = found["retrieval"]
    assert (search["data"], search["layout"], search["pictures"]) == (tree.name, "CARGO", 96)
    assert search["protocols"]["fp32"]["ALL"]["queries"] == 32
    assert set(search["protocols"]["int8"]) == {"ALL", "A-A", "G-G", "A<->G", "A->G", "G->A"}
    listed = search["worst"]["int8"]
    assert len(listed) == 10
    assert all((tree / crop["path"]).is_file() for crop in listed)
    assert [crop["cosine"] for crop in listed] == sorted(crop["cosine"] for crop in listed)
    after = open_bundle(bundle)
    assert after.sha256 != before.sha256
    assert after.files["model.int8.onnx"] == before.files["model.int8.onnx"]
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"NOT SHOWN: {len(found['not_shown'])} of 36 losses of the search")


def test_a_bundle_that_fails_exits_3_and_no_longer_claims_to_have_passed(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert verified(bundle)["passed"]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "verified: 8 pictures at batch 1, 2, 4 against fp32; no search was tested (--data)"
    )
    with_crude_ranges(bundle)
    assert main(["verify", str(bundle)]) == 3
    said = capsys.readouterr()
    assert "bundle, int8 at batch 1: cosine" in said.err.splitlines()[-1]
    assert said.out.splitlines()[-1] == "NOT VERIFIED"
    assert not verified(bundle)["passed"]
    assert len(verified(bundle)["failures"]) >= 3
    assert not any("int8-fp16" in line for line in verified(bundle)["failures"])


def test_numbers_that_are_none_fail_and_are_null_in_json(
    bundle: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(bundle)]) == 0
    capsys.readouterr()
    old = open_bundle(bundle)
    graph = onnx.load_from_string(old.model("fp16"))
    weight = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    broken = np.full_like(onnx.numpy_helper.to_array(weight), np.nan)
    weight.CopyFrom(onnx.numpy_helper.from_array(broken, weight.name))
    replace_file(old, "model.fp16.onnx", graph.SerializeToString())
    assert main(["verify", str(bundle), "--data", str(tree), "--json"]) == 3
    said = capsys.readouterr()
    assert "fp16: 96 of 96 embeddings are not finite numbers" in said.err.splitlines()[-1]

    def refuse(token: str) -> None:
        pytest.fail(f"{token} is no JSON")

    found = json.loads(said.out, parse_constant=refuse)[str(bundle)]
    json.loads(open_bundle(bundle).files["parity.json"], parse_constant=refuse)
    assert found["batches"]["fp16"]["1"]["noise"] is None
    assert "fp16" not in found["retrieval"]["protocols"]
    assert "int8" in found["retrieval"]["protocols"]
    assert not verified(bundle)["passed"]
    assert main(["inspect", str(bundle)]) == 0
    assert "noise nan" in capsys.readouterr().out


def test_data_without_a_protocol_within_the_view_is_refused(tree: Path, tmp_path: Path) -> None:
    across = tmp_path / "across"
    shutil.copytree(tree, across)
    for part in ("query", "gallery"):
        for camera in (across / part).iterdir():
            is_aerial = int(camera.name.removeprefix("Cam")) <= 5
            if is_aerial == (part == "gallery"):
                shutil.rmtree(camera)
    with pytest.raises(InputError, match=r"no protocol of .* stays within view aerial"):
        retrieval.read(across, InputSpec(height=32, width=16), ("aerial",))


def test_ranks_that_are_lost_fail_though_every_cosine_holds(
    bundle: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = retrieval.measures

    def measures(rows: np.ndarray, test: retrieval.TestSplit) -> dict[str, metrics.Measures]:
        table = real(rows, test)
        if seen:
            row = list(metrics.MEANS).index("mAP")
            table["ALL"].values[row] -= 0.2 + 0.01 * np.arange(len(table["ALL"].query))
        seen.append(1)
        return table

    seen: list[int] = []
    monkeypatch.setattr(retrieval, "measures", measures)
    verdict = verify([bundle], data=tree)
    assert [line.split(": loses")[0] for line in verdict.failures if "ALL mAP" in line] == [
        "fp16: ALL mAP",
        "int8: ALL mAP",
        "int8-fp16: ALL mAP",
    ]
    assert not verified(bundle)["passed"]


def test_scores_are_those_of_evaluate(split: retrieval.TestSplit) -> None:
    rows = np.random.default_rng(1).normal(size=(len(split.images), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = {images.tobytes(): row for images, row in zip(split.images, rows, strict=True)}
    everything = embedded(
        lambda images, view: np.stack([places[i.tobytes()] for i in images]),
        split.records,
        split.images,
    )
    is_query = np.arange(len(split.records)) < 32
    wanted = metrics.as_json(
        metrics.protocols(everything.where(is_query), everything.where(~is_query))
    )
    found = retrieval.scores(retrieval.measures(rows, split))
    assert found.keys() == wanted.keys()
    for protocol, row in found.items():
        assert row["rank1"] == pytest.approx(wanted[protocol]["rank1"])
        assert row["mAP"] == pytest.approx(wanted[protocol]["mAP"])


def test_agreement_is_that_of_a_loop(split: retrieval.TestSplit) -> None:
    random = np.random.default_rng(2)
    exact = random.normal(size=(len(split.images), 4)).astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    found = exact + 0.2 * random.normal(size=exact.shape).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    trial, records = split.trials[0], split.records
    same = near = 0
    for query in trial.query:
        kept = [
            g
            for g in trial.gallery
            if (records[g].person, records[g].camera)
            != (records[query].person, records[query].camera)
        ]
        nearest = max(kept, key=lambda g: float(exact[query] @ exact[g]))
        five = sorted(kept, key=lambda g: -float(found[query] @ found[g]))[:5]
        same += five[0] == nearest
        near += nearest in five
    assert 0 < same < near < len(trial.query)
    assert retrieval.agreement(exact, found, split) == {"rank1": same / 32, "rank5": near / 32}


def test_two_bundles_of_two_views_are_searched_as_one_model(
    all_formats: Path, tree: Path, tmp_path: Path
) -> None:
    aerial = written_anew(all_formats, tmp_path / "aerial", view="aerial")
    ground = written_anew(all_formats, tmp_path / "ground", view="ground")
    verify([aerial, ground], data=tree)
    assert verified(aerial)["failures"] == []
    assert verified(ground)["retrieval"] == verified(aerial)["retrieval"]
    assert "A->G" in verified(ground)["retrieval"]["protocols"]["fp16"]
    verify([ground], data=tree)
    assert set(verified(ground)["retrieval"]["protocols"]["fp16"]) == {"ALL", "G-G"}


def test_without_fp32_the_checkpoint_is_what_formats_are_held_against(
    all_formats: Path, embedder_checkpoint: Path, tree: Path, tmp_path: Path
) -> None:
    half = written_anew(all_formats, tmp_path / "half", formats=("fp16",))
    with pytest.raises(InputError, match="has no fp32 to compare with: give its --checkpoint"):
        verify([half], data=tree)
    verify([half], checkpoint=embedder_checkpoint, data=tree)
    search = verified(half)["retrieval"]
    assert (verified(half)["reference"], search["reference"]) == ("torch", "torch")
    whole = Path(shutil.copytree(all_formats, tmp_path / "whole"))
    verify([whole], data=tree)
    other = verified(whole)["retrieval"]["protocols"]
    for protocol, row in search["protocols"]["torch"].items():
        assert row == pytest.approx(other["fp32"][protocol])
        assert search["protocols"]["fp16"][protocol] == other["fp16"][protocol]


def test_a_signed_bundle_and_a_zip_are_only_read(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle)
    signing.make_keys(tmp_path / "key", tmp_path / "public")
    signing.sign(bundle, tmp_path / "key")
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    for path, word in ((str(bundle), "needs a new signature"), (zipped, "unpack it")):
        assert main(["verify", path]) == 2
        assert word in capsys.readouterr().err.splitlines()[-1]
        assert main(["verify", path, "--read-only"]) == 0
    assert before == {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(BundleError, match="needs a new signature"):
        replace_file(open_bundle(bundle), "parity.json", b"{}")


def test_a_foreign_checkpoint_is_refused(bundle: Path, detector_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="was not exported from"):
        verify([bundle], checkpoint=detector_checkpoint)


def test_a_detector_is_compared_by_itself(
    detector_bundle: Path, tree: Path, tmp_path: Path, embedder_bundle: Path
) -> None:
    copy = Path(shutil.copytree(detector_bundle, tmp_path / "detector"))
    assert not verify([copy]).failures
    assert verified(copy)["batches"]["fp32"]["4"]["heat_min_cosine"] > 0.9999
    for paths, data in (([copy], tree), ([copy, embedder_bundle], None)):
        with pytest.raises(InputError, match="verified alone"):
            verify(paths, data=data)


def test_ranges_are_named_by_what_they_were_measured_on(all_formats: Path, tree: Path) -> None:
    table = json.loads(open_bundle(all_formats).files["int8-ranges.json"])
    taken = crops.read(tree / "train", InputSpec(height=32, width=16), 32)
    assert (table["pictures_sha256"], tuple(table["listed"])) == (taken.sha256, taken.listed)
    assert (table["method"], table["percentile"]) == ("minmax", None)
