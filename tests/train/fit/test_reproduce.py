"""A paper's recipe, trained and held against the row in its head."""

import json
import shutil
from pathlib import Path

import pytest

from skyreid.train.__main__ import main
from skyreid.train.fit import reproduce
from skyreid.train.fit.reproduce import Published, recipe_of, row_of

SMALL = (
    "--model.variant vdt-tiny --model.trunk.depth 1 --model.trunk.dim 48 --input.height 32 "
    "--input.width 16 --batch.people 2 --batch.crops 2 --run.steps 1 --run.held_out_people 2 "
    "--augment.pad 2 --run.precision fp32"
).split()


def test_every_paper_s_recipe_has_its_row() -> None:
    assert row_of(recipe_of("visa", "CARGO")) == {
        "ALL": Published(70.51, 65.46), "A->G": Published(71.28, 69.0),
    }  # fmt: skip
    assert row_of(recipe_of("secap", "CARGO"))["A->G"] == Published(69.43, 58.94)
    assert row_of(recipe_of("secap", "LAGPeR"))["G->A+G"] == Published(24.39, 19.24)
    rows = [
        row_of(path)
        for name in reproduce.NAMED.values()
        for path in reproduce.RECIPES.glob(f"*-base-{name}.toml")
    ]
    assert len(rows) == 7 + 6 + 6 + 5
    assert all(2 <= len(row) <= 4 for row in rows)


def test_a_row_and_what_was_measured_stand_side_by_side(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, out = shutil.copytree(tiny_tree, tmp_path / "CARGO"), tmp_path / "out"
    command = ["reproduce", "vdt", "--data", str(tree), "--out", str(out)]
    assert main([*command, *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["percent", "R1", "paper", "here"]
    assert [line.split()[:2] for line in lines[1:3]] == [["ALL", "64.10"], ["A<->G", "48.12"]]
    assert any(line.startswith("WARNING: not the paper's recipe: --model.var") for line in lines)
    assert any(line.startswith("WARNING: the model was fitted on") for line in lines)
    shared = (out / reproduce.RESULT).read_text()
    assert str(tmp_path) not in shared
    found = json.loads(shared)
    assert found["published"]["ALL"] == {"rank1": 64.10, "mAP": 55.20}
    assert found["measured"]["A<->G"]["queries"] == 24
    assert found["changed"] == SMALL
    assert main(["reproduce", "mvp", "--data", str(tree), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "no recipe of mvp on CARGO" in said
    assert "clip-reid, dtst, gsalign, secap, vdt, visa, vit" in said
