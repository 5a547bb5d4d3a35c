from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.export import golden

CROPS = InputSpec(height=32, width=16)
ANY_SIZE = InputSpec(height=0, width=0)


def write_pictures(directory: Path, count: int, height: int, width: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(directory / f"{number:02d}.png"), picture[:, :, ::-1])
    return pictures


def test_pictures_are_spread_over_the_directory_and_fitted_in_rgb(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path, 15, 50, 30)
    read = golden.read(tmp_path, CROPS)
    assert read.shape == (8, 32, 16, 3)
    np.testing.assert_array_equal(read, [fit(picture, CROPS) for picture in pictures[::2]])


def test_a_detector_gets_the_middle_of_each_picture(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path, 8, 200, 260)
    read = golden.read(tmp_path, ANY_SIZE)
    np.testing.assert_array_equal(read, [picture[4:196, 2:258] for picture in pictures])


def test_too_few_or_too_small_pictures_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, 7, 100, 100)
    with pytest.raises(InputError, match="7 pictures, at least 8"):
        golden.read(tmp_path, ANY_SIZE)
    write_pictures(tmp_path, 8, 100, 100)
    with pytest.raises(InputError, match="at least 256 x 192"):
        golden.read(tmp_path, ANY_SIZE)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, 8, 50, 30)
    (tmp_path / "00.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1 of 8 pictures .* unreadable, first .*00\.png"):
        golden.read(tmp_path, CROPS)


def test_one_damaged_picture_of_hundreds_is_passed_over_and_a_macs_twins_are_none(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path, 101, 50, 30)
    for path in sorted(tmp_path.iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "00.png").write_bytes(b"no picture")
    read = golden.read(tmp_path, CROPS)
    assert len({picture.tobytes() for picture in read}) == 8


@pytest.mark.parametrize("spec", [CROPS, ANY_SIZE])
def test_drawn_pictures_differ_from_each_other_and_repeat_with_the_seed(spec: InputSpec) -> None:
    drawn = golden.draw(spec)
    assert drawn.shape == (8, spec.height or 192, spec.width or 256, 3)
    assert len({picture.tobytes() for picture in drawn}) == 8
    np.testing.assert_array_equal(drawn, golden.draw(spec))
    assert drawn.std() > 20
