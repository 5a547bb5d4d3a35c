import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skyreid.train.data import catalogue
from skyreid.train.data.trials import two_views
from skyreid.train.evaluate.breakdown import outcomes, places_of
from skyreid.train.evaluate.metrics import Embedded, rank
from skyreid.train.evaluate.protocols import Report


@pytest.fixture
def make_report(tiny_tree: Path, tmp_path: Path) -> Callable[..., Report]:
    """A report of a model that guesses, on the tiny tree under another name."""

    def make(name: str = "tree", seed: int = 0) -> Report:
        root = tmp_path / name
        shutil.copytree(tiny_tree, root, dirs_exist_ok=True)
        data = catalogue.open(root)
        test = data.test()
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(len(test.records), 5)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        everything = Embedded(
            rows,
            np.asarray([int(r.person) for r in test.records]),
            np.asarray([r.camera for r in test.records]),
            np.asarray([r.view == "aerial" for r in test.records]),
        )
        asking, searched = np.arange(24), np.arange(24, 72)
        query, gallery = everything.rows(asking), everything.rows(searched)
        trials = two_views(query.aerial, gallery.aerial)
        cues = {"air only: hair": np.array([1, 2]), "both views": np.array([3])}
        ranked, found = outcomes(query, gallery, trials, places_of(query, gallery), cues)
        records = tuple(replace(r, person=f"<{r.person}>") for r in test.records)
        model = {"a&b.safetensors": "checkpoint 0123456789abcdef, fp32"}
        return Report(data, model, records, asking, searched, {}, ranked, found)

    return make


@pytest.fixture
def ground_only() -> tuple[Embedded, Embedded]:
    """Query and gallery of a data set without drones."""
    rng = np.random.default_rng(8)

    def a_set(count: int) -> Embedded:
        rows = rng.normal(size=(count, 4)).astype(np.float32)
        cameras = rng.integers(6, 9, count)
        return Embedded(rows, rng.integers(0, 5, count), cameras, np.zeros(count, np.bool_))

    query, gallery = a_set(9), a_set(40)
    assert rank(query, gallery, two_views(query.aerial, gallery.aerial)).standings
    return query, gallery
