"""Constrained agglomerative clustering of tracklets into people."""

from __future__ import annotations

import numpy as np

from skyreid.server.likelihood import Bool, Float64, Int64

LINKAGE = 0.5
"""0: clusters join by the sum of their evidence, 1: by its mean. In between, more evidence goes
first without drowning what contradicts it."""


def cluster(score: Float64, weight: Float64, forbidden: Bool) -> Int64:
    """Group items so that inside a group the weighted mean score is positive.

    Greedy: the two groups with the most to gain join first, until no two gain. Groups with a
    forbidden pair between them never join. O(N²) memory and about O(N²) time per row of joins.

    Args:
        score: [N, N] symmetric; positive speaks for one person.
        weight: [N, N] symmetric, positive; how much each pair has to say.
        forbidden: [N, N] symmetric.

    Returns:
        [N] the lowest index in each item's group.
    """
    count = len(score)
    total = score * weight
    mass = weight.copy()
    barred = forbidden | np.eye(count, dtype=np.bool_)
    label: Int64 = np.arange(count)
    gain = np.where(barred, -np.inf, total / mass**LINKAGE)
    best = gain.argmax(1) if count else np.zeros(0, np.int64)
    rows = np.arange(count)
    while count:
        i = int(gain[rows, best].argmax())
        j = int(best[i])
        if gain[i, j] <= 0:
            break
        i, j = min(i, j), max(i, j)
        for table in (total, mass):
            table[i] += table[j]
            table[:, i] += table[:, j]
        barred[i] |= barred[j]
        barred[:, i] |= barred[:, j]
        barred[i, i] = barred[j] = barred[:, j] = True
        gain[j] = gain[:, j] = -np.inf
        row = np.where(barred[i], -np.inf, total[i] / mass[i] ** LINKAGE)
        gain[i] = gain[:, i] = row
        label[label == j] = i
        # Rows that pointed at what changed look again; the others only compare with the new group.
        lost = np.flatnonzero((best == i) | (best == j) | (rows == i))
        best[lost] = gain[lost].argmax(1)
        better = row > gain[rows, best]
        best[better] = i
    return label
