from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skyreid.synth.pasted.canvas import Canvas, Pasted
from skyreid.synth.pasted.clutter import SIZE_PX, clutter
from skyreid.synth.pasted.composer import LEAST_PX, Composer
from skyreid.synth.pasted.rendition import muted
from skyreid.synth.pasted.scaling import scalable
from skyreid.synth.pasted.stock import read_stock

SIDE = 160


@pytest.fixture(scope="module")
def composer(stock_folder: Path) -> Composer:
    return Composer(read_stock(stock_folder), side_px=SIDE, seed=3, grounds=4)


def drawn(composer: Composer, count: int = 40):
    rng = np.random.default_rng(9)
    return [composer.on_clutter(rng) for _ in range(count)]


def test_the_same_seeds_give_the_same_pictures(stock_folder: Path, composer: Composer):
    again = Composer(read_stock(stock_folder), side_px=SIDE, seed=3, grounds=4)
    for one, other in zip(drawn(composer, 12), drawn(again, 12), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_boxes_lie_in_the_picture_and_reach_from_small_to_the_whole_height(composer: Composer):
    heights = []
    for picture, boxes, ignored in drawn(composer, 80):
        assert picture.shape == (SIDE, SIDE, 3)
        assert picture.dtype == np.uint8
        assert len(boxes) == len(ignored)
        assert (boxes >= 0).all()
        assert (boxes <= SIDE).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        heights += (boxes[~ignored, 3] - boxes[~ignored, 1]).tolist()
    assert min(heights) < 1.5 * LEAST_PX
    assert max(heights) > 0.95 * SIDE
    assert sum(24 <= h <= 64 for h in heights) > 0.25 * len(heights)


def test_a_box_is_where_the_person_is(composer: Composer):
    rng = np.random.default_rng(2)
    ground = np.full((SIDE, SIDE, 3), 0, np.uint8)
    for _ in range(20):
        canvas = Canvas(ground)
        people = composer._people(rng, canvas, 1)
        for person in people:
            rows, _ = np.nonzero(canvas.owner == person.number)
            x0, y0, _, y1 = person.body
            if len(rows) and x0 > 1 and y0 > 1 and y1 < SIDE - 1:
                assert rows.min() == pytest.approx(y0, abs=4)
                assert rows.max() >= y1 - 4  # a suitcase or a wheel may be lower


def test_a_small_picture_is_seen_from_farther_away_too(composer: Composer):
    """Else what stands in it is silenced at the sizes of a first look, and not at half of them."""
    picture = np.zeros((SIDE // 2, SIDE, 3), np.uint8)
    picture[::10] = 255  # 8 bright rows; as large as it is they would lie 20 px apart
    rng = np.random.default_rng(6)
    rows = [
        int((composer._window(rng, picture, 0.5, 0.5)[:, 0].max(axis=1) > 60).sum())
        for _ in range(8)
    ]
    assert min(rows) >= 10


def test_nobody_is_asked_for_where_nobody_is(composer: Composer):
    rng = np.random.default_rng(1)
    for _ in range(10):
        _, boxes, ignored = composer.empty(rng)
        assert boxes.shape == (0, 4)
        assert ignored.shape == (0,)


def test_who_is_hidden_by_more_than_seven_tenths_is_ignored():
    canvas = Canvas(np.zeros((100, 100, 3), np.uint8))
    cutout = opaque(40, 20)
    person = Pasted(1, (10, 10, 30, 50), canvas.paste(cutout, 10, 10, 1))
    assert canvas.visibility(person) == 1
    canvas.paste(cutout, 10, 20)  # three quarters hidden
    assert canvas.visibility(person) == pytest.approx(0.25)


def test_people_that_were_there_before_are_kept_unless_pasted_over(composer: Composer):
    rng = np.random.default_rng(4)
    boxes = np.array([[10, 10, 60, 150], [100, 20, 140, 120]], np.float32)
    picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
    ignored = np.array([False, True])
    hidden = 0
    for _ in range(30):
        _, found, out = composer.among(rng, (picture, boxes, ignored))
        assert np.array_equal(found[:2], boxes)
        assert out[1]
        hidden += int(out[0])
    assert hidden < 15


def test_whom_a_thing_is_pasted_over_is_not_asked_for():
    box = np.array([10, 10, 30, 50], np.float32)
    canvas = Canvas(np.zeros((100, 100, 3), np.uint8))
    assert canvas.covered(box) == 0
    canvas.paste(opaque(30, 40), 5, 15)  # a thing, no person
    assert canvas.covered(box) > 0.6


def opaque(height: int, width: int):
    return np.dstack([np.full((height, width, 3), 200), np.full((height, width), 255)]).astype(
        np.float32
    )


def test_a_pasted_edge_is_mixed_and_a_picture_outside_costs_nothing():
    canvas = Canvas(np.full((50, 50, 3), 100, np.uint8))
    assert canvas.paste(opaque(10, 10) * np.float32(0.4), 0, 0, 1) == 0
    assert canvas.finished()[5, 5].tolist() == [140] * 3
    assert canvas.paste(opaque(10, 10), 60, 0, 1) == 0
    assert canvas.paste(opaque(10, 10), -5, -5, 1) == 25


def test_scaling_does_not_mix_in_the_colour_of_what_is_not_there():
    rgba = np.zeros((200, 200, 4), np.uint8)
    rgba[50:150, 50:150] = 255  # white before a transparent black
    for side in (20, 90, 400):
        small = scalable(rgba).at(side, side)
        assert small.shape == (side, side, 4)
        solid = small[..., 3] > 20
        assert np.allclose(small[solid][:, :3] / small[solid][:, 3:], 1, atol=0.08)


def test_muting_takes_colour_away_and_keeps_the_shape():
    rng, colour = np.random.default_rng(0), np.zeros((60, 40, 4), np.float32)
    colour[10:50, 10:30] = (220, 40, 40, 255)
    spread = []
    for _ in range(60):
        out = muted(rng, colour)
        assert np.array_equal(out[..., 3], colour[..., 3])
        assert (out[colour[..., 3] == 0] == 0).all()
        body = out[10:50, 10:30, :3].mean((0, 1))
        spread.append((body.max() - body.min()) / max(1, body.max()))
    assert np.median(spread) < 0.75 * (220 - 40) / 220


def test_clutter_is_a_function_of_its_seed_and_not_plain():
    for seed in range(12):
        picture = clutter(np.random.default_rng(seed))
        assert picture.shape == (*SIZE_PX, 3)
        assert np.array_equal(picture, clutter(np.random.default_rng(seed)))
        assert picture.std() > 3
