import sys
from pathlib import Path

import pytest
import torch

from skyreid.contract.errors import PlatformError
from skyreid.train.__main__ import main
from skyreid.train.fit.curves import Board

RECIPE = """
[model]
variant = "vit-tiny"
trunk = { depth = 1, dim = 48 }
[input]
height = 32
width = 16
[batch]
people = 2
crops = 2
[run]
steps = 21
held_out_people = 2
evaluate_every = 15
"""


def test_curves_lie_in_event_files_and_a_second_board_adds_to_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    terms = {"identity": torch.tensor(2.0), "triplet": torch.tensor(0.5)}
    for begin, step in ((0, 20), (20, 40), (20, 40)):  # the second was killed behind step 40
        board = Board(tmp_path)
        board.begin(begin)
        board.step(step, terms, torch.tensor(3.0), 0.001 * step, 50.0, 0.25)
        board.evaluated(step, {"A->G/R1": float(step), "A->G/mAP": step / 2})
        board.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    curves = {
        name: [(event.step, pytest.approx(event.value)) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }
    assert curves == {
        "loss": [(20, 2.5), (40, 2.5)],
        "loss/identity": [(20, 2.0), (40, 2.0)],
        "loss/triplet": [(20, 0.5), (40, 0.5)],
        "gradient_norm": [(20, 3.0), (40, 3.0)],
        "learning_rate": [(20, 0.02), (40, 0.04)],
        "pictures_per_s": [(20, 50.0), (40, 50.0)],
        "waited": [(20, 0.25), (40, 0.25)],
        "held_out/A->G/R1": [(20, 20.0), (40, 40.0)],
        "held_out/A->G/mAP": [(20, 10.0), (40, 20.0)],
    }


def test_fit_tells_the_board_what_it_tells_the_log(tiny_tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "recipe.toml").write_text(RECIPE)
    arguments = ["fit", str(tmp_path / "recipe.toml"), "--data", str(tiny_tree)]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--board"]) == 0
    read = EventAccumulator(str(tmp_path / "out" / "board"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss/triplet")] == [20]
    assert [event.step for event in read.Scalars("held_out/G->A/mAP")] == [15, 21]
    assert read.Scalars("pictures_per_s")[0].value > 0


def test_without_the_package_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PlatformError, match="skyreid\\[board\\]"):
        Board(tmp_path)
