from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import start
from skyreid.export import unfold
from skyreid.export.__main__ import main
from skyreid.train import checkpoint
from skyreid.train.__main__ import main as train
from skyreid.train.models.heatmap import build

RECIPE = """
kind = "detector"
batch = 2
[run]
steps = 1
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


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two of two frames each, of noise; the truth has one person, for something must validate."""
    folder = tmp_path_factory.mktemp("clips")
    random, code = np.random.default_rng(0), cv2.VideoWriter.fourcc(*"mp4v")
    for name in ("a", "b"):
        (folder / name / "gt").mkdir(parents=True)
        (folder / name / "gt" / "cam1.txt").write_text("1,1,20,20,16,40,1,1,1.00\n")
        video = cv2.VideoWriter(str(folder / name / "cam1.mp4"), code, 8.0, (480, 480))
        for _ in range(2):
            coarse = random.integers(0, 256, (30, 30, 3)).astype(np.uint8)
            video.write(cv2.resize(coarse, (480, 480)))
        video.release()
    return [str(folder / name) for name in ("a", "b")]


@pytest.fixture(scope="module")
def unfolded(
    detector_bundle: Path, clips: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("unfolded") / "start.safetensors"
    assert main(["unfold", str(detector_bundle), "--data", *clips, "-o", str(out)]) == 0
    return out


def test_it_answers_as_the_bundle_and_names_it(unfolded: Path, detector_bundle: Path) -> None:
    read, bundle = checkpoint.load(unfolded), open_bundle(detector_bundle)
    assert read.config["score_min"] == 0.34
    assert read.config["trunk"]["dilations"] == [2]
    assert read.config["unfolded_from"] == bundle.sha256
    network = build(read.config, read.state)
    pictures = np.random.default_rng(5).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    with torch.no_grad():
        box = network(torch.from_numpy(pictures))[1].numpy()
    np.testing.assert_allclose(box, start(bundle).run(pictures)["box"], rtol=1e-4)


def test_in_training_it_answers_as_the_bundle_too(unfolded: Path, clips: list[str]) -> None:
    read = checkpoint.load(unfolded)
    network = build(read.config, read.state)
    pictures = torch.from_numpy(unfold._pictures([Path(clip) for clip in clips]))
    with torch.no_grad():
        served, trained = network.raw(pictures), network.train().raw(pictures)
    for one, other in zip(served, trained, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_training_goes_on_from_it_and_says_what_it_cannot_know(
    unfolded: Path, clips: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    given = ["--data", *clips, "--out", str(tmp_path / "out"), "--start", str(unfolded)]
    assert train(["fit", str(tmp_path / "recipe.toml"), *given]) == 0
    assert "does not say what it was trained on" in caplog.text


def test_what_answers_otherwise_is_refused(
    detector_bundle: Path, clips: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "start.safetensors"
    words = ["--data", *clips, "-o", str(out)]
    monkeypatch.setattr(unfold, "LARGEST", -1.0)
    assert main(["unfold", str(detector_bundle), *words]) == 3
    assert "it answers otherwise by" in capsys.readouterr().err
    assert not out.exists()
