"""What a detector's recipe and clips are refused for, before anything is trained."""

import shutil
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.__main__ import main
from skyreid.train.detector import command
from skyreid.train.detector.clips import find_views, read_frames, read_truth
from skyreid.train.detector.crops import CropRules
from skyreid.train.detector.recipe import read_recipe
from skyreid.train.detector.sources import Mix, held_out_pictures


def words(recipe: Path, clips: tuple[Path, Path], out: Path) -> list[str]:
    """The command that trains."""
    return ["fit", str(recipe), "--data", *map(str, clips), "--out", str(out)]


def test_options_that_a_detector_lacks_are_refused(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    for option in (["--teacher", "x.safetensors"], ["--cache", "x"], ["--clip", "x.pt"]):
        assert main(["fit", str(recipe), *given, *option]) == 2
        assert option[0] in capsys.readouterr().err


def test_one_clip_is_not_enough(
    recipe: Path, clips: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(clips[0]), "--out", str(tmp_path / "out")]
    assert main(["fit", str(recipe), *given]) == 2
    assert "only validate" in capsys.readouterr().err


def test_clips_that_validate_are_not_trained_on_too(
    recipe: Path, clips: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by ``--data clips/* clips/b``: the checkpoint would be chosen by what it knows."""
    shutil.copytree(clips[0], tmp_path / "again")
    assert main(words(recipe, (clips[0], tmp_path / "again"), tmp_path / "out")) == 2
    assert "1 of the 1 videos that only validate are among" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_clips_that_validate_show_somebody(
    recipe: Path, clips: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = Path(shutil.copytree(clips[1], tmp_path / "nobody"))
    for rows in ("", "1,1,20,20,16,40,1,1,0.40\n"):  # hidden by more than half
        (nobody / "gt" / "cam6.txt").write_text(rows)
        assert main(words(recipe, (clips[0], nobody), tmp_path / "out")) == 2
        assert "show nobody who counts" in capsys.readouterr().err


def test_people_who_are_only_pasted_among_rendered_ones_judge_nothing(stock: Path) -> None:
    rules = CropRules(height_px=64, width_px=64)
    assert held_out_pictures(stock, rules, Mix(rendered_among=0.5), 3) == []
    assert held_out_pictures(stock, rules, Mix(empty=1.0), 3) == []
    assert len(held_out_pictures(stock, rules, Mix(on_clutter=1.0, grounds=5), 3)) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("steps = 5", "steps = 0\ncolour = 1"), "run.colour.*run.steps|run.steps.*run.colour"),
        (("dilations = [2]", "dilations = [0]"), "model.dilations"),
        (("width_px = 64", "width_px = 65"), "crops.width_px"),
        (("width_px = 64", "width_px = 64\nscale = [1.4, 0.7]"), "names the larger factor first"),
        (("width_px = 64", "width_px = 64\nscale = [0.0, 1.0]"), "crops.scale"),
        (("width_px = 64", "width_px = 64\nscale = [1.0, 65.0]"), "less than one pixel"),
        (("warmup_steps = 1", 'kind = "sgd"\nmilestones = [1]'), "optimiser.*milestones"),
        (("steps = 5", "epochs = 5\nsteps = 5"), "exactly one of run.steps and run.epochs"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused_in_one_line_before_a_clip_is_read(
    recipe: Path, recipe_text: str, tmp_path: Path, change: tuple[str, str], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    recipe.write_text(recipe_text.replace(*change))
    with pytest.raises(SettingsError, match=said):
        read_recipe(recipe)
    missing = tmp_path / "none"
    assert main(words(recipe, (missing, missing), tmp_path / "out")) == 2
    assert "recipe.toml" in capsys.readouterr().err


def test_every_committed_recipe_of_a_detector_is_valid(repository: Path) -> None:
    found = [path for path in (repository / "recipes").glob("*.toml") if command.is_recipe(path)]
    assert {"detector", "detector-2"} <= {path.stem for path in found}
    for path in found:
        read_recipe(path)


def test_the_shipped_recipe_is_one(repository: Path) -> None:
    settings = read_recipe(repository / "recipes" / "detector.toml")
    assert settings.kind == "detector"
    assert settings.optimiser.learning_rate == 2e-3
    assert not command.is_recipe(repository / "recipes" / "absent.toml")
    assert not settings.mix.pastes
    assert read_recipe(repository / "recipes" / "detector-2.toml").mix.pastes


def test_pasted_pictures_must_be_square_before_a_clip_is_read(
    recipe_text: str, tmp_path: Path
) -> None:
    path = tmp_path / "wide.toml"
    path.write_text(recipe_text.replace("width_px = 64", "width_px = 96") + "[mix]\nempty = 1.0\n")
    with pytest.raises(SettingsError, match="square"):
        read_recipe(path)
    path.write_text(recipe_text + "[mix]\nrendered = 0.0\n")
    with pytest.raises(SettingsError, match="every share of the mix is 0"):
        read_recipe(path)


def test_damaged_clips_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cam<number>\.mp4"):
        find_views(tmp_path)
    (tmp_path / "cam1.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match=r"gt/cam1\.txt: No such file"):
        find_views(tmp_path)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "cam1.txt").write_text("1,2,x\n")
    with pytest.raises(InputError, match=r"cam1\.txt, line 1"):
        find_views(tmp_path)
    (tmp_path / "gt" / "cam1.txt").write_text("")
    assert read_truth(tmp_path / "gt" / "cam1.txt") == {}
    with pytest.raises(InputError, match="no frame could be decoded"):
        list(read_frames(tmp_path / "cam1.mp4"))


def test_frames_are_numbered_from_one_and_can_be_skipped(clips: tuple[Path, Path]) -> None:
    assert [number for number, _ in read_frames(clips[0] / "cam6.mp4", 3)] == [1, 4]
