import torch

from skyreid.train.data.augment import Strength, augment

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
