import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from skyreid.train.__main__ import main
from skyreid.train.authors import parity
from skyreid.train.models.registry import methods

SEED = 11


@pytest.mark.parametrize("method", parity.fixtures())
def test_both_forms_give_what_the_authors_code_gives(shared: Path, method: str) -> None:
    result = parity.measure_one(shared / "parity", method, SEED)
    assert result.training.holds, result
    assert result.export.holds, result


def test_every_method_has_a_fixture() -> None:
    assert set(parity.fixtures()) == set(methods())


@pytest.fixture
def vit_only(shared: Path, tmp_path: Path) -> Path:
    for name in ("vit-base.keys.json", f"vit-base.seed{SEED}.npz"):
        shutil.copy(shared / "parity" / name, tmp_path)
    return tmp_path


def test_json_has_the_worst_of_both_forms_per_method(
    vit_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", str(vit_only), "--seed", str(SEED), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["vit"]
    row = report["vit"]
    assert row["max_abs"] == max(row["training"]["max_abs"], row["export"]["max_abs"]) <= 1e-4
    assert row["min_cosine"] >= 0.999999


@pytest.mark.parametrize("value", [0.01, np.nan])
def test_an_output_that_differs_exits_3_and_is_named(
    vit_only: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    path = vit_only / f"vit-base.seed{SEED}.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["embedding"][2, 5] += value
    np.savez(path, **arrays)
    assert main(["parity", str(vit_only), "--seed", str(SEED)]) == 3
    said = capsys.readouterr()
    assert "DIFFERS" in said.out
    assert "vit" in said.err.splitlines()[-1]


def test_a_key_the_model_does_not_have_is_named(
    vit_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = vit_only / "vit-base.keys.json"
    keys = json.loads(path.read_text())
    keys[0]["key"] = "backbone.renamed"
    path.write_text(json.dumps(keys))
    assert main(["parity", str(vit_only), "--seed", str(SEED)]) == 2
    assert "unexpected ['backbone.renamed']" in capsys.readouterr().err


def test_a_seed_without_fixtures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", str(tmp_path), "--seed", "12"]) == 2
    assert "seed12.npz" in capsys.readouterr().err
