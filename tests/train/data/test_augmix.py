import math

import numpy as np
import pytest
import torch

from skyreid.train.data import augmix


def picture(height: int = 30, width: int = 18) -> torch.Tensor:
    return torch.randint(20, 220, (3, height, width), generator=rng(5)).to(torch.float32)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_pictures_or_none_are_mixed_as_the_probability_says() -> None:
    batch = torch.stack([picture() for _ in range(40)])
    assert torch.equal(augmix.mix(batch, 0.0, rng()), batch)
    mixed = augmix.mix(batch, 1.0, rng())
    assert not torch.equal(mixed, batch)
    assert torch.equal(mixed, augmix.mix(batch, 1.0, rng()))
    assert torch.equal(mixed, mixed.floor())
    assert 0 <= float(mixed.min())
    assert float(mixed.max()) <= 255
    share = (augmix.mix(batch, 0.3, rng(1)) != batch).flatten(1).any(1).float().mean()
    assert float(share) < 0.6  # 30 % on average


def test_weights_follow_the_dirichlet_of_a_small_coefficient() -> None:
    draws = torch.stack([augmix._dirichlet(3, rng(seed)) for seed in range(3000)])
    torch.testing.assert_close(draws.sum(1), torch.ones(3000, dtype=torch.float64))
    assert draws.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    # Var = (1/3)(2/3) / (3 * .1 + 1): nearly all the weight on one chain
    assert draws.var(0).tolist() == pytest.approx([2 / 9 / 1.3] * 3, abs=0.012)


@pytest.mark.parametrize("name", augmix.OPERATIONS)
def test_every_operation_keeps_whole_numbers_in_range(name: str) -> None:
    for level in (0.1, 0.9, 5.0):
        for sign in (1, -1):
            found = augmix.changed(picture(), name, level, sign)
            assert found.shape == (3, 30, 18)
            assert torch.equal(found, found.round())
            assert 0 <= float(found.min())
            assert float(found.max()) <= 255


def test_colour_operations_follow_their_tables() -> None:
    image = picture().numpy()
    for channel, found in zip(
        image, augmix.changed(picture(), "autocontrast", 1, 1).numpy(), strict=True
    ):
        low, high = channel.min(), channel.max()
        np.testing.assert_allclose(found, np.floor((channel - low) * 255 / (high - low)), atol=1)
    found = augmix.changed(picture(), "solarize", 5.0, 1).numpy()
    np.testing.assert_array_equal(found, np.where(image < 128, image, 255 - image))
    found = augmix.changed(picture(), "posterize", 5.0, 1).numpy()
    np.testing.assert_array_equal(found, image.astype(np.uint8) & 0b11000000)


def test_equalising_spreads_a_narrow_histogram_over_the_whole_range() -> None:
    image = torch.randint(100, 140, (3, 64, 32), generator=rng()).to(torch.float32)
    found = augmix.changed(image, "equalize", 1, 1)
    for channel, new in zip(image, found, strict=True):
        counts = [int((channel == v).sum()) for v in range(256)]
        filled = [c for c in counts if c]
        step = (sum(filled) - filled[-1]) // 255
        running, table = step // 2, []
        for count in counts:
            table.append(min(running // step, 255))
            running += count
        assert torch.equal(new, torch.tensor(table, dtype=torch.float32)[channel.long()])
    assert float(found.max() - found.min()) > 240
    flat = torch.full((3, 8, 8), 77.0)
    assert torch.equal(augmix.changed(flat, "equalize", 1, 1), flat)
    assert torch.equal(augmix.changed(flat, "autocontrast", 1, 1), flat)


def test_geometry_moves_by_what_the_level_says() -> None:
    image = picture()
    level, shift = 5.0, int(5.0 * (18 / 3) / 10)
    found = augmix.changed(image, "translate_x", level, 1)
    assert torch.equal(found[:, :, : 18 - shift], image[:, :, shift:])
    assert not found[:, :, 18 - shift :].any()
    shift = int(5.0 * (30 / 3) / 10)
    found = augmix.changed(image, "translate_y", level, -1)
    assert torch.equal(found[:, shift:], image[:, : 30 - shift])
    # A lone pixel on a sheared line: row y moves by .3 y level / 10.
    dot = torch.zeros(3, 30, 18)
    dot[:, 20, 9] = 200
    found = augmix.changed(dot, "shear_x", 10.0, 1)[0, 20]
    centre = float((found * torch.arange(18)).sum() / found.sum())
    assert centre == pytest.approx(9 - 0.3 * 20.5, abs=0.05)
    turned = augmix.changed(dot, "rotate", 10.0, 1)[0]
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(18.0), indexing="ij")
    row = float((turned * y).sum() / turned.sum()) - 14.5
    column = float((turned * x).sum() / turned.sum()) - 8.5
    assert math.hypot(row, column) == pytest.approx(math.hypot(5.5, 0.5), abs=0.2)
    assert math.degrees(math.atan2(column, row) - math.atan2(0.5, 5.5)) == pytest.approx(30, abs=3)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="brightness"):
        augmix.changed(picture(), "brightness", 1, 1)
