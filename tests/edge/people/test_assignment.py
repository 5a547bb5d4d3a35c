from itertools import permutations

import numpy as np
import pytest

from skyreid.edge.people.tracker import assign


def least(cost: np.ndarray, cost_max: float) -> float:
    """Least total over every way to pair, by trying them all."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    limited = np.minimum(cost, cost_max)
    rows = range(len(cost))
    return min(
        sum(limited[r, c] for r, c in zip(rows, columns, strict=True))
        for columns in permutations(range(cost.shape[1]), len(cost))
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_total_is_the_least_of_all_ways_to_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.random(rng.integers(1, 6, 2))
    if seed % 2:
        cost = np.round(cost, 1)  # ties
    cost[rng.random(cost.shape) < 0.1] = np.inf
    cost_max = rng.uniform(0.2, 1.2)
    pairs = assign(cost, cost_max)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    assert all(cost[r, c] < cost_max for r, c in pairs)
    total = sum(cost[r, c] for r, c in pairs) + (min(cost.shape) - len(pairs)) * cost_max
    assert total == pytest.approx(least(cost, cost_max))


def test_nobody_on_one_side_gives_no_pair() -> None:
    assert assign(np.zeros((0, 3)), 1.0) == []
    assert assign(np.zeros((3, 0)), 1.0) == []


def test_a_greedy_choice_is_given_up_for_a_better_whole() -> None:
    assert assign(np.array([[1.0, 2.0], [1.1, 9.0]]), 20.0) == [(0, 1), (1, 0)]
