"""Whose detection is right: one rule, held by cases made by hand."""

import numpy as np
import pytest

from skyreid.bundle.detections import Detections
from skyreid.bundle.recall import Tally, cared, judge, merge


def people(*rows: tuple[float, float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(rows, np.float32).reshape(-1, 5)
    return values[:, :4], cared(values[:, :4], values[:, 4])


def detections(*boxes: tuple[float, float, float, float]) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes), dtype="f4")
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores)


def test_a_box_on_a_person_is_right_and_a_second_one_is_wrong() -> None:
    found = judge(detections((0, 0, 20, 60), (1, 1, 21, 61)), *people((0, 0, 20, 60, 1)))
    assert (found.right.tolist(), found.people) == ([True, False], 1)


def test_the_better_score_takes_the_person_in_whatever_order_they_come() -> None:
    both = detections((0, 0, 20, 60), (1, 1, 21, 61))
    turned = Detections(both.boxes, both.scores[::-1].copy())
    assert judge(turned, *people((0, 0, 20, 60, 1))).right.tolist() == [False, True]


def test_a_box_on_somebody_hidden_or_tiny_is_neither_right_nor_wrong() -> None:
    truth = people((0, 0, 20, 60, 0.4), (100, 0, 110, 20, 1))
    found = judge(detections((0, 0, 20, 60), (100, 0, 110, 20)), *truth)
    assert (len(found.right), found.people) == (0, 0)
    assert found.rates() == (None, None)


def test_somebody_visible_is_preferred_over_somebody_hidden() -> None:
    truth = people((0, 0, 20, 60, 0.2), (3, 0, 23, 60, 1))
    assert judge(detections((0, 0, 20, 60)), *truth).right.tolist() == [True]


def test_an_overlap_below_a_half_finds_nobody() -> None:
    found = judge(detections((12, 0, 32, 60)), *people((0, 0, 20, 60, 1)))
    assert (found.right.tolist(), found.people) == ([False], 1)


def test_rates_of_a_hand_made_case() -> None:
    part = Tally(np.array([0.9, 0.8, 0.7, 0.6], "f4"), np.array([True, False, True, False]), 4)
    assert part.rates(0.65) == pytest.approx((0.5, 2 / 3))
    assert part.rates() == (0.5, 0.5)
    assert part.rates(0.95) == (0.0, None)
    assert merge([part, part]).people == 8
    assert merge([]).rates() == (None, None)
