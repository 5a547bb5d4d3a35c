import numpy as np
import pytest

from skyreid.bundle.recall import Tally, merge
from skyreid.train.detector.evaluate import average_precision, best_threshold


def test_average_precision_of_a_hand_made_case() -> None:
    part = Tally(np.array([0.9, 0.8, 0.7, 0.6], "f4"), np.array([True, False, True, False]), 4)
    assert average_precision(part) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert average_precision(merge([])) == 0


def test_the_threshold_with_the_best_f1_is_chosen() -> None:
    part = Tally(np.array([0.9, 0.5, 0.3, 0.2], "f4"), np.array([True, True, False, False]), 2)
    score, f1 = best_threshold([part])
    assert 0.3 < score <= 0.5
    assert f1 == 1
