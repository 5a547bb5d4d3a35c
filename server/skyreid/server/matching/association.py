"""One-to-one assignment (Hungarian) of new tracklets to known identities."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from skyreid.server.matching.likelihood import Float64


def assign(score: Float64) -> list[int | None]:
    """Which identity each tracklet of one camera joins; None = somebody new.

    Tracklets of one camera at one time are different people, so each identity is given at most
    once; the sum of the scores is the greatest possible, with 0 for "new".

    Args:
        score: [tracklets, identities] log posterior odds against "new"; -inf = impossible.
    """
    tracklets, identities = score.shape
    if not tracklets:
        return []
    new = np.zeros((tracklets, tracklets))
    finite = np.where(np.isfinite(score), score, -1e6)
    rows, columns = linear_sum_assignment(np.concatenate([finite, new], 1), maximize=True)
    chosen: list[int | None] = [None] * tracklets
    for row, column in zip(rows, columns, strict=True):
        if column < identities and finite[row, column] > 0:
            chosen[row] = int(column)
    return chosen
