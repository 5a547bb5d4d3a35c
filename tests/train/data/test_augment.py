import numpy as np
import pytest
import torch

from skyreid.train.data.augment import PUBLISHED, Augmentation, Strength

NOTHING = Strength(
    flip=0, shift=0, scale=0, rotate_deg=0, brightness=0, contrast=0, saturation=0, tint=0,
    coarse=0, erase=0,
)  # fmt: skip
MEAN = STD = (127.5, 127.5, 127.5)


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (6, 32, 16, 3), dtype=torch.uint8)


def changed(images: torch.Tensor, strength: Strength, seed: int = 0) -> torch.Tensor:
    how = Augmentation(strength=strength, mean=MEAN, std=STD, seed=seed)
    return torch.from_numpy(how.batch(images.numpy(), 0, 0, range(len(images))))


def plain(images: torch.Tensor) -> torch.Tensor:
    return (images.permute(0, 3, 1, 2).to(torch.float32) - 127.5) / 127.5


def test_no_strength_only_normalises() -> None:
    images = pictures()
    torch.testing.assert_close(changed(images, NOTHING), plain(images), atol=1e-5, rtol=0)


def test_a_certain_flip_mirrors_every_picture() -> None:
    images = pictures()
    mirrored = Strength(**{**vars(NOTHING), "flip": 1.0})
    wanted = plain(images).flip(3)
    torch.testing.assert_close(changed(images, mirrored), wanted, atol=1e-5, rtol=0)


def test_a_certain_erasure_leaves_one_rectangle_of_the_mean_colour() -> None:
    images = torch.full((40, 32, 16, 3), 250, dtype=torch.uint8)
    erased = Strength(**{**vars(NOTHING), "erase": 1.0, "erase_area": 0.3})
    holes = (changed(images, erased) == 0).all(1)  # [B, H, W]
    for hole in holes:
        rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
        if rows.numel():  # a very thin rectangle may fall between the pixels
            assert hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert hole.float().mean() < 0.4
    assert holes.flatten(1).any(1).sum() > 35


def test_the_same_seed_changes_pictures_alike_and_another_does_not() -> None:
    images = pictures()
    first = changed(images, Strength(), 5)
    torch.testing.assert_close(first, changed(images, Strength(), 5))
    assert not torch.allclose(first, changed(images, Strength(), 6))
    assert torch.isfinite(first).all()
    assert first.shape == (6, 3, 32, 16)


def test_padding_and_cropping_shifts_by_whole_pixels_and_brings_in_black() -> None:
    images = torch.randint(1, 256, (60, 32, 16, 3), dtype=torch.uint8)
    padded = Strength(**{**vars(NOTHING), "pad": 3, "black_border": True})
    found = ((changed(images, padded) * 127.5 + 127.5).round()).permute(0, 2, 3, 1)
    shifts = set()
    for picture, original in zip(found, images.to(torch.float32), strict=True):
        bordered = torch.zeros(38, 22, 3)
        bordered[3:35, 3:19] = original
        places = [
            (top, left)
            for top in range(7)
            for left in range(7)
            if torch.equal(picture, bordered[top : top + 32, left : left + 16])
        ]
        assert len(places) == 1
        shifts.add(places[0])
    assert {top for top, _ in shifts} == set(range(7))
    assert {left for _, left in shifts} == set(range(7))


def test_the_border_is_the_mean_colour_unless_it_is_said_to_be_black() -> None:
    images = torch.full((8, 32, 16, 3), 255, dtype=torch.uint8)
    turned = {**vars(NOTHING), "rotate_deg": 90.0}
    grey, black = (
        changed(images, Strength(**turned)),
        changed(images, Strength(**{**turned, "black_border": True})),
    )
    assert float(grey.min()) == 0
    torch.testing.assert_close(black.min(), torch.tensor(-1.0))
    torch.testing.assert_close(1 - black, 2 * (1 - grey))  # the same places, twice as far


def test_published_erasing_fills_whole_rectangles_that_fit_with_its_colour() -> None:
    count, height, width = 400, 64, 32
    images = torch.zeros((count, height, width, 3), dtype=torch.uint8)
    erased = Strength(**{**vars(NOTHING), **{
        name: getattr(PUBLISHED, name)
        for name in ("erase", "erase_area", "erase_tries", "erase_fill")
    }})  # fmt: skip
    pixels = changed(images, erased) * 127.5 + 127.5
    holes = (pixels > 50).all(1)
    hit = holes.flatten(1).any(1)
    assert 0.42 < float(hit.float().mean()) < 0.58
    shares, aspects = [], []
    for hole, picture in zip(holes[hit], pixels[hit], strict=True):
        rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
        tall, wide = len(rows), len(columns)
        assert int(hole.sum()) == tall * wide  # a full rectangle
        assert tall < height
        assert wide < width
        shares.append(tall * wide / (height * width))
        aspects.append(tall / wide)
        torch.testing.assert_close(picture[:, hole][:, 0], torch.tensor(PUBLISHED.erase_fill))
    assert 0.015 < min(shares) < 0.06
    assert 0.24 < max(shares) < 0.34
    assert 0.25 < min(aspects) < 0.5
    assert 2.0 < max(aspects) < 3.6


def test_noise_erases_with_normal_deviates() -> None:
    images = torch.full((50, 64, 32, 3), 255, dtype=torch.uint8)
    noisy = Strength(
        **{**vars(NOTHING), "erase": 1.0, "erase_area": 0.33, "erase_tries": 10,
           "erase_fill": "noise"}
    )  # fmt: skip
    values = changed(images, noisy)
    hole = (values != 1).all(1, keepdim=True).expand_as(values)
    assert abs(float(values[hole].mean())) < 0.02
    assert abs(float(values[hole].std()) - 1) < 0.02


def test_a_picture_of_a_batch_is_the_same_whoever_makes_it_and_another_in_another_batch() -> None:
    images = pictures().numpy()
    strength = Strength(pad=2, augmix=0.5, erase_tries=10, erase_fill="noise")
    how = Augmentation(strength=strength, mean=MEAN, std=STD, seed=3)
    index = [4, 1, 1, 5, 0, 2]
    whole = how.batch(images, 7, 0, index)
    for cut in (1, 2, 5):
        parts = [how.batch(images, 7, at, index[at : at + cut]) for at in range(0, 6, cut)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert not np.allclose(whole[1], whole[2])  # one picture, twice in a batch
    assert not np.allclose(how.batch(images, 8, 0, index)[0], whole[0])


def test_what_is_off_draws_nothing() -> None:
    """Runs of older recipes stay what they were when there is something new to switch on."""
    images = np.arange(6 * 32 * 16 * 3, dtype=np.int64).reshape(6, 32, 16, 3) * 7919 % 256
    how = Augmentation(strength=Strength(), mean=MEAN, std=STD, seed=9)
    total = float(how.batch(images.astype(np.uint8), 0, 0, range(6)).astype(np.float64).sum())
    assert total == pytest.approx(4.6154, abs=0.5)


def test_a_picture_turns_about_its_middle_and_moves_and_grows_by_its_shares() -> None:
    """A dot's place under one change each, against the arithmetic of it."""
    height, width = 65, 33
    image = np.zeros((1, height, width, 3), np.uint8)
    image[0, 20:23, 20:23] = 200  # its middle: 11 rows above, 5 columns right of the picture's
    black = {**vars(NOTHING), "black_border": True}

    def found(number: int, **change: float) -> tuple[float, float]:
        strength = Strength(**{**black, **change})
        how = Augmentation(strength=strength, mean=MEAN, std=STD, seed=1)
        bright = how.batch(image, number, 0, [0])[0, 0] + 1
        rows, columns = np.mgrid[:height, :width]
        whole = bright.sum()
        return (bright * rows).sum() / whole - 32, (bright * columns).sum() / whole - 16

    radius, turns, places, zooms = np.hypot(11, 5), [], [], []
    for number in range(40):
        row, column = found(number, rotate_deg=30.0)
        assert np.hypot(row, column) == pytest.approx(radius, abs=0.15)
        turns.append(np.degrees(np.arctan2(column, -row) - np.arctan2(5, 11)))
        places.append(np.subtract(found(number, shift=0.2), (-11, 5)))
        row, column = found(number, scale=0.2)
        assert row / column == pytest.approx(-11 / 5, abs=0.05)
        zooms.append(5 / column)
    assert np.abs(turns).max() < 30.5
    assert np.ptp(turns) > 45
    assert np.abs(places).max(0) == pytest.approx((0.2 * height, 0.2 * width), rel=0.15)
    assert 0.8 <= min(zooms) < 0.84
    assert 1.16 < max(zooms) <= 1.21


def test_colours_change_about_grey_about_the_mean_and_by_a_gain() -> None:
    image = np.random.default_rng(2).integers(60, 140, (1, 32, 16, 3)).astype(np.uint8)
    pixels = image[0].astype(np.float64)

    def found(**change: float) -> np.ndarray:
        how = Augmentation(
            strength=Strength(**{**vars(NOTHING), **change}), mean=(0,) * 3, std=(1,) * 3, seed=4
        )
        return how.batch(image, 0, 0, [0])[0].transpose(1, 2, 0).astype(np.float64)

    gain = found(brightness=0.2) / pixels
    assert np.ptp(gain) < 1e-5
    assert 0.8 <= gain.mean() <= 1.2
    tints = found(tint=0.2) / pixels
    assert np.ptp(tints, (0, 1)).max() < 1e-5
    assert np.ptp(tints[0, 0]) > 0.01
    for centre, changed_by in (
        (pixels.mean(), "contrast"),
        (pixels.mean(2)[..., None], "saturation"),
    ):
        ratio = (found(**{changed_by: 0.3}) - centre)[np.abs(pixels - centre) > 5] / (
            (pixels - centre)[np.abs(pixels - centre) > 5]
        )
        assert np.ptp(ratio) < 1e-4
        assert 0.7 <= ratio.mean() <= 1.3
        assert abs(ratio.mean() - 1) > 0.003


def test_coarse_pictures_have_half_the_resolution() -> None:
    image = np.random.default_rng(2).integers(0, 256, (1, 32, 16, 3)).astype(np.uint8)
    how = Augmentation(
        strength=Strength(**{**vars(NOTHING), "coarse": 1.0}), mean=MEAN, std=STD, seed=4
    )
    normal = torch.from_numpy(how.batch(image, 0, 0, [0]))
    small = torch.nn.functional.avg_pool2d(plain(torch.from_numpy(image)), 2)
    wanted = torch.nn.functional.interpolate(small, size=(32, 16), mode="bilinear")
    torch.testing.assert_close(normal, wanted, atol=1e-4, rtol=0)
