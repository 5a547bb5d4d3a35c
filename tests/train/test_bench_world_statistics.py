"""How people look, as numbers: what is dark or grey, what is colourful, what is blurred."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import world_statistics

from skyreid.contract.errors import InputError

RANDOM = np.random.default_rng(0)


def test_black_and_grey_are_dark_or_grey_and_red_is_neither() -> None:
    black = np.full((120, 50, 3), 20, np.uint8)
    grey = np.full((120, 50, 3), 128, np.uint8)
    red = np.full((120, 50, 3), (200, 20, 20), np.uint8)
    assert [world_statistics.looks(crop)[2] for crop in (black, grey, red)] == [1, 1, 0]
    assert world_statistics.looks(red)[0] > 200 > 1 > world_statistics.looks(grey)[0]
    assert world_statistics.looks(grey)[3] == 128


def test_only_the_middle_of_a_crop_is_the_body() -> None:
    crop = np.full((120, 50, 3), (200, 20, 20), np.uint8)
    crop[20:100, 12:38] = 20
    assert world_statistics.looks(crop)[2] == 1


def test_blur_lowers_sharpness() -> None:
    sharp = RANDOM.integers(0, 256, (128, 64, 3), np.uint8)
    soft = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8)
    assert world_statistics.looks(soft)[5] < world_statistics.looks(sharp)[5] / 4


def test_a_gap_is_a_hole_of_more_than_a_second() -> None:
    assert world_statistics.gap([[0.0, 0.5, 1.1], [3.0]]) == 0
    assert world_statistics.gap([[0.0, 0.5, 2.5], [1.0, 1.5]]) == pytest.approx(2 / 3)


def test_a_set_has_a_row_for_its_drones_and_one_for_its_street_cameras(tmp_path: Path) -> None:
    for camera in (1, 9):
        folder = tmp_path / "train" / f"Cam{camera}"
        folder.mkdir(parents=True)
        crop = RANDOM.integers(0, 256, (60 + camera, 30, 3), np.uint8)
        cv2.imwrite(str(folder / f"Cam{camera}_day_0001_0.jpg"), crop)
    drones, street = world_statistics._set(tmp_path)
    assert "drones | 1 | 61 |" in drones
    assert "street | 1 | 69 |" in street
    with pytest.raises(InputError, match="has no crops"):
        world_statistics._set(tmp_path / "train")
