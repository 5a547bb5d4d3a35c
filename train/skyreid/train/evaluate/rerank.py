"""k-reciprocal re-ranking: who is near to the same people, is near.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017
(arXiv:1701.08398), with its settings. It looks at all queries and the whole gallery together, which
no device can: a number got by it is no number of a search, and stands in rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.train.evaluate.metrics import Floats, Ints

K1, K2, LAMBDA = 20, 6, 0.3
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Sparse:
    """A row of neighbours and their weights, which add up to 1."""

    columns: Ints
    weights: Floats


def re_ranked(query: Floats, gallery: Floats) -> Floats:
    """Distances [Q, G] of rows [Q, D] and [G, D] of length 1; smaller is nearer.

    Memory is that of the result, and of each picture some hundred neighbours.
    """
    everything = np.concatenate([query, gallery])
    nearest, largest = _nearest(everything, min(K1, len(everything) - 1) + 1)
    rows = [_encoded(index, everything, nearest, largest) for index in range(len(everything))]
    expanded = [_mean([rows[other] for other in near[:K2].tolist()]) for near in nearest]
    return _blended(query, gallery, expanded, largest)


def _squared(some: Floats, others: Floats) -> Floats:
    """Squared distances of rows of length 1, never below 0."""
    found: Floats = np.maximum(2 - 2 * some @ others.T, 0)
    return found


def _nearest(rows: Floats, count: int) -> tuple[Ints, Floats]:
    """The `count` nearest of each row, itself first, int64 [N, count]; its largest distance [N]."""
    nearest = np.empty((len(rows), count), np.int64)
    largest = np.empty(len(rows), np.float32)
    step = max(1, _BLOCK_BYTES // (4 * len(rows)))
    for start in range(0, len(rows), step):
        distance = _squared(rows[start : start + step], rows)
        largest[start : start + step] = distance.max(1)
        distance[np.arange(len(distance)), np.arange(start, start + len(distance))] = -1
        some = np.argpartition(distance, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distance, some, 1), axis=1, kind="stable")
        nearest[start : start + step] = np.take_along_axis(some, order, 1)
    return nearest, largest


def _reciprocal(index: int, nearest: Ints, count: int) -> Ints:
    """Of the `count` nearest those that have `index` among theirs."""
    mine = nearest[index, : count + 1]
    found: Ints = mine[(nearest[mine, : count + 1] == index).any(1)]
    return found


def _encoded(index: int, rows: Floats, nearest: Ints, largest: Floats) -> _Sparse:
    own = _reciprocal(index, nearest, K1)
    found = [own]
    for other in own.tolist():
        theirs = _reciprocal(other, nearest, round(K1 / 2))
        if np.isin(theirs, own).sum() > 2 / 3 * len(theirs):
            found.append(theirs)
    columns = np.unique(np.concatenate(found))
    distance = _squared(rows[index : index + 1], rows[columns])[0] / max(largest[index], 1e-12)
    weights = np.exp(-distance)
    return _Sparse(columns, (weights / weights.sum()).astype(np.float32))


def _mean(several: Sequence[_Sparse]) -> _Sparse:
    columns, place = np.unique(
        np.concatenate([one.columns for one in several]), return_inverse=True
    )
    weights = np.zeros(columns.size, np.float32)
    np.add.at(weights, place, np.concatenate([one.weights for one in several]) / len(several))
    return _Sparse(columns, weights)


def _blended(
    query: Floats, gallery: Floats, rows: Sequence[_Sparse], largest: Floats
) -> NDArray[np.float32]:
    """Jaccard distances of the encoded rows, and a share `LAMBDA` of the distances themselves."""
    asked = len(query)
    holding: dict[int, tuple[list[int], list[float]]] = {}  # by column: gallery rows and weights
    for place, row in enumerate(rows[asked:]):
        for column, weight in zip(row.columns.tolist(), row.weights.tolist(), strict=True):
            places, weights = holding.setdefault(column, ([], []))
            places.append(place)
            weights.append(weight)
    listed = {c: (np.asarray(p), np.asarray(w, np.float32)) for c, (p, w) in holding.items()}
    found = np.empty((asked, len(gallery)), np.float32)
    for index in range(asked):
        common = np.zeros(len(gallery), np.float32)
        for column, weight in zip(
            rows[index].columns.tolist(), rows[index].weights.tolist(), strict=True
        ):
            if column in listed:
                theirs, shares = listed[column]
                common[theirs] += np.minimum(shares, weight)
        plain = _squared(query[index : index + 1], gallery)[0] / max(largest[index], 1e-12)
        found[index] = (1 - LAMBDA) * (1 - common / (2 - common)) + LAMBDA * plain
    return found
