"""Hungarian assignment: which of N rows goes with which of M columns at the least sum of costs.

By successive shortest paths with potentials (Kuhn 1955; Jonker and Volgenant
1987), O(n^2 m) with the inner loop in numpy: enough for the tens of people of one frame, and it
spares the device scipy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(cost: NDArray[np.float64], cost_max: float) -> list[tuple[int, int]]:
    """Pairs (row, column), each row and column at most once.

    Leaving a pair out costs ``cost_max``: the sum of the costs of the pairs and of ``cost_max``
    for each pair that is missing from min(N, M) is minimal. Pairs of ``cost_max`` or more, and of
    infinite cost, never appear.

    Args:
        cost: float64 [N, M], no NaN.
        cost_max: what it costs not to pair.

    Returns:
        Pairs sorted by row.
    """
    if 0 in cost.shape:
        return []
    limited = np.minimum(cost, cost_max)
    swap = limited.shape[0] > limited.shape[1]
    limited = limited.T if swap else limited
    # Where nobody wants what another wants, each has their best, and no sum can be less.
    columns = limited.argmin(1)
    wanted = columns[limited.min(1) < cost_max].tolist()
    if len(set(wanted)) < len(wanted):
        columns = _solve(limited)
    pairs = [(int(c), r) if swap else (r, int(c)) for r, c in enumerate(columns)]
    return sorted((r, c) for r, c in pairs if cost[r, c] < cost_max)


def _solve(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of every row, for cost [n, m] with n <= m.

    Column m is a dummy from which the search for a free column starts.
    """
    n, m = cost.shape
    row_potential, column_potential = np.zeros(n), np.zeros(m + 1)
    row_of = np.full(m + 1, -1)  # which row a column belongs to
    for row in range(n):
        row_of[m] = row
        column = m
        shortest = np.full(m, np.inf)  # reduced length of the best path to each column
        previous = np.full(m, m)
        visited = np.zeros(m + 1, bool)
        while row_of[column] >= 0:
            visited[column] = True
            here = row_of[column]
            reduced = cost[here] - row_potential[here] - column_potential[:m]
            better = ~visited[:m] & (reduced < shortest)
            shortest[better] = reduced[better]
            previous[better] = column
            nearest = int(np.argmin(np.where(visited[:m], np.inf, shortest)))
            delta = shortest[nearest]
            row_potential[row_of[visited]] += delta
            column_potential[visited] -= delta
            shortest[~visited[:m]] -= delta
            column = nearest
        while column != m:  # turn the path over
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
        row_of[m] = -1
    column_of = np.zeros(n, np.int64)
    owned = np.flatnonzero(row_of[:m] >= 0)
    column_of[row_of[owned]] = owned
    return column_of
