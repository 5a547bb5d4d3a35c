import json
import sys
from pathlib import Path

import methods
import pytest

from skyreid.train import recipe
from skyreid.train.__main__ import main as skyreid_train


def test_every_row_is_a_recipe_and_rows_differ_in_the_model_alone(tmp_path: Path) -> None:
    found = []
    for number, (method, options) in enumerate(methods.ROWS.values()):
        path = tmp_path / f"{number}.toml"
        path.write_text(
            methods.RECIPE.format(
                method=method, options=options, height=128, width=64, steps=1500, seed=0
            )
        )
        found.append(recipe.read(path))
    assert len({(r.model.variant, tuple(r.model.options.items())) for r in found}) == len(found)
    assert len({r.model_copy(update={"model": None}).model_dump_json() for r in found}) == 1


def test_a_row_is_trained_once_and_its_numbers_are_those_of_evaluate(
    tmp_path: Path,
    tiny_tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = methods.RECIPE.replace("depth = 4", "depth = 1, dim = 24, heads = 2")
    small = small.replace("people = 16", "people = 2").replace(
        "held_out_people = 20", "held_out_people = 2"
    )
    monkeypatch.setattr(methods, "RECIPE", small)
    words = ["methods", "vit", "vdt", "--data", str(tiny_tree), "--out", str(tmp_path / "out")]
    words += ["--crops", "128", "--height", "64", "--width", "32", "--steepest", "2"]
    monkeypatch.setattr(sys, "argv", words)
    assert methods.main() == 0
    table = capsys.readouterr().out
    monkeypatch.setattr(methods.subprocess, "run", lambda *_, **__: pytest.fail("trained again"))
    assert methods.main() == 0
    assert capsys.readouterr().out == table
    monkeypatch.setattr(sys, "argv", ["128" if word == "64" else word for word in words])
    assert methods.main() == 2
    assert "vit-0/recipe.toml is of other data or settings" in capsys.readouterr().err
    first, second = (line.split(" | ") for line in table.splitlines()[2:])
    assert (first[0], second[0]) == ("| vit", "| vdt")
    checkpoint = tmp_path / "out" / "vdt-0" / "best.safetensors"
    assert skyreid_train(["evaluate", str(checkpoint), "--data", str(tiny_tree), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    low, high = told["A->G"]["rank1_interval"]
    assert second[2] == f"{told['A->G']['rank1']:.1f} ({low:.1f} to {high:.1f})"
    assert second[6] == f"{told['A->G']['by_camera']['camera 2']['rank1']:.0f}"
