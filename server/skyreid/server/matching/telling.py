"""Whether looks tell anybody apart at a site, held against those whom place tells apart."""

from __future__ import annotations

import numpy as np

from skyreid.server.matching.likelihood import Float64, Int64

SEEN_LEAST = 20
"""So few people, or strangers, say nothing of whether looks tell people apart."""
TOLD_APART = 0.7
"""Looks tell people apart if one person is more alike than strangers in so many of the cases, give
or take two standard errors; at half, they say nothing."""


def tells_nobody(same: Float64, strangers: Float64, a: Int64, b: Int64) -> bool:
    """Whether one person's cosines are so like strangers' that no look can decide anything.

    Args:
        same: of pairs that place says are one person.
        strangers: of pairs that are known to be two people, ascending.
        a: [P] one tracklet of each of the former.
        b: [P] the other.
    """
    people = len(np.unique(np.concatenate([a, b]))) // 2
    if people < SEEN_LEAST or len(strangers) < SEEN_LEAST:
        return False
    below = np.searchsorted(strangers, same, "left") + np.searchsorted(strangers, same, "right")
    over = float(below.mean()) / (2 * len(strangers))
    return over + 2 / float(np.sqrt(12 * people)) < TOLD_APART
