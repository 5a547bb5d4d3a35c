import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train import checkpoint
from skyreid.train.__main__ import main
from skyreid.train.detector import command
from skyreid.train.detector.clips import find_views, read_frames, read_truth
from skyreid.train.detector.fit import fit, learning_rate
from skyreid.train.detector.recipe import DetectorRecipe, read_recipe

RECIPE = """
kind = "detector"
steps = 3
batch = 2
validate_every = 2
validation_step = 2
frame_step = 1
[model]
stem = 4
quarter = 4
eighth = 8
sixteenth = 8
dilations = [2]
[crops]
height_px = 64
width_px = 64
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def make_clip(path: Path, seed: int) -> Path:
    """A clip of one camera: four frames with a white rectangle that walks."""
    (path / "gt").mkdir(parents=True)
    code = cv2.VideoWriter.fourcc(*"mp4v")
    video = cv2.VideoWriter(str(path / "cam6.mp4"), code, 8.0, (160, 96))
    random, rows = np.random.default_rng(seed), []
    for number in range(1, 5):
        frame = random.integers(40, 80, (96, 160, 3)).astype(np.uint8)
        x = 20 + 10 * number
        frame[20:60, x : x + 16] = 240
        video.write(frame)
        rows.append(f"{number},1,{x},20,16,40,1,1,1.00")
    video.release()
    (path / "gt" / "cam6.txt").write_text("\n".join(rows) + "\n")
    return path


def test_a_run_leaves_a_checkpoint_with_a_threshold_and_a_log(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [make_clip(tmp_path / name, seed) for seed, name in enumerate(("a", "b"))]
    path = tmp_path / "out" / "detector.safetensors"
    given = ["--data", *map(str, clips), "--out", str(path.parent)]
    assert main(["fit", str(recipe), *given]) == 0
    saved = checkpoint.load(path)
    assert saved.kind == "detector"
    assert 0.1 <= saved.config["score_min"] <= 0.8
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    capsys.readouterr()
    assert main(["evaluate", str(path), "--data", str(clips[1]), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cameras"]["cam6"]["people"] == 4
    assert "cam6" in "\n".join(command.table(report))
    assert command.is_model(path)
    assert command.is_recipe(recipe)


def test_a_video_that_ends_before_its_truth_is_refused(tmp_path: Path, recipe: Path) -> None:
    clip = make_clip(tmp_path / "a", 0)
    fit(recipe, [clip, make_clip(tmp_path / "b", 1)], tmp_path / "out")
    truth = clip / "gt" / "cam6.txt"
    truth.write_text(truth.read_text() + "9,1,20,20,16,40,1,1,1.00\n")
    with pytest.raises(InputError, match=r"cam6.mp4 ends at frame 4, and 1 frames after it"):
        command.measure(tmp_path / "out" / "detector.safetensors", clip)


def test_options_that_a_detector_lacks_are_refused(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    for option in (["--start", "x.safetensors"], ["--board"], ["--device", "cuda"]):
        assert main(["fit", str(recipe), *given, *option]) == 2
        assert option[0] in capsys.readouterr().err


def test_one_clip_is_not_enough(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(InputError, match="only validate"):
        fit(recipe, [make_clip(tmp_path / "a", 0)], tmp_path / "out")


def test_every_bad_key_of_a_recipe_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('kind = "detector"\nsteps = 0\ncolour = 1\n')
    with pytest.raises(SettingsError) as caught:
        read_recipe(path)
    assert "steps" in str(caught.value)
    assert "colour" in str(caught.value)
    assert not command.is_recipe(tmp_path / "absent.toml")


def test_the_shipped_recipe_is_one(repository: Path) -> None:
    assert read_recipe(repository / "recipes" / "detector.toml").kind == "detector"


def test_the_rate_rises_then_falls_to_a_hundredth() -> None:
    recipe = DetectorRecipe(kind="detector", steps=100, learning_rate=1.0)
    rates = [learning_rate(step, recipe) for step in range(1, 101)]
    assert rates[4] == 1.0
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_damaged_clips_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cam<number>\.mp4"):
        find_views(tmp_path)
    (tmp_path / "cam1.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match=r"gt/cam1\.txt: missing"):
        find_views(tmp_path)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "cam1.txt").write_text("1,2,x\n")
    with pytest.raises(InputError, match="MOTChallenge"):
        find_views(tmp_path)
    (tmp_path / "gt" / "cam1.txt").write_text("")
    assert read_truth(tmp_path / "gt" / "cam1.txt") == {}
    with pytest.raises(InputError, match="no frame could be decoded"):
        list(read_frames(tmp_path / "cam1.mp4"))


def test_frames_are_numbered_from_one_and_can_be_skipped(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a", 0)
    assert [number for number, _ in read_frames(clip / "cam6.mp4", 3)] == [1, 4]
