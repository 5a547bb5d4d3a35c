"""Bundles whose network is one line: the mean colour, with the channels in an order of its view."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import write_bundle
from skyreid.bundle.manifest import Manifest, model_key
from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train.__main__ import main
from skyreid.train.data import cargo
from skyreid.train.data.records import Record
from skyreid.train.evaluate import embedding, protocols

SPEC = InputSpec(height=8, width=4)
KEYS = [
    "rank1", "rank5", "rank10", "mAP", "mINP", "queries", "people",
    "rank1_interval", "mAP_interval",
]  # fmt: skip


def network(order: Sequence[int]) -> bytes:
    """Uint8 [N, 8, 4, 3] to the mean colour about grey, float32 [N, 3], its channels in `order`."""
    nodes = [
        helper.make_node("Cast", ["pictures"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "grey"], ["about"]),
        helper.make_node("Gather", ["about", "order"], ["embedding"], axis=1),
    ]
    weights = [
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(np.array([110, 100, 120], np.float32), "grey"),
        numpy_helper.from_array(np.array(order, np.int64), "order"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", 8, 4, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())


def bundle(
    path: Path, view: str, *, checkpoint: str = "c", formats: dict[str, Sequence[int]] | None = None
) -> Path:
    """A bundle whose numeric formats are networks of different channel orders."""
    orders = formats or {"fp32": (0, 1, 2)}
    pictures = np.zeros((1, 8, 4, 3), np.uint8)
    models = {name: network(order) for name, order in orders.items()}
    with OnnxRunner(next(iter(models.values())), name="golden") as runner:
        golden = runner.run(pictures)
    manifest = Manifest.model_validate(
        {
            "kind": "embedder", "name": "tiny", "view": view, "input": SPEC, "embedding_dim": 3,
            "model_key": model_key(checkpoint * 64, SPEC, 3), "formats": tuple(orders), "opset": 20,
            "checkpoint_sha256": checkpoint * 64,
        }
    )  # fmt: skip
    write_bundle(
        path,
        manifest,
        models,  # type: ignore[arg-type]
        golden_pictures=pictures,
        golden_outputs=golden,
        parity={},
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["evaluate", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_bundles_of_both_views_are_one_model_and_every_crop_goes_to_its_own(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = bundle(tmp_path / "any", "any")
    air = bundle(tmp_path / "air", "aerial")
    street = bundle(tmp_path / "street", "ground")
    turned = bundle(tmp_path / "turned", "ground", formats={"fp32": (1, 2, 0)})
    alone = run(capsys, both, "--data", tiny_tree, "--json")
    pair = run(capsys, street, air, "--data", tiny_tree, "--json")
    assert alone[0] == pair[0] == 0
    assert json.loads(alone[1]) == json.loads(pair[1])
    assert json.loads(alone[1])["A->G"]["rank1"] == 100
    # The ground network now permutes the channels: only within a view colours still agree.
    mixed = json.loads(run(capsys, air, turned, "--data", tiny_tree, "--json")[1])
    assert mixed["A-A"]["rank1"] == mixed["G-G"]["rank1"] == 100
    assert mixed["A->G"]["rank1"] < 40


def test_what_is_not_one_model_is_refused_in_one_line(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    air = bundle(tmp_path / "air", "aerial")
    again = bundle(tmp_path / "again", "aerial")
    other = bundle(tmp_path / "other", "ground", checkpoint="d")
    both = bundle(tmp_path / "any", "any")
    checkpoint = tmp_path / "x.safetensors"
    checkpoint.write_bytes(b"")
    for models, wanted in (
        ((air, other), "keys differ"),
        ((air, again), "views of these bundles overlap: aerial, aerial"),
        ((air, both), "views of these bundles overlap"),
        ((air,), "pictures of view ground, which none of"),
        ((checkpoint, air), "a checkpoint serves both views alone"),
        ((tmp_path / "nowhere", air), "does not exist"),
    ):
        code, _, said = run(capsys, *models, "--data", tiny_tree)
        assert code == 2
        assert said.count("\n") == 1
        assert wanted in said


def test_the_format_asked_for_is_run_and_said(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The int8 network of the street swaps channels, so that it shows which one ran."""
    air = bundle(tmp_path / "air", "aerial", formats={"fp32": (0, 1, 2), "int8": (0, 1, 2)})
    street = bundle(tmp_path / "street", "ground", formats={"fp32": (0, 1, 2), "int8": (1, 2, 0)})
    words = (air, street, "--data", tiny_tree)
    preferred, int8, fp32 = (
        run(capsys, *words, *more)[1] for more in ((), ("--format", "int8"), ("--format", "fp32"))
    )
    assert preferred == int8 != fp32
    assert len(re.findall(r"view (?:aerial|ground), int8$", int8, re.MULTILINE)) == 2
    assert len(re.findall(r"view (?:aerial|ground), fp32$", fp32, re.MULTILINE)) == 2
    code, _, said = run(capsys, *words, "--format", "fp16")
    assert code == 2
    assert "has no fp16 model" in said


def test_every_row_has_the_same_keys_and_an_interval_about_its_number(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bundle(tmp_path / "any", "any")
    found = json.loads(run(capsys, model, "--data", tiny_tree, "--json")[1])
    rows = [*found.values(), *(row["without_query_camera"] for row in list(found.values())[:3])]
    rows += found["A->G"]["by_camera"].values()
    assert len(rows) == 6 + 3 + 2
    for row in rows:
        assert list(row)[: len(KEYS)] == KEYS
        for name in ("rank1", "mAP"):
            low, high = row[f"{name}_interval"]
            assert 0 <= low <= row[name] + 1e-9 <= high + 2e-9 <= 100 + 3e-9
        assert row["people"] == 6
    assert set(found["G->A"]["by_camera"]) == {"camera 1", "camera 2"}


def test_two_models_are_compared_over_the_same_queries(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    air = bundle(tmp_path / "air", "aerial")
    street = bundle(tmp_path / "street", "ground")
    turned = bundle(tmp_path / "turned", "ground", formats={"fp32": (1, 2, 0)})
    words = (air, street, "--data", tiny_tree, "--against", air, turned)
    code, said, _ = run(capsys, *words)
    assert code == 0
    assert re.search(r"^A-A +\+0\.0 +\+0\.0 - +\+0\.0", said, re.MULTILINE)
    assert f"against {turned}: " in said
    found = json.loads(run(capsys, *words, "--json")[1])
    other = json.loads(run(capsys, air, turned, "--data", tiny_tree, "--json")[1])
    gain = found["A->G"]["against"]
    assert gain["rank1"] == pytest.approx(found["A->G"]["rank1"] - other["A->G"]["rank1"])
    assert gain["rank1_interval"][0] > 0


def test_cameras_are_named_with_the_altitude_and_people_by_their_cues_where_ids_json_tells(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(tiny_tree, tree)
    told = {
        "cameras": {"1": {"altitude_m": 15.1}, "2": {"altitude_m": 40}},
        "ids": [{"pid": 2, "cues": ["hair", "pattern"]}, {"pid": 1, "cues": []}],
    }
    (tree / "ids.json").write_text(json.dumps(told))
    model = bundle(tmp_path / "any", "any")
    found = json.loads(run(capsys, model, "--data", tree, "--json")[1])["A->G"]
    assert list(found["by_camera"]) == ["camera 1, 15 m", "camera 2, 40 m"]
    assert {name: row["queries"] for name, row in found["by_cue"].items()} == {
        "air only: hair": 2, "both views: pattern": 2, "first of a family": 2,
    }  # fmt: skip


def tree_of(root: Path, per_camera: int) -> Path:
    import cv2

    for split in ("query", "gallery"):
        for camera in (1, 6):
            folder = root / split / f"Cam{camera}"
            folder.mkdir(parents=True)
            for person in range(per_camera):
                colour = np.full((16, 8, 3), 20 + 2 * person, np.uint8)
                cv2.imwrite(str(folder / f"Cam{camera}_day_{person:04d}_0.jpg"), colour)
    return root


def test_pictures_that_cannot_be_read_are_named_and_nobody_takes_their_place(
    tmp_path: Path,
) -> None:
    root = tree_of(tmp_path / "tree", per_camera=110)
    (root / "query" / "Cam1" / "Cam1_day_0070_0.jpg").write_bytes(b"broken")
    opened = embedding.open_model([bundle(tmp_path / "any", "any")], {"aerial", "ground"})
    records = cargo.test(root).records
    found, kept, unreadable = embedding.read_and_embed(opened, records, {})
    assert [path.name for path in unreadable] == ["Cam1_day_0070_0.jpg"]
    assert kept.tolist() == [i for i, r in enumerate(records) if r.path != unreadable[0]]
    left = [records[i] for i in kept.tolist()]
    numbers = embedding.numbered(left)
    assert found.people.tolist() == [numbers[r.person] for r in left]
    assert found.cameras.tolist() == [r.camera for r in left]
    for index in (0, 69, 70, 71, -1):  # about the place of the broken one
        row, _, _ = embedding.read_and_embed(opened, [left[index]], {})
        np.testing.assert_allclose(found.embeddings[index], row.embeddings[0], atol=1e-6)
    report = protocols.report([tmp_path / "any"], root)
    assert [line for line in protocols.refusals(report) if "unreadable" in line]
    assert report.outcomes[4].whole.score.queries == 109


def test_more_than_one_in_a_hundred_unreadable_is_an_error(tmp_path: Path) -> None:
    root = tree_of(tmp_path / "tree", per_camera=20)
    (root / "query" / "Cam1" / "Cam1_day_0007_0.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"1 of 80 pictures cannot be used.*unreadable"):
        protocols.report([bundle(tmp_path / "any", "any")], root)


def test_embeddings_from_files_are_those_from_memory(tmp_path: Path, tiny_tree: Path) -> None:
    from skyreid.train.data import pictures

    opened = embedding.open_model([bundle(tmp_path / "any", "any")], {"aerial", "ground"})
    records: tuple[Record, ...] = cargo.test(tiny_tree).records
    files, kept, _ = embedding.read_and_embed(opened, records, {})
    images = pictures.load(records, opened.spec).images
    memory = embedding.embedded(opened.embed, records, images)
    assert kept.size == len(records)
    np.testing.assert_array_equal(files.embeddings, memory.embeddings)
    np.testing.assert_allclose(np.linalg.norm(files.embeddings, axis=1), 1, atol=1e-6)
