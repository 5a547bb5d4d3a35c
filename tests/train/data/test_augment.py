import pytest
import torch

from skyreid.train.data.augment import PUBLISHED, Strength, augment

NOTHING = Strength(
    flip=0, shift=0, scale=0, rotate_deg=0, brightness=0, contrast=0, saturation=0, tint=0,
    coarse=0, erase=0,
)  # fmt: skip
MEAN, STD = torch.full((3,), 127.5), torch.full((3,), 127.5)


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (6, 32, 16, 3), dtype=torch.uint8)


def changed(images: torch.Tensor, strength: Strength, seed: int = 0) -> torch.Tensor:
    return augment(images, MEAN, STD, strength, torch.Generator().manual_seed(seed))


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


def test_the_new_switches_leave_pictures_as_they_were_when_off() -> None:
    """Runs of older recipes stay what they were: no draw is added where a switch is off."""
    torch.manual_seed(4)
    total = float(changed(pictures(), Strength(), 9).double().sum())
    assert total == pytest.approx(-239.2314, abs=1e-2)  # recorded before there were any
