from pathlib import Path

import cv2
import numpy as np
import pytest

RECIPE = """
kind = "detector"
batch = 2
validation_step = 2
frame_step = 1
[optimiser]
warmup_steps = 1
[run]
steps = 5
evaluate_every = 2
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


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One clip to train on and one to validate."""
    folder = tmp_path_factory.mktemp("clips")
    return make_clip(folder / "a", 0), make_clip(folder / "b", 1)


@pytest.fixture(scope="session")
def recipe_text() -> str:
    """Of a run of seconds."""
    return RECIPE


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest stock of cut-outs there can be."""
    from skyreid.synth.options import StockOptions
    from skyreid.synth.pasted.stock import make_stock

    out = tmp_path_factory.mktemp("stocks") / "stock"
    make_stock(StockOptions(out=out, people=10, things=10, seed=2))
    return out
