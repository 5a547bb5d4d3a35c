import math

import numpy as np
import pytest

from skyreid.train.data import augmix
from skyreid.train.data.augment import Augmentation, Strength


def picture(height: int = 30, width: int = 18) -> np.ndarray:
    return rng(5).integers(20, 220, (height, width, 3)).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_all_pictures_or_none_are_mixed_as_the_probability_says() -> None:
    off = Strength(
        flip=0, shift=0, scale=0, rotate_deg=0, brightness=0, contrast=0, saturation=0, tint=0,
        coarse=0, erase=0,
    )  # fmt: skip
    image = picture()[None].astype(np.uint8)

    def mixed(share: float, count: int = 40) -> np.ndarray:
        strength = Strength(**{**vars(off), "augmix": share})
        how = Augmentation(strength=strength, mean=(0.0,) * 3, std=(1.0,) * 3, seed=1)
        return how.batch(image, 0, 0, [0] * count)

    plain = image.transpose(0, 3, 1, 2)
    assert (mixed(0.0) == plain).all()
    found = mixed(1.0)
    assert (found != plain).any((1, 2, 3)).mean() > 0.75  # the rest keep all of themselves
    assert np.array_equal(found, np.floor(found))
    assert 0 <= found.min()
    assert found.max() <= 255
    assert 0.1 < (mixed(0.3, 200) != plain).any((1, 2, 3)).mean() < 0.4


def test_mixing_repeats_itself_with_its_seed() -> None:
    assert np.array_equal(augmix.mix(picture(), rng(3)), augmix.mix(picture(), rng(3)))
    assert not np.array_equal(augmix.mix(picture(), rng(3)), augmix.mix(picture(), rng(4)))


def test_shares_follow_the_beta_and_the_dirichlet_of_a_small_coefficient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nearly all the weight lies on one chain, or on the picture itself."""
    given: list[float] = []

    def marked(picture: np.ndarray, name: str, level: float, sign: int) -> np.ndarray:
        assert name in augmix.OPERATIONS
        assert 0.1 <= level <= 1.0
        assert sign in (1, -1)
        given.append(1.0)
        return np.full_like(picture, 1e6 if len(given) % 3 == chain[0] else 0)

    monkeypatch.setattr(augmix, "changed", marked)

    def shares(value: float) -> np.ndarray:
        one = np.full((1, 1, 3), value, np.float32)
        return np.array([augmix.mix(one, rng(seed))[0, 0, 0] / 1e6 for seed in range(1500)])

    chain = [-1]  # none: what is left of the picture
    kept = shares(1e6)
    assert kept.mean() == pytest.approx(1 / 2, abs=0.03)
    assert kept.var() == pytest.approx(0.25 / (2 * augmix.COEFFICIENT + 1), abs=0.012)
    parts = []
    for chain[0] in range(3):
        parts.append(shares(0))
    assert len(given) == 4 * 1500 * augmix.CHAINS
    np.testing.assert_allclose(np.sum(parts, 0), 1 - kept, atol=1e-5)
    some = 1 - kept > 0.5
    weights = np.array(parts)[:, some] / (1 - kept[some])
    assert weights.mean(1).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)
    # Var = (1/3)(2/3) / (3 * .1 + 1)
    assert weights.var(1).tolist() == pytest.approx([2 / 9 / 1.3] * 3, abs=0.016)


@pytest.mark.parametrize("name", augmix.OPERATIONS)
def test_every_operation_keeps_whole_numbers_in_range(name: str) -> None:
    for level in (0.1, 0.9, 5.0):
        for sign in (1, -1):
            found = augmix.changed(picture(), name, level, sign)
            assert found.shape == (30, 18, 3)
            assert found.dtype == np.float32
            assert np.array_equal(found, np.rint(found))
            assert 0 <= found.min()
            assert found.max() <= 255


def test_colour_operations_follow_their_tables() -> None:
    image = picture()
    stretched = augmix.changed(image, "autocontrast", 1, 1)
    low, high = image.min((0, 1)), image.max((0, 1))
    np.testing.assert_allclose(stretched, np.floor((image - low) * 255 / (high - low)), atol=1)
    found = augmix.changed(picture(), "solarize", 5.0, 1)
    np.testing.assert_array_equal(found, np.where(image < 128, image, 255 - image))
    found = augmix.changed(picture(), "posterize", 5.0, 1)
    np.testing.assert_array_equal(found, image.astype(np.uint8) & 0b11000000)


def test_equalising_spreads_a_narrow_histogram_over_the_whole_range() -> None:
    image = rng().integers(100, 140, (64, 32, 3)).astype(np.float32)
    found = augmix.changed(image, "equalize", 1, 1)
    for number in range(3):
        channel, new = image[..., number], found[..., number]
        counts = [int((channel == v).sum()) for v in range(256)]
        filled = [c for c in counts if c]
        step = (sum(filled) - filled[-1]) // 255
        running, table = step // 2, []
        for count in counts:
            table.append(min(running // step, 255))
            running += count
        assert np.array_equal(new, np.asarray(table, np.float32)[channel.astype(int)])
    assert np.ptp(found) > 240
    flat = np.full((8, 8, 3), 77.0, np.float32)
    assert np.array_equal(augmix.changed(flat, "equalize", 1, 1), flat)
    assert np.array_equal(augmix.changed(flat, "autocontrast", 1, 1), flat)


def test_geometry_moves_by_what_the_level_says() -> None:
    image = picture()
    level, shift = 5.0, int(5.0 * (18 / 3) / 10)
    found = augmix.changed(image, "translate_x", level, 1)
    assert np.array_equal(found[:, : 18 - shift], image[:, shift:])
    assert not found[:, 18 - shift :].any()
    shift = int(5.0 * (30 / 3) / 10)
    found = augmix.changed(image, "translate_y", level, -1)
    assert np.array_equal(found[shift:], image[: 30 - shift])
    # A lone pixel on a sheared line: row y moves by .3 y level / 10.
    dot = np.zeros((30, 18, 3), np.float32)
    dot[20, 9] = 200
    found = augmix.changed(dot, "shear_x", 10.0, 1)[20, :, 0]
    centre = float((found * np.arange(18)).sum() / found.sum())
    assert centre == pytest.approx(9 - 0.3 * 20.5, abs=0.05)
    turned = augmix.changed(dot, "rotate", 10.0, 1)[..., 0]
    y, x = np.mgrid[:30, :18]
    row = float((turned * y).sum() / turned.sum()) - 14.5
    column = float((turned * x).sum() / turned.sum()) - 8.5
    assert math.hypot(row, column) == pytest.approx(math.hypot(5.5, 0.5), abs=0.2)
    assert math.degrees(math.atan2(column, row) - math.atan2(0.5, 5.5)) == pytest.approx(30, abs=3)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="brightness"):
        augmix.changed(picture(), "brightness", 1, 1)
