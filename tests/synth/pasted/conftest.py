"""A small stock for all tests of pasted pictures: rendering it costs more than the pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.synth.options import StockOptions
from skyreid.synth.pasted.stock import make_stock


def make_empty_video(path: Path, frames: int = 12) -> Path:
    """A video whose frames are one grey each, 10 levels apart, so that a frame tells its number."""
    code = cv2.VideoWriter.fourcc(*"mp4v")
    video = cv2.VideoWriter(str(path), code, 5.0, (160, 96))
    for number in range(frames):
        video.write(np.full((96, 160, 3), 20 + 10 * number, np.uint8))
    video.release()
    return path


@pytest.fixture(scope="session")
def empty_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_empty_video(tmp_path_factory.mktemp("videos") / "nobody.mp4")


@pytest.fixture(scope="session")
def stock_options(tmp_path_factory: pytest.TempPathFactory, empty_video: Path) -> StockOptions:
    out = tmp_path_factory.mktemp("stocks") / "stock"
    return StockOptions(out=out, people=10, things=10, seed=5, empty=(empty_video,), frames_each=20)


@pytest.fixture(scope="session")
def stock_folder(stock_options: StockOptions) -> Path:
    make_stock(stock_options)
    return stock_options.out
