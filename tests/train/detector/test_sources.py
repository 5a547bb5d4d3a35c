from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.detector.clips import People
from skyreid.train.detector.crops import CropRules
from skyreid.train.detector.sources import Mix, held_out_pictures, mixed, open_source, split_data

pytest.importorskip("numba", reason="a stock is rendered: pip install 'skyreid[train]'")

RULES = CropRules(height_px=96, width_px=96)
FRAMES = [
    (
        np.full((120, 160, 3), 80, np.uint8),
        People(np.array([[40, 20, 70, 100]], np.float32), np.ones(1, np.float32)),
    )
]
MIX = Mix(rendered=1, on_clutter=1, empty=0.5, rendered_degraded=0.5, grounds=5)


def test_clips_and_the_stock_are_told_apart(stock: Path, tmp_path: Path) -> None:
    assert split_data([tmp_path, stock], MIX) == ([tmp_path], stock)
    assert split_data([tmp_path], Mix()) == ([tmp_path], None)


def test_a_stock_too_few_or_too_many_is_refused(stock: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names 0 stocks .* takes one, made with"):
        split_data([tmp_path], MIX)
    with pytest.raises(InputError, match=r"names 1 stocks .* takes none"):
        split_data([tmp_path, stock], Mix())


def test_every_kind_comes_in_its_share() -> None:
    def plain(value: int):
        return lambda random: (np.full((1, 1, 3), value, np.uint8), None, None)

    draw = mixed((plain(1), 3.0), (plain(2), 1.0), (plain(3), 0.0))
    random = np.random.default_rng(0)
    seen = [int(draw(random)[0][0, 0, 0]) for _ in range(400)]
    assert seen.count(1) / 400 == pytest.approx(0.75, abs=0.07)
    assert seen.count(3) == 0


def test_a_mix_draws_the_same_from_the_same_seed_and_all_of_its_kinds(stock: Path) -> None:
    draws = [open_source(FRAMES, stock, RULES, MIX) for _ in range(2)]
    randoms = [np.random.default_rng(7) for _ in range(2)]
    counts = set()
    for _ in range(30):
        one, other = (draw(random) for draw, random in zip(draws, randoms, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert one[0].shape == (96, 96, 3)
        counts.add(len(one[1]))
    assert {0, 1} < counts


def test_without_a_stock_it_is_the_windows_of_the_frames() -> None:
    picture, boxes, _ = open_source(FRAMES, None, RULES, Mix())(np.random.default_rng(1))
    assert picture.shape == (96, 96, 3)
    assert len(boxes) <= 1


def test_held_out_pictures_are_of_the_tenth_that_is_never_trained_on(
    stock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skyreid.train.detector import sources

    asked = []
    real = sources.read_stock
    monkeypatch.setattr(
        sources,
        "read_stock",
        lambda folder, held_out: asked.append(held_out) or real(folder, held_out=held_out),
    )
    once, again = (held_out_pictures(stock, RULES, MIX, 4) for _ in range(2))
    open_source(FRAMES, stock, RULES, MIX)
    assert asked == [True, True, False]
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(once, again, strict=True))
