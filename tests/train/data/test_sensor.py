import numpy as np
import pytest
import torch

from skyreid.train.data.augment import Strength, augment
from skyreid.train.data.sensor import Sensor, sensed

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 128, 64, 3), np.uint8)
SMOOTH = np.repeat(np.repeat(PICTURES[:, ::16, ::16], 16, axis=1), 16, axis=2)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_nothing_happens_unless_it_is_asked_for():
    assert Sensor().idle
    assert np.array_equal(sensed(PICTURES, Sensor(), rng()), PICTURES)


@pytest.mark.parametrize("name", sorted(set(Sensor.model_fields) - {"h264", "grey_batch"}))
def test_each_change_alone_changes_every_picture_and_the_same_way_again(name: str):
    sensor = Sensor.model_validate({name: 1.0})
    made = sensed(SMOOTH, sensor, rng())
    assert all(not np.array_equal(one, other) for one, other in zip(made, SMOOTH, strict=True))
    assert np.abs(made.astype(int) - SMOOTH).mean() < 90  # still the same picture
    assert np.array_equal(made, sensed(SMOOTH, sensor, rng()))


def test_a_batch_of_grey_cameras_has_no_colour_and_another_brightness_by_infrared():
    made = sensed(SMOOTH, Sensor(grey_batch=1.0), rng())
    assert np.ptp(made, axis=3).max() == 0
    luma = SMOOTH.astype(float) @ [0.299, 0.587, 0.114]
    off = np.abs(made[..., 0] - luma).mean((1, 2))
    assert 2 <= (off < 1).sum() <= 10  # the others are infrared
    assert (off[off >= 1] > 3).all()


def test_h264_changes_part_of_a_batch_and_leaves_each_picture_in_its_place():
    made = sensed(SMOOTH, Sensor(h264=1.0), rng())
    changed = np.array([not np.array_equal(a, b) for a, b in zip(made, SMOOTH, strict=True)])
    assert 1 <= changed.sum() < len(SMOOTH)
    for index in np.flatnonzero(changed):
        away = np.abs(made[index].astype(int) - SMOOTH.astype(int)).mean((1, 2, 3))
        assert away.argmin() == index
        assert away[index] < 25


def test_h264_takes_pictures_whose_sides_are_no_multiples_of_a_macroblock():
    odd = SMOOTH[:, :100, :50]
    made = sensed(odd, Sensor(h264=1.0), rng())
    assert made.shape == odd.shape
    assert np.abs(made.astype(int) - odd).mean() < 25


def test_augmentation_keeps_what_is_grey_grey():
    mean = torch.full((3,), 127.5)
    strength = Strength(sensor=Sensor(grey_batch=1.0), erase=0.0)
    made = augment(torch.from_numpy(SMOOTH), mean, mean, strength, torch.Generator().manual_seed(0))
    assert float((made.amax(1) - made.amin(1)).max()) < 1e-5
