"""The test split of a data set: its pictures, and who is searched for among whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyreid.train.data.records import ByReason, Record

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """One protocol.

    Attributes:
        name: "ALL", "A-A", "G-G", "A<->G", "A->G", "G->A", "A->C", "G->A+G" and so on.
        query: int64 [Q], indices into the records of the test set.
        gallery: int64 [G], the same.
        domains: what of the query's person is removed from the gallery: pictures of its view
            (True), or of its camera.
    """

    name: str
    query: Ints
    gallery: Ints
    domains: bool


@dataclass(frozen=True)
class TestSet:
    """What `DataSet.test` found; `refused` and `left_out` as in `Reading`."""

    __test__ = False  # no test case, whatever pytest thinks of the name

    records: tuple[Record, ...]
    trials: tuple[Trial, ...]
    refused: ByReason = field(default_factory=dict)
    left_out: ByReason = field(default_factory=dict)


def only(test: TestSet, kept: Ints) -> TestSet:
    """The test set without the records whose index is not in `kept` [K], which ascends.

    `kept` is what `pictures.load` could read; trials lose the others from query and gallery.
    """
    place = np.full(len(test.records), -1, np.int64)
    place[kept] = np.arange(len(kept))

    def moved(indices: Ints) -> Ints:
        found = place[indices]
        return found[found >= 0]

    return TestSet(
        tuple(test.records[index] for index in kept.tolist()),
        tuple(Trial(t.name, moved(t.query), moved(t.gallery), t.domains) for t in test.trials),
        test.refused,
        test.left_out,
    )


def by_views(query: Sequence[Record], gallery: Sequence[Record]) -> tuple[Trial, ...]:
    """The six protocols of two views, on records that are `query` followed by `gallery`.

    "A<->G" is VDT's: all queries, the whole gallery, cameras collapsed to two domains. "A->G" and
    "G->A" are SeCap's and ViSA's: only the other view is searched. Papers call both "A<->G".
    """
    aerial = np.asarray([r.view == "aerial" for r in (*query, *gallery)], np.bool_)
    asks = np.arange(aerial.size) < len(query)

    def trial(name: str, asking: NDArray[np.bool_], searched: NDArray[np.bool_], d: bool) -> Trial:
        return Trial(name, np.flatnonzero(asks & asking), np.flatnonzero(~asks & searched), d)

    every = np.ones_like(aerial)
    return (
        trial("ALL", every, every, False),
        trial("A-A", aerial, aerial, False),
        trial("G-G", ~aerial, ~aerial, False),
        trial("A<->G", every, every, True),
        trial("A->G", aerial, ~aerial, True),
        trial("G->A", ~aerial, aerial, True),
    )
