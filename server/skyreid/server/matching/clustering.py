"""Constrained agglomerative clustering of tracklets into people."""

from __future__ import annotations

import numpy as np

from skyreid.server.matching.likelihood import Bool, Float64, Int64

ACCUMULATION = 0.25
"""Evidence of n pairs counts n to this power times their mean: 0 if they all said the same thing
over again, 1 if they were independent. Pairs of tracklets of two people are far from that."""


def odds(evidence: Float64, prior: Float64, weight: Float64) -> float:
    """Log posterior odds that two groups are one person, from the pairs between them [N]."""
    mean = float(np.average(evidence, weights=weight))
    gain: float = len(evidence) ** ACCUMULATION
    return mean * gain + float(prior.mean())


def cluster(evidence: Float64, prior: Float64, weight: Float64, forbidden: Bool) -> Int64:
    """Group items so that no two groups are more probably one person than two.

    Greedy: the two groups with the greatest odds (as ``odds`` has them) join first, until none are
    positive. Groups with a forbidden pair between them never join. O(N²) memory; about O(N) a join.

    Args:
        evidence: [N, N] symmetric log-likelihood ratios.
        prior: [N, N] symmetric log prior odds; counts once between two groups, not once a pair.
        weight: [N, N] symmetric, positive; how much each pair has to say.
        forbidden: [N, N] symmetric.

    Returns:
        [N] the lowest index in each item's group.
    """
    count = len(evidence)
    rows = np.arange(count)
    label: Int64 = rows.copy()
    if not count:
        return label
    total, mass, priors, pairs = (
        evidence * weight,
        weight.copy(),
        prior.copy(),
        np.ones((count,) * 2),
    )
    barred = forbidden | np.eye(count, dtype=np.bool_)
    gain = np.where(barred, -np.inf, total / mass + priors)
    best = gain.argmax(1)
    while True:
        i = int(gain[rows, best].argmax())
        j = int(best[i])
        if gain[i, j] <= 0:
            return label
        i, j = min(i, j), max(i, j)
        for table in (total, mass, priors, pairs):
            table[i] += table[j]
            table[:, i] += table[:, j]
        barred[i] |= barred[j]
        barred[:, i] |= barred[:, j]
        barred[i, i] = barred[j] = barred[:, j] = True
        gain[j] = gain[:, j] = -np.inf
        row = total[i] / mass[i] * pairs[i] ** ACCUMULATION + priors[i] / pairs[i]
        row[barred[i]] = -np.inf
        gain[i] = gain[:, i] = row
        label[label == j] = i
        # Rows that pointed at what changed look again; the others only compare with the new group.
        lost = np.flatnonzero((best == i) | (best == j) | (rows == i))
        best[lost] = gain[lost].argmax(1)
        best[row > gain[rows, best]] = i
