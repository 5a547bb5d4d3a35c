import numpy as np
import pytest

from skyreid.train.data.augment import Augmentation, Strength
from skyreid.train.data.sensor import Sensor, place_of, sensed

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 128, 64, 3), np.uint8)
SMOOTH = np.repeat(np.repeat(PICTURES[:, ::16, ::16], 16, axis=1), 16, axis=2)


def seen(pictures: np.ndarray, sensor: Sensor) -> np.ndarray:
    """A batch."""
    place = place_of(sensor, np.random.default_rng(1))
    return np.stack(
        [
            sensed(picture, sensor, np.random.default_rng([1, row]), place)
            for row, picture in enumerate(pictures)
        ]
    )


def test_nothing_happens_unless_it_is_asked_for():
    assert Sensor().idle
    assert np.array_equal(seen(PICTURES, Sensor()), PICTURES)


@pytest.mark.parametrize("name", sorted(set(Sensor.model_fields) - {"h264", "grey_batch"}))
def test_each_change_alone_changes_every_picture_and_the_same_way_again(name: str):
    sensor = Sensor.model_validate({name: 1.0})
    made = seen(SMOOTH, sensor)
    assert all(not np.array_equal(one, other) for one, other in zip(made, SMOOTH, strict=True))
    assert np.abs(made.astype(int) - SMOOTH).mean() < 90  # still the same picture
    assert np.array_equal(made, seen(SMOOTH, sensor))


def test_a_batch_of_grey_cameras_has_no_colour_and_another_brightness_by_infrared():
    made = seen(SMOOTH, Sensor(grey_batch=1.0))
    assert np.ptp(made, axis=3).max() == 0
    luma = SMOOTH.astype(float) @ [0.299, 0.587, 0.114]
    off = np.abs(made[..., 0] - luma).mean((1, 2))
    assert 2 <= (off < 1).sum() <= 10  # the others are infrared
    assert (off[off >= 1] > 3).all()


def test_h264_changes_part_of_a_batch_and_leaves_each_picture_in_its_place():
    made = seen(SMOOTH, Sensor(h264=1.0))
    changed = np.array([not np.array_equal(a, b) for a, b in zip(made, SMOOTH, strict=True)])
    assert 1 <= changed.sum() < len(SMOOTH)
    for index in np.flatnonzero(changed):
        away = np.abs(made[index].astype(int) - SMOOTH.astype(int)).mean((1, 2, 3))
        assert away.argmin() == index
        assert away[index] < 25


def test_h264_takes_pictures_whose_sides_are_no_multiples_of_a_macroblock():
    odd = SMOOTH[:, :100, :50]
    made = seen(odd, Sensor(h264=1.0))
    assert made.shape == odd.shape
    assert np.abs(made.astype(int) - odd).mean() < 25


def test_augmentation_keeps_what_is_grey_grey():
    strength = Strength(sensor=Sensor(grey_batch=1.0), erase=0.0)
    how = Augmentation(strength=strength, mean=(127.5,) * 3, std=(127.5,) * 3, seed=0)
    made = how.batch(SMOOTH, 0, 0, range(len(SMOOTH)))
    assert np.ptp(made, axis=1).max() < 1e-5


def test_whether_a_batch_is_grey_or_coded_does_not_depend_on_who_makes_its_rows():
    sensor = Sensor(grey_batch=0.5, h264=0.5, noise=0.5)
    how = Augmentation(
        strength=Strength(sensor=sensor, tint=0.0), mean=(0.0,) * 3, std=(1.0,) * 3, seed=2
    )
    grey = []
    for number in range(8):
        whole = how.batch(SMOOTH, number, 0, range(12))
        parts = [how.batch(SMOOTH, number, at, range(at, at + 4)) for at in (0, 4, 8)]
        assert np.array_equal(np.concatenate(parts), whole)
        grey.append(np.ptp(whole, axis=1).max() < 30)
    assert 1 <= sum(grey) <= 7
