import json
import sys
from pathlib import Path

import augment
import pytest

from skyreid.contract.errors import InputError


def test_every_number_of_workers_has_its_row_against_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[model]\nvariant = "vit-tiny"\n[input]\nheight = 32\nwidth = 16\n[run]\nsteps = 1\n'
    )
    monkeypatch.setattr(augment, "PICTURES", 50)
    command = ["x", str(recipe), "--workers", "0", "1", "--rounds", "3", "--batches", "2"]
    monkeypatch.setattr(sys, "argv", command)
    assert augment.main() == 0
    alone, one = map(json.loads, capsys.readouterr().out.splitlines())
    assert (alone["workers"], one["workers"]) == (0, 1)
    assert (alone["cpu_against_first"], alone["speed_against_first"]) == (1.0, 1.0)
    for row in (alone, one):
        assert row["cpu_ms_a_picture"] > 0
        assert row["pictures_per_s"] > 0
    ratio = one["pictures_per_s"] / alone["pictures_per_s"]
    assert one["speed_against_first"] == pytest.approx(ratio, rel=0.01)


def test_less_than_no_workers_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--workers", "-1"])
    assert augment.main() == InputError.exit_code
    assert "0 or more" in capsys.readouterr().err
