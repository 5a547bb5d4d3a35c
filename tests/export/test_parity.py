import numpy as np
import pytest

from skyreid.bundle.heatmap import SURFACE, Heatmap
from skyreid.contract.errors import GateError
from skyreid.export.parity import distance, require


def test_distances_are_relative_for_large_values_and_absolute_for_small_ones() -> None:
    wanted = {"box": np.array([200.0, 0.5], np.float32)}
    for values, apart in (([202.0, 0.5], 0.01), ([200.0, 0.6], 0.1)):
        found = distance({"box": np.array(values, np.float32)}, wanted)
        assert found["box"] == pytest.approx(apart)


def heat_apart(found: np.ndarray, wanted: np.ndarray, surface: np.ndarray) -> float:
    """Distance of two heatmaps as their family has it, beside boxes that are the same."""
    box = np.zeros((1, 4, *surface.shape[1:]), np.float32)
    exact = {"heat": wanted, "box": box, SURFACE: surface}
    return distance({"heat": found, "box": box}, exact, Heatmap())["heat"]


def test_two_neighbours_that_tie_may_swap_their_peak() -> None:
    surface = np.zeros((1, 6, 6), np.float32)
    surface[0, 2, 2], surface[0, 2, 3] = 0.8, 0.8 - 1e-6
    wanted, swapped = np.zeros_like(surface), np.zeros_like(surface)
    wanted[0, 2, 2], swapped[0, 2, 3] = 0.8, 0.8
    assert heat_apart(swapped, wanted, surface) < 2e-6
    assert distance({"heat": swapped}, {"heat": wanted})["heat"] == pytest.approx(0.8)


def test_a_lost_or_invented_peak_counts_by_how_far_it_stands_out() -> None:
    surface = np.full((1, 6, 6), 0.1, np.float32)
    surface[0, 2, 2] = 0.8
    wanted = np.where(surface > 0.5, surface, 0)
    lost, invented = np.zeros_like(wanted), wanted.copy()
    assert heat_apart(lost, wanted, surface) == pytest.approx(0.7)
    invented[0, 3, 3] = 0.1
    assert heat_apart(invented, wanted, surface) == pytest.approx(0.7)
    invented[0, 3, 3], invented[0, 5, 5] = 0, 0.1  # a plateau: any of its cells may be kept
    assert heat_apart(invented, wanted, surface) == 0


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
