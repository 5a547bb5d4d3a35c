import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.errors import InputError
from skyreid.train.__main__ import main
from skyreid.train.evaluate import features
from skyreid.train.evaluate.metrics import MAX_RANK, PROTOCOLS, Embedded, Score, protocols, score


def a_set(rng: np.random.Generator, count: int, people: int) -> Embedded:
    rows = rng.normal(size=(count, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cameras = rng.integers(1, 5, count)
    return Embedded(rows, rng.integers(0, people, count), cameras, cameras <= 2)


def in_two_domains(a_set: Embedded) -> Embedded:
    """The same with the view as camera."""
    return Embedded(a_set.embeddings, a_set.people, a_set.aerial.astype(np.int64), a_set.aerial)


def naive(query: Embedded, gallery: Embedded) -> tuple[int, list[float], float, float]:
    """The same rules, one item at a time."""
    valid, first_hits, precisions, penalties = 0, [0.0] * MAX_RANK, [], []
    for q in range(len(query.people)):
        ranked = sorted(
            range(len(gallery.people)),
            key=lambda g: (float(1 - query.embeddings[q] @ gallery.embeddings[g]), g),
        )
        kept = [
            bool(gallery.people[g] == query.people[q])
            for g in ranked
            if not (gallery.people[g] == query.people[q] and gallery.cameras[g] == query.cameras[q])
        ]
        if not any(kept):
            continue
        valid += 1
        hits, precision = 0, []
        for position, match in enumerate(kept, start=1):
            if match:
                hits += 1
                precision.append(hits / position)
                last = position
        precisions.append(sum(precision) / len(precision))
        penalties.append(hits / last)
        for rank in range(MAX_RANK):
            first_hits[rank] += any(kept[: rank + 1])
    return valid, first_hits, sum(precisions), sum(penalties)


def same(found: Score, wanted: tuple[int, list[float], float, float]) -> None:
    valid, first_hits, precisions, penalties = wanted
    assert found.queries == valid
    if valid:
        np.testing.assert_allclose(found.cmc, np.asarray(first_hits) / valid, rtol=1e-6)
        assert found.average_precision == pytest.approx(precisions / valid, rel=1e-12)
        assert found.means["mINP"] == pytest.approx(penalties / valid, rel=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1), st.integers(1, 7))
def test_scores_equal_a_naive_loop_whatever_the_block(seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = a_set(rng, 9, 5), a_set(rng, 31, 5)
    same(score(query, gallery, block_bytes=blocks * 12 * 31), naive(query, gallery))


@settings(max_examples=40)
@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.integers(1, 40))
def test_every_protocol_equals_the_naive_loop_on_its_own_subset_even_where_all_is_tied(
    seed: int, people: int, count: int
) -> None:
    """Rows are axes of a small space, so that most distances are equal: 0, 1 or 2 exactly."""
    rng = np.random.default_rng(seed)

    def axes(count: int) -> Embedded:
        rows = np.eye(3, dtype=np.float32)[rng.integers(0, 3, count)]
        rows *= rng.choice([-1, 1], (count, 1))
        cameras = rng.integers(1, 5, count)
        return Embedded(rows, rng.integers(0, people, count), cameras, cameras <= 2)

    query, gallery = axes(7), axes(count)
    found = protocols(query, gallery)
    assert list(found) == list(PROTOCOLS)
    same(found["ALL"], naive(query, gallery))
    same(found["A<->G"], naive(in_two_domains(query), in_two_domains(gallery)))
    for name, searching, searched in (
        ("A-A", True, True),
        ("G-G", False, False),
        ("A->G", True, False),
        ("G->A", False, True),
    ):
        chosen = query.where(query.aerial == searching), gallery.where(gallery.aerial == searched)
        same(found[name], naive(*chosen))  # type: ignore[index]


def test_distances_are_ordered_down_to_the_last_bit_and_across_zero() -> None:
    """Cosines of rounded unit vectors may exceed 1: their negative distances come first."""
    one = np.float32(1)
    rows = [one, np.nextafter(one, np.float32(2)), one, np.nextafter(one, np.float32(0))]
    gallery = Embedded(
        np.array(rows, np.float32)[:, None],
        np.array([1, 2, 1, 1]),
        np.full(4, 6),
        np.zeros(4, np.bool_),
    )
    query = Embedded(
        np.ones((1, 1), np.float32), np.array([1]), np.array([7]), np.zeros(1, np.bool_)
    )
    found = score(query, gallery)  # ranked 2 1 1 1
    assert found.cmc[:2].tolist() == [0, 1]
    assert found.average_precision == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    rng = np.random.default_rng(0)
    query, gallery = a_set(rng, 3, 2), a_set(rng, 9, 2)
    gallery.embeddings[4, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        score(query, gallery)


def test_three_queries_by_hand() -> None:
    """Angles on a circle; the gallery lies at 0, 10, 20, 30, 40 degrees."""

    def at(degrees: list[float]) -> np.ndarray:
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)

    gallery = Embedded(
        at([0, 10, 20, 30, 40]),
        np.array([1, 2, 1, 2, 1]),
        np.array([6, 6, 7, 7, 8]),
        np.array([False] * 5),
    )
    query = Embedded(
        at([-5, -5, -5]),
        np.array([1, 2, 9]),
        np.array([6, 1, 1]),
        np.array([False, True, True]),
    )
    found = score(query, gallery)
    # Query 1 (person 1, camera 6): the item at 0 is junk; kept 2 1 2 1 -> AP (1/2 + 2/4) / 2.
    # Query 2 (person 2): kept 1 2 1 2 1 -> AP (1/2 + 2/4) / 2, last positive at 4. Query 3: nobody.
    assert found.queries == 2
    assert found.cmc[:3].tolist() == [0.0, 1.0, 1.0]
    assert found.average_precision == pytest.approx(0.5)
    assert found.means["mINP"] == pytest.approx(0.5)


def test_equal_distances_keep_the_order_of_the_gallery() -> None:
    one = np.ones((1, 1), np.float32)
    query = Embedded(one, np.array([1]), np.array([1]), np.array([True]))
    for people, rank1 in (([1, 2], 1.0), ([2, 1], 0.0)):
        gallery = Embedded(
            np.ones((2, 1), np.float32),
            np.array(people),
            np.array([6, 6]),
            np.array([False, False]),
        )
        assert score(query, gallery).rank1 == rank1


def test_without_a_valid_query_every_number_is_undefined() -> None:
    rng = np.random.default_rng(0)
    query, gallery = a_set(rng, 3, 2), a_set(rng, 5, 2)
    strangers = Embedded(gallery.embeddings, gallery.people + 9, gallery.cameras, gallery.aerial)
    found = score(query, strangers)
    assert found.queries == 0
    assert np.isnan([found.rank1, found.average_precision, *found.cmc]).all()
    assert set(found.as_json().values()) == {0, None}


def test_both_kinds_of_cross_view_protocol_differ_as_named() -> None:
    """In A<->G a same-view stranger may come first; in A->G the gallery has no such item."""
    query = Embedded(np.array([[1, 0]], np.float32), np.array([1]), np.array([1]), np.array([True]))
    gallery = Embedded(
        np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]], np.float32),
        np.array([1, 2, 1, 3]),
        np.array([2, 2, 6, 6]),
        np.array([True, True, False, False]),
    )
    found = protocols(query, gallery)
    assert list(found) == list(PROTOCOLS)
    assert found["A<->G"].rank1 == 0  # person 1 in the other aerial camera is junk, person 2 is not
    assert found["A->G"].rank1 == 1
    assert found["A-A"].rank1 == 1
    assert found["G->A"].queries == found["G-G"].queries == 0


def test_the_command_prints_what_the_authors_evaluator_gave_and_both_directions(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "parity" / "cargo-protocols.seed11.npz"
    assert main(["metrics", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = json.loads(path.with_suffix(".json").read_text())
    assert list(found) == list(PROTOCOLS)
    for theirs, ours in (("ALL", "ALL"), ("AG", "A<->G"), ("GG", "G-G"), ("AA", "A-A")):
        row = wanted[theirs]
        row["queries"] = row.pop("valid_queries")
        assert list(found[ours])[: len(row)] == list(row)
        assert {key: found[ours][key] for key in row} == pytest.approx(row, rel=0, abs=1e-6), ours
    query, gallery = features.read(path)
    for name, aerial in (("A->G", True), ("G->A", False)):
        wanted_score = naive(
            query.where(query.aerial == aerial), gallery.where(gallery.aerial != aerial)
        )
        assert found[name]["queries"] == wanted_score[0]
        assert found[name]["mAP"] == pytest.approx(100 * wanted_score[2] / wanted_score[0])


def some_features(path: Path, **changes: object) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, object] = {}
    for part, count in (("query", 4), ("gallery", 9)):
        arrays |= {
            f"{part}_features": rng.normal(size=(count, 3)).astype(np.float32),
            f"{part}_pids": np.arange(count) % 3,
            f"{part}_cams": np.arange(count) % 13 + 1,
        }
    kept = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    np.savez(path, **kept)  # type: ignore[arg-type]
    return path


def test_the_length_and_the_type_of_a_feature_do_not_matter(tmp_path: Path) -> None:
    rows = np.load(some_features(tmp_path / "a.npz"))["gallery_features"]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for scale, kind in ((1e25, np.float32), (1e-25, np.float32), (3e100, np.float64)):
        path = some_features(tmp_path / "b.npz", gallery_features=rows.astype(kind) * kind(scale))
        _, gallery = features.read(path)
        np.testing.assert_allclose(gallery.embeddings, unit, rtol=1e-5)
        assert gallery.embeddings.dtype == np.float32
        assert gallery.aerial.tolist() == [True] * 5 + [False] * 4


def test_the_table_has_a_line_for_every_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", str(some_features(tmp_path / "a.npz"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["percent", *PROTOCOLS]
    assert lines[1].split()[-1] == "4"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gallery_cams": None}, "lacks gallery_cams"),
        ({"query_features": np.ones((4, 2))}, "have 2 numbers each and gallery_features 3"),
        ({"query_pids": np.arange(5)}, "query_pids is int64 of shape [5], not 4 integers or words"),
        ({"query_pids": np.ones(4)}, "query_pids is float64"),
        ({"query_features": np.full((4, 3), np.nan)}, "query_features row 0 is not finite"),
        ({"query_features": np.eye(4, 3)}, "query_features row 3 has length 0"),
        ({"query_features": np.ones((0, 3))}, "query_features is float64 of shape [0, 3]"),
        ({"query_features": np.ones(4)}, "shape [4], not [N, D]"),
        ({"gallery_cams": np.arange(9) + 6}, "14 is none of CARGO's 1 to 13: say which of them"),
        ({"query_cams": np.array([1, 0, 2, 3])}, "0 is none of CARGO's"),
        ({"gallery_cams": np.arange(9) % 6 + 1}, "Market-1501's or DukeMTMC's (none does): say"),
        ({"query_pids": np.array([None] * 4)}, "Object arrays cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_ranked_is_refused_in_one_line(
    changes: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = some_features(tmp_path / "a.npz", **changes)
    assert main(["metrics", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert said in error


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_npz_is_refused_in_one_line(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    assert main(["metrics", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error


def test_the_line_of_the_docs_makes_an_npz_of_others_mat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy reads the .mat")
    npz, mat, made = (str(tmp_path / name) for name in ("a.npz", "a.mat", "made.npz"))
    some_features(Path(npz))
    held = dict(np.load(npz))
    theirs = {}
    for name, values in held.items():
        part, _, what = name.partition("_")
        short = {"features": "f", "pids": "label", "cams": "cam"}[what]
        theirs[f"{part}_{short}"] = values
    scipy_io.savemat(mat, theirs)  # a row of labels becomes [1, N], as theirs are
    assert main(["metrics", mat]) == 2
    assert "docs/evaluation.md makes one of a .mat" in capsys.readouterr().err
    page = (repository / "docs/evaluation.md").read_text()
    (code,) = [part for part in re.findall(r"```python\n(.*?)```", page, re.S) if "loadmat" in part]
    subprocess.run([sys.executable, "-c", code, mat, made], check=True)
    for name, values in np.load(made).items():
        np.testing.assert_array_equal(values, held[name])
    assert main(["metrics", made]) == 0


def test_features_of_market_have_no_drones_and_labels_may_be_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = {"query_cams": np.arange(4) % 6, "gallery_cams": np.arange(9) % 6}  # from 0
    path = str(some_features(tmp_path / "a.npz", **cameras))
    assert main(["metrics", path, "--json", "--aerial"]) == 0
    numbered = json.loads(capsys.readouterr().out)
    assert numbered["ALL"] == numbered["G-G"]
    for name in ("A-A", "A->G", "G->A"):
        assert (numbered[name]["rank1"], numbered[name]["mAP_interval"]) == (None, None)
    words: dict[str, object] = {
        key: np.asarray([f"no. {value}" for value in values])
        for key, values in {
            **cameras, "query_pids": np.arange(4) % 3, "gallery_pids": np.arange(9) % 3
        }.items()
    }  # fmt: skip
    some_features(tmp_path / "a.npz", **words)
    assert main(["metrics", path, "--json", "--aerial"]) == 0
    assert json.loads(capsys.readouterr().out) == numbered
    assert main(["metrics", path, "--aerial", "no. 0", "no. 1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["percent", *PROTOCOLS]
    assert main(["metrics", path, "--aerial", "1"]) == 2
    assert "--aerial 1: " in capsys.readouterr().err


def test_features_of_strangers_have_no_score_and_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(some_features(tmp_path / "a.npz", gallery_pids=np.arange(9) + 9))
    assert main(["metrics", path]) == 3
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split(maxsplit=1) == ["ALL", "undefined: no query counts"]
    assert "0.0" not in said.out
    assert "no query counts under any protocol" in said.err
    assert main(["metrics", path, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["ALL"]["rank1"] is None
