"""The test split of a data set: its pictures, and who is searched for among whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyreid.train.data.records import UNREADABLE, ByReason, Record, check_refused

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

    Raises:
        InputError: when more than 1 % of a trial's query or gallery are lost: few queries among
            many pictures are not to vanish within the 1 % of all of them.
    """
    place = np.full(len(test.records), -1, np.int64)
    place[kept] = np.arange(len(kept))

    def moved(what: str, indices: Ints) -> Ints:
        found = place[indices]
        lost = tuple(test.records[index].path for index in indices[found < 0].tolist())
        check_refused(what, len(indices) - len(lost), {UNREADABLE: lost})
        return found[found >= 0]

    return TestSet(
        tuple(test.records[index] for index in kept.tolist()),
        tuple(
            Trial(
                t.name,
                moved(f"query of {t.name}", t.query),
                moved(f"gallery of {t.name}", t.gallery),
                t.domains,
            )
            for t in test.trials
        ),
        test.refused,
        test.left_out,
    )


def by_views(query: Sequence[Record], gallery: Sequence[Record]) -> tuple[Trial, ...]:
    """The six protocols of two views, on records that are `query` followed by `gallery`."""
    first = len(query)
    asking, searched = (
        np.asarray([r.view == "aerial" for r in records], np.bool_) for records in (query, gallery)
    )
    return tuple(
        Trial(t.name, t.query, t.gallery + first, t.domains) for t in two_views(asking, searched)
    )


def two_views(query: NDArray[np.bool_], gallery: NDArray[np.bool_]) -> tuple[Trial, ...]:
    """The six protocols of two views, on a query and a gallery set of which is told who is aerial.

    "A<->G" is VDT's: all queries, the whole gallery, cameras collapsed to two domains. "A->G" and
    "G->A" are SeCap's and ViSA's: only the other view is searched. Papers call both "A<->G".

    Args:
        query: bool [Q].
        gallery: bool [G].

    Returns:
        Trials with indices into the two sets.
    """
    every = np.ones_like

    def trial(name: str, asks: NDArray[np.bool_], searched: NDArray[np.bool_], d: bool) -> Trial:
        return Trial(name, np.flatnonzero(asks), np.flatnonzero(searched), d)

    return (
        trial("ALL", every(query), every(gallery), False),
        trial("A-A", query, gallery, False),
        trial("G-G", ~query, ~gallery, False),
        trial("A<->G", every(query), every(gallery), True),
        trial("A->G", query, ~gallery, True),
        trial("G->A", ~query, gallery, True),
    )
