import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.__main__ import main
from skyreid.train.data import catalogue
from skyreid.train.data.records import Record
from skyreid.train.data.trials import TestSet, Trial, only
from skyreid.train.evaluate import metrics
from skyreid.train.evaluate.metrics import Embedded, Score
from skyreid.train.fit import setup

Grow = Callable[..., Path]


def embedded(test: TestSet, seed: int) -> Embedded:
    rng = np.random.default_rng(seed)
    people = np.asarray([int(r.person) for r in test.records])
    rows = rng.normal(size=(people.max() + 1, 6))[people] + rng.normal(size=(len(people), 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Embedded(
        rows.astype(np.float32),
        people,
        np.asarray([r.camera for r in test.records]),
        np.asarray([r.view == "aerial" for r in test.records]),
    )


def scored(trial: Trial, everything: Embedded) -> Score:
    query = everything.where(np.isin(np.arange(len(everything.people)), trial.query))
    gallery = everything.where(np.isin(np.arange(len(everything.people)), trial.gallery))
    if trial.domains:
        query, gallery = query.in_two_domains(), gallery.in_two_domains()
    return metrics.score(query, gallery)


def test_trials_of_cargo_are_the_protocols_of_metrics(tiny_tree: Path) -> None:
    test = catalogue.open(tiny_tree).test()
    everything = embedded(test, seed=3)
    is_query = np.arange(len(test.records)) < 24
    wanted = metrics.protocols(everything.where(is_query), everything.where(~is_query))
    assert tuple(trial.name for trial in test.trials) == metrics.PROTOCOLS
    for trial in test.trials:
        found, known = scored(trial, everything), wanted[trial.name]  # type: ignore[index]
        assert found.queries == known.queries > 0
        assert found.average_precision == pytest.approx(known.average_precision, abs=1e-12)
        assert found.means["mINP"] == pytest.approx(known.means["mINP"], abs=1e-12)
        np.testing.assert_array_equal(found.cmc, known.cmc)


def test_trials_count_what_a_protocol_asks_and_searches(tiny_tree: Path) -> None:
    test = catalogue.open(tiny_tree).test()  # 6 people, 2 + 2 cameras, 1 query and 2 in the gallery
    assert len(test.records) == 24 + 48
    assert {t.name: (len(t.query), len(t.gallery), t.domains) for t in test.trials} == {
        "ALL": (24, 48, False),
        "A-A": (12, 24, False),
        "G-G": (12, 24, False),
        "A<->G": (24, 48, True),
        "A->G": (12, 24, True),
        "G->A": (12, 24, True),
    }


def test_a_folder_that_holds_none_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        catalogue.open(tmp_path / "nowhere")
    (tmp_path / "train" / "0001").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no data set.*CARGO: \{train,query,gallery\}/Cam1"):
        catalogue.open(tmp_path)


def test_a_name_insists(tiny_tree: Path) -> None:
    assert catalogue.open(tiny_tree, "CARGO").name == "CARGO"
    with pytest.raises(InputError, match="no data set is called Duke; known are CARGO"):
        catalogue.open(tiny_tree, "Duke")


def test_rendered_people_are_not_called_cargo(tiny_tree: Path, tmp_path: Path) -> None:
    assert catalogue.open(tiny_tree).title == "CARGO"
    rendered = shutil.copytree(tiny_tree, tmp_path / "rendered")
    (rendered / "ids.json").write_text("{}")
    assert catalogue.open(rendered).title == "rendered people in CARGO's layout"


def test_the_shared_crops_are_read_without_a_switch(shared: Path) -> None:
    data = catalogue.open(shared / "data" / "agsim")
    test = data.test()
    assert data.name == "CARGO"
    assert len(data.train().records) + len(test.records) == 15_600
    assert test.refused == test.left_out == {}
    counts = {t.name: (len(t.query), len(t.gallery)) for t in test.trials}
    assert counts["A->G"] == (500, 1_600)
    assert counts["G->A"] == (800, 1_000)
    assert counts["A<->G"] == counts["ALL"] == (1_300, 2_600)


ALL = ("AG-ReID", "AG-ReID.v2", "LAGPeR", "G2APS-ReID", "Market-1501", "MSMT17")


@pytest.mark.parametrize("name", ALL)
def test_every_data_set_is_told_from_all_others(grow: Grow, tmp_path: Path, name: str) -> None:
    assert catalogue.NAMES == ("CARGO", *ALL)
    root = grow(name, tmp_path)
    assert catalogue.open(root).name == name
    assert catalogue.open(root, name).root == root
    for other in catalogue.NAMES:
        if other != name:
            with pytest.raises(InputError, match=f"looked for {re.escape(other)}: "):
                catalogue.open(root, other)


def test_a_folder_with_several_is_not_guessed_about(grow: Grow, tmp_path: Path) -> None:
    grow("Market-1501", tmp_path / "Market-1501")
    grow("MSMT17", tmp_path / "MSMT17")
    with pytest.raises(InputError, match=r"Market-1501 in .* and MSMT17 in .*; name the folder"):
        catalogue.open(tmp_path)
    assert catalogue.open(tmp_path / "MSMT17").name == "MSMT17"


def test_unreadable_pictures_leave_every_trial() -> None:
    records = tuple(Record(Path(f"{n}.jpg"), "1", 1, "ground") for n in range(400))
    trials = (
        Trial("one", np.arange(0, 100), np.arange(100, 300), False),
        Trial("other", np.arange(200, 400), np.arange(0, 200), True),
    )
    gone = [42, 150, 399]
    left = only(TestSet(records, trials), np.delete(np.arange(400), gone))
    assert [r.path.stem for r in left.records] == [str(n) for n in range(400) if n not in gone]
    for before, after in zip(trials, left.trials, strict=True):
        assert (after.name, after.domains) == (before.name, before.domains)
        for role in ("query", "gallery"):
            wanted = [records[i] for i in getattr(before, role) if i not in gone]
            assert [left.records[i] for i in getattr(after, role)] == wanted
    with pytest.raises(InputError, match=r"query of one: 2 of 100 .* 2 by unreadable, first 7.jpg"):
        only(TestSet(records, trials), np.delete(np.arange(400), [7, 8]))
    with pytest.raises(InputError, match="gallery of one: 3 of 200"):
        only(TestSet(records, trials), np.delete(np.arange(400), [100, 200, 299]))


def test_fit_trains_on_several_data_sets_whose_people_are_strangers(
    grow: Grow,
    tiny_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {}

    def fit(settings: Any, records: tuple[Record, ...], out: Path, **others: Any) -> setup.Outcome:
        asked.update(others, records=records)
        return setup.Outcome(out, out, 1, 0.5, 1.0, 0.0)

    monkeypatch.setattr(setup, "fit", fit)
    market = grow("Market-1501", tmp_path / "market")
    for number in range(200):
        (market / "bounding_box_train" / f"0002_c1s1_{number:06d}_03.jpg").touch()
    (market / "bounding_box_train" / "odd.jpg").touch()
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[model]\nvariant = "vit-tiny"\n[input]\nheight = 32\nwidth = 16\n[run]\nsteps = 1\n'
    )
    data = [str(tiny_tree), str(market)]
    assert main(["fit", str(recipe), "--data", *data, "--out", str(tmp_path / "out")]) == 0
    people = {record.person for record in asked["records"]}
    assert {person.split("/")[0] for person in people} == {*map(str, range(1, 8))}
    assert len(people) == 8  # 2 is somebody else in the other
    assert asked["refused"] == {"name": (market / "bounding_box_train" / "odd.jpg",)}
    said = capsys.readouterr().err
    assert f"CARGO in {tiny_tree}:" in said
    assert f"Market-1501 in {market}:" in said
    assert f"refused: 1 by name, first {market}/bounding_box_train/odd.jpg" in said
    assert f"left out: 1 by no picture, first {market}/bounding_box_train/Thumbs.db" in said
