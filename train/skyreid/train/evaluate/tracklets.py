"""Tracklets: where pictures belong to some, a tracklet is searched for and found, not a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.train.data.records import Record
from skyreid.train.data.trials import TestSet, Trial
from skyreid.train.evaluate.metrics import Embedded


def pooled(everything: Embedded, test: TestSet) -> tuple[Embedded, TestSet]:
    """The mean of each tracklet's embeddings, of length 1, and the test set of its first pictures.

    Pictures of no tracklet stand for themselves.

    Args:
        everything: the pictures of `test`, in the order of its records.
        test: what is ranked.

    Raises:
        InputError: when a tracklet is in a protocol's query with some of its pictures, and in its
            gallery with others.
    """
    names = [record.tracklet or f"\0{place}" for place, record in enumerate(test.records)]
    _, first, group = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)  # in the order of first pictures
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    group, first = place[group], first[order]
    rows = np.zeros((first.size, everything.embeddings.shape[1]), np.float64)
    np.add.at(rows, group, everything.embeddings)
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    records = tuple(test.records[index] for index in first.tolist())
    trials = tuple(_of_tracklets(trial, group, records) for trial in test.trials)
    return (
        Embedded(
            (rows / lengths).astype(np.float32),
            everything.people[first],
            everything.cameras[first],
            everything.aerial[first],
        ),
        TestSet(records, trials, test.refused, test.left_out),
    )


def _of_tracklets(trial: Trial, group: NDArray[np.int64], records: tuple[Record, ...]) -> Trial:
    query, gallery = np.unique(group[trial.query]), np.unique(group[trial.gallery])
    both = np.isin(query, gallery)
    alike = np.isin(trial.query, trial.gallery)
    if bool(both.any()) and not bool(alike.all()):
        name = records[int(query[both][0])].tracklet
        raise InputError(
            f"tracklet {name} is in the query and in the gallery of {trial.name}: all of its "
            "pictures belong to one of them"
        )
    return Trial(trial.name, query, gallery, trial.domains)
