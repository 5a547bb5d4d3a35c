import numpy as np
import pytest

from skyreid.contract.errors import GateError
from skyreid.export.parity import distance, require


def test_distances_are_relative_for_large_values_and_absolute_for_small_ones() -> None:
    wanted = {"box": np.array([200.0, 0.5], np.float32)}
    for values, apart in (([202.0, 0.5], 0.01), ([200.0, 0.6], 0.1)):
        found = distance({"box": np.array(values, np.float32)}, wanted)
        assert found["box"] == pytest.approx(apart)


def test_two_equal_neighbours_may_swap_their_peak_but_a_lost_peak_counts_whole() -> None:
    wanted = np.zeros((1, 6, 6), np.float32)
    wanted[0, 2, 2] = 0.8
    swapped = np.zeros_like(wanted)
    swapped[0, 2, 3] = 0.8
    assert distance({"heat": swapped}, {"heat": wanted})["heat"] == 0
    lost = np.zeros_like(wanted)
    assert distance({"heat": lost}, {"heat": wanted})["heat"] == pytest.approx(0.8)
    faint = np.full_like(wanted, 0.04)
    assert distance({"heat": faint * 0}, {"heat": faint})["heat"] == 0
    far = np.zeros_like(wanted)
    far[0, 5, 5] = 0.8
    assert distance({"heat": far}, {"heat": wanted})["heat"] == pytest.approx(0.8)


def test_missing_and_misshapen_outputs_fail() -> None:
    wanted = {"embedding": np.zeros((2, 3), np.float32)}
    with pytest.raises(GateError, match="absent"):
        distance({}, wanted)
    with pytest.raises(GateError, match=r"\[3, 3\]"):
        distance({"embedding": np.zeros((3, 3), np.float32)}, wanted)


def test_a_distance_over_the_limit_fails_and_so_does_one_that_is_not_a_number() -> None:
    require("a", {"embedding": 1e-5}, 1e-4)
    with pytest.raises(GateError, match=r"parity, a: embedding differs by 1\.00e-03"):
        require("a", {"embedding": 1e-3}, 1e-4)
    with pytest.raises(GateError):
        require("a", {"embedding": float("nan")}, 1e-4)
