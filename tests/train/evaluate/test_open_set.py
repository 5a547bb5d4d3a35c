"""FNIR at a given FPIR, against loops, and where both are known without counting."""

import json
from pathlib import Path

import numpy as np
import pytest

from skyreid.train.data.trials import two_views
from skyreid.train.evaluate import open_set
from skyreid.train.evaluate.breakdown import places_of
from skyreid.train.evaluate.metrics import Embedded, Ranked, rank
from skyreid.train.evaluate.open_set import FPIRS, Missed


def a_set(rng: np.random.Generator, looks: np.ndarray, each: int, noise: float) -> Embedded:
    """Everybody `each` times in cameras 1 and 2, which fly, and 6 and 7."""
    people = np.repeat(np.arange(len(looks)), 4 * each)
    cameras = np.tile(np.repeat([1, 2, 6, 7], each), len(looks))
    rows = looks[people] + noise * rng.normal(size=(len(people), looks.shape[1]))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Embedded(rows, people.astype(np.int64), cameras.astype(np.int64), cameras <= 2)


def rows_of(people: int, noise: float, sizes: tuple[int, ...] = ()) -> tuple[Ranked, list[Missed]]:
    rng = np.random.default_rng(people)
    looks = rng.normal(size=(people, 16))
    query, gallery = a_set(rng, looks, 1, noise), a_set(rng, looks, 2, noise)
    trials = two_views(query.aerial, gallery.aerial)
    ranked = rank(query, gallery, trials)
    return ranked, open_set.missed(ranked, trials, places_of(query, gallery), sizes)


def test_rates_are_those_of_a_loop_over_queries_and_pictures() -> None:
    ranked, found = rows_of(people=40, noise=1.1)
    by = {(row.trial, row.part): row for row in found}
    query, gallery = ranked.query, ranked.gallery
    for name, asks, searched in (
        ("A->G", query.aerial, ~gallery.aerial),
        ("G->A", ~query.aerial, gallery.aerial),
        ("ALL", query.aerial | True, gallery.aerial | True),
    ):
        mates, strangers = [], []
        for q in np.flatnonzero(asks):
            mate, stranger = -np.inf, -np.inf
            for g in np.flatnonzero(searched):
                score = float(query.embeddings[q] @ gallery.embeddings[g])
                if query.people[q] != gallery.people[g]:
                    stranger = max(stranger, score)
                elif query.cameras[q] != gallery.cameras[g]:
                    mate = max(mate, score)
            mates.append(mate)
            strangers.append(stranger)
        row = by[name, "all"]
        assert (row.people, row.asking, row.queries) == (40, 40, len(mates))
        assert row.fnir[0] is None  # one of a thousand, of 80 or 160 strangers
        for fpir, fnir, ends in list(zip(FPIRS, row.fnir, row.intervals, strict=True))[2:]:
            cut = sorted(strangers, reverse=True)[int(fpir * len(mates))]
            out = [m <= cut or m <= s for m, s in zip(mates, strangers, strict=True)]
            assert fnir == pytest.approx(float(np.mean(out)))
            assert ends is not None
            assert ends[0] <= np.mean(out) <= ends[1]
            assert ends[0] < ends[1]


def test_the_parts_of_altitude_are_protocols_of_their_own_queries() -> None:
    _, found = rows_of(people=40, noise=1.1)
    by = {(row.trial, row.part): row for row in found}
    asked = [by["A->G", f"camera {n}"] for n in (1, 2)]
    assert [row.queries for row in asked] == [40, 40]
    assert {row.people for row in asked} == {40}
    assert ("ALL", "camera 1") not in by
    assert by["G->A", "camera 1"].queries == 80


def test_a_larger_gallery_misses_more_and_alike_people_are_missed_at_every_size() -> None:
    _, found = rows_of(people=120, noise=1.0, sizes=(20, 60))
    rows = [row for row in found if (row.trial, row.part) == ("ALL", "all")]
    assert [row.people for row in rows] == [20, 60, 120]
    rates = [row.fnir[1] for row in rows]
    assert all(rate is not None for rate in rates)
    assert rates == sorted(rates, key=lambda rate: rate or 0.0)
    assert rates[0] != rates[2]
    _, easy = rows_of(people=60, noise=0.01)
    assert {row.fnir[2] for row in easy} == {0.0}


def test_the_command_prints_open_sets_and_leaves_the_other_numbers_alone(
    fitted_tiny: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from skyreid.train.__main__ import main

    command = ["evaluate", str(fitted_tiny), "--data", str(tiny_tree)]
    assert main([*command, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*command, "--open-set", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert all("open_set" in both[name] for name in both)
    for row in both.values():
        (first, *_) = row.pop("open_set")
        assert (first["part"], first["queries"]) == ("all", row["queries"])
        assert list(first["fnir"]) == ["0.1", "1", "10"]
    assert both == plain
    assert main([*command, "--open-set"]) == 0
    assert "FPIR 0.1 %" in capsys.readouterr().out
