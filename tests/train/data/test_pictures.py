from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train.data import cargo, pictures

SPEC = InputSpec(height=32, width=16)


def test_pictures_are_rgb_and_resized_by_the_contract(tiny_tree: Path) -> None:
    records = cargo.read(tiny_tree, "train").records[:3]
    images = pictures.load(records, SPEC)
    assert images.shape == (3, 32, 16, 3)
    bgr = cv2.imread(str(records[0].path))
    assert bgr is not None
    np.testing.assert_array_equal(images[0], fit(np.ascontiguousarray(bgr[..., ::-1]), SPEC))
    assert images[0].mean((0, 1)).argmax() == 0  # person 1 wears red


def test_the_cache_is_used_until_a_picture_changes(tiny_tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "train" / "Cam1"
    copy.mkdir(parents=True)
    source = next((tiny_tree / "train" / "Cam1").iterdir())
    (copy / source.name).write_bytes(source.read_bytes())
    records = cargo.read(tmp_path, "train").records
    first = pictures.load(records, SPEC, tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    np.save(stored, np.zeros_like(first))
    assert not pictures.load(records, SPEC, tmp_path / "cache").any()
    assert cv2.imwrite(str(copy / source.name), np.full((50, 25, 3), 77, np.uint8))
    assert pictures.load(records, SPEC, tmp_path / "cache").mean() == pytest.approx(77, abs=2)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"x\.jpg"):
        pictures.read_rgb(path)
