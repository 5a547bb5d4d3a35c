import numpy as np
import pytest

from skyreid.train.detector.clips import People
from skyreid.train.detector.evaluate import Tally, average_precision, best_threshold, judge, merge


def people(*rows: tuple[float, float, float, float, float]) -> People:
    values = np.array(rows, np.float32).reshape(-1, 5)
    return People(values[:, :4], values[:, 4])


def detections(*boxes: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(boxes, np.float32).reshape(-1, 4), np.linspace(0.9, 0.5, len(boxes), dtype="f4")


def test_a_box_on_a_person_is_right_and_a_second_one_is_wrong() -> None:
    truth = people((0, 0, 20, 60, 1))
    right, counted, wanted = judge(*detections((0, 0, 20, 60), (1, 1, 21, 61)), truth)
    assert right.tolist() == [True, False]
    assert counted.tolist() == [True, True]
    assert wanted == 1


def test_a_box_on_somebody_hidden_or_tiny_is_neither_right_nor_wrong() -> None:
    truth = people((0, 0, 20, 60, 0.4), (100, 0, 110, 20, 1))
    right, counted, wanted = judge(*detections((0, 0, 20, 60), (100, 0, 110, 20)), truth)
    assert not right.any()
    assert not counted.any()
    assert wanted == 0


def test_somebody_visible_is_preferred_over_somebody_hidden() -> None:
    truth = people((0, 0, 20, 60, 0.2), (3, 0, 23, 60, 1))
    right, counted, _ = judge(*detections((0, 0, 20, 60)), truth)
    assert right.tolist() == [True]
    assert counted.tolist() == [True]


def test_an_overlap_below_a_half_finds_nobody() -> None:
    right, counted, wanted = judge(*detections((12, 0, 32, 60)), people((0, 0, 20, 60, 1)))
    assert (right.tolist(), counted.tolist(), wanted) == ([False], [True], 1)


def test_rates_and_average_precision_of_a_hand_made_case() -> None:
    part = Tally(np.array([0.9, 0.8, 0.7, 0.6], "f4"), np.array([True, False, True, False]), 4)
    assert part.rates(0.65) == (0.5, pytest.approx(2 / 3))
    assert part.rates(0.95) == (0.0, 0.0)
    assert average_precision(part) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert merge([part, part]).people == 8
    assert average_precision(merge([])) == 0


def test_the_threshold_with_the_best_f1_is_chosen() -> None:
    part = Tally(np.array([0.9, 0.5, 0.3, 0.2], "f4"), np.array([True, True, False, False]), 2)
    score, f1 = best_threshold([part])
    assert 0.3 < score <= 0.5
    assert f1 == 1
