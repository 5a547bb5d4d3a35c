from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.train import metrics
from skyreid.train.data import catalogue
from skyreid.train.data.trials import TestSet, Trial
from skyreid.train.metrics import Embedded, Score


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
        assert found.inverse_penalty == pytest.approx(known.inverse_penalty, abs=1e-12)
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
