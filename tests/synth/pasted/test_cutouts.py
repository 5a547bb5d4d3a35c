from __future__ import annotations

import numpy as np
import pytest

from skyreid.synth.pasted import cutouts
from skyreid.synth.pasted.cutouts import HEIGHT_PX, person_cutout, studio, thing_cutout
from skyreid.synth.shading import Backdrop


@pytest.fixture(scope="module")
def backdrop() -> Backdrop:
    return studio(1)


def test_a_person_is_alone_with_soft_edges_and_a_box(backdrop: Backdrop):
    for number in range(6):
        made = person_cutout(backdrop, 1, number)
        height, width = made.rgba.shape[:2]
        alpha = made.rgba[..., 3]
        assert 0.1 < (alpha > 250).mean() < 0.9
        assert ((alpha > 20) & (alpha < 235)).any()
        assert made.body is not None
        x0, y0, x1, y1 = made.body
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert max(y1 - y0, x1 - x0) > 0.4 * HEIGHT_PX[0]


def test_a_number_is_one_person(backdrop: Backdrop):
    once, again = (person_cutout(backdrop, 1, 4) for _ in range(2))
    assert np.array_equal(once.rgba, again.rgba)
    assert once.body == again.body
    assert not np.array_equal(once.rgba, person_cutout(backdrop, 2, 4).rgba[: len(once.rgba)])


def test_a_bicycle_is_not_part_of_the_riders_box(backdrop: Backdrop):
    rng = np.random.default_rng(3)
    ridden = cutouts.somebody(rng, 1, "riding")
    made = None
    while made is None:
        made = cutouts.photographed(ridden, backdrop, rng)
    assert made.body is not None
    assert made.body[3] < made.rgba.shape[0]  # the wheels are lower than the feet


def test_colours_at_soft_edges_are_not_mixed_with_what_was_behind(backdrop: Backdrop):
    made = person_cutout(backdrop, 1, 0)
    darker = cutouts.Cutout(made.rgba, made.body)
    behind = studio(2)
    other = person_cutout(behind, 1, 0)
    edge = (other.rgba[..., 3] > 60) & (other.rgba[..., 3] < 200)
    apart = np.abs(darker.rgba[edge][:, :3].astype(int) - other.rgba[edge][:, :3].astype(int))
    assert apart.mean() < 2


def test_a_thing_has_no_box(backdrop: Backdrop):
    assert thing_cutout(backdrop, 1, 0).body is None
