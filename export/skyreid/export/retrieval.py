"""What a numeric format costs a search: the same test split ranked with it and without it.

Cosines alone are no gate: an offset that all embeddings share keeps every cosine near 1 and loses
the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export.closeness import cosines
from skyreid.train.data import catalogue, pictures, trials
from skyreid.train.data.catalogue import NOTHING, Told
from skyreid.train.data.records import Record
from skyreid.train.data.trials import Trial
from skyreid.train.evaluate.embedding import labelled
from skyreid.train.evaluate.metrics import Embedded, Measures, rank

WORST = 10
_QUERIES_AT_ONCE = 256

Floats = NDArray[np.float32]
View = Literal["aerial", "ground"]


@dataclass(frozen=True)
class TestSplit:
    """The pictures of a test split that a model's bundles serve.

    Attributes:
        name: of the data set.
        root: its folder.
        records: one a picture.
        images: uint8 [N, H, W, 3] RGB, pre-processed.
        trials: its protocols, with indices into `records`; those left empty are left out.
    """

    __test__ = False  # no test case, whatever pytest thinks of the name

    name: str
    root: Path
    records: tuple[Record, ...]
    images: NDArray[np.uint8]
    trials: tuple[Trial, ...]

    def of(self, view: View) -> NDArray[np.int64]:
        """Indices of the pictures of one view, ascending."""
        return np.flatnonzero([record.view == view for record in self.records])


def read(data: Path, spec: InputSpec, views: Sequence[View], told: Told = NOTHING) -> TestSplit:
    """Query and gallery of a data set, of which `told` is told, as far as they show `views`.

    Raises:
        InputError: it is not known, cannot be read, or no protocol stays within `views`.
    """
    found = catalogue.open(data, told=told)
    test = found.test()
    mine = _of_views(test, views)
    if not mine.records:
        raise InputError(f"{data} has no test pictures of view {' or '.join(views)}")
    loaded = pictures.load(mine.records, spec, refused=test.refused)
    left = trials.only(mine, loaded.kept)
    searched = tuple(t for t in left.trials if t.query.size and t.gallery.size)
    if not searched:
        raise InputError(
            f"no protocol of {data} stays within view {' or '.join(views)}: give the model's "
            "bundle of the other view too"
        )
    return TestSplit(found.name, found.root, left.records, loaded.images, searched)


def measures(rows: Floats, test: TestSplit) -> dict[str, Measures]:
    """What every query gave, by protocol, of embeddings [N, D]; protocols without one are out."""
    everything = labelled(rows, test.records)
    table: dict[str, Measures] = {}
    for trial in test.trials:
        query, gallery = everything.rows(trial.query), everything.rows(trial.gallery)
        if trial.domains:
            query, gallery = query.in_two_domains(), gallery.in_two_domains()
        found = _all_of(query, gallery)
        if found.query.size:
            table[trial.name] = found
    return table


def each_other(rows: Floats, records: Sequence[Record]) -> Measures:
    """Each of some pictures searched for among the others, by embeddings [N, D]."""
    everything = labelled(rows, records)
    return _all_of(everything, everything)


def scores(found: Mapping[str, Measures]) -> dict[str, dict[str, float]]:
    """By protocol: `queries` that count, `rank1` and `mAP` in percent."""
    return {
        name: {
            "queries": got.queries,
            "rank1": 100 * got.rank1,
            "mAP": 100 * got.average_precision,
        }
        for name, got in ((name, one.score()) for name, one in found.items())
    }


def _all_of(query: Embedded, gallery: Embedded) -> Measures:
    everyone, everything = np.arange(query.people.size), np.arange(gallery.people.size)
    trial = Trial("ALL", everyone, everything, domains=False)
    return rank(query, gallery, [trial]).measure(trial)


def agreement(exact: Floats, found: Floats, test: TestSplit) -> dict[str, float]:
    """Of the first protocol's queries: whose nearest picture stays, or stays in the five nearest.

    Pictures that the protocol takes out, the query's person before the query's camera, are out.

    Returns:
        `rank1` and `rank5`, shares of the queries.
    """
    trial = test.trials[0]
    people = np.asarray([record.person for record in test.records])
    cameras = np.asarray([record.camera for record in test.records])
    same, near = 0, 0
    for start in range(0, len(trial.query), _QUERIES_AT_ONCE):
        some, all_of = trial.query[start : start + _QUERIES_AT_ONCE], trial.gallery
        out = (people[some, None] == people[all_of]) & (cameras[some, None] == cameras[all_of])
        before, after = (np.where(out, -2, rows[some] @ rows[all_of].T) for rows in (exact, found))
        nearest = before.argmax(1)
        five = np.argsort(-after, axis=1, kind="stable")[:, :5]
        same += int((five[:, 0] == nearest).sum())
        near += int((five == nearest[:, None]).any(1).sum())
    return {"rank1": same / len(trial.query), "rank5": near / len(trial.query)}


def worst(exact: Floats, found: Floats, test: TestSplit) -> list[dict[str, float | str]]:
    """The pictures whose embeddings move most: `path` below the data set's root and `cosine`."""
    similar = cosines(found, exact)
    return [
        {
            "path": test.records[index].path.relative_to(test.root).as_posix(),
            "cosine": float(similar[index]),
        }
        for index in np.argsort(similar, kind="stable")[:WORST].tolist()
    ]


def _of_views(test: trials.TestSet, views: Sequence[View]) -> trials.TestSet:
    """The part of a test set that shows `views`."""
    kept = np.asarray([record.view in views for record in test.records], np.bool_)
    place = np.where(kept, np.cumsum(kept) - 1, -1)

    def moved(indices: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = place[indices]
        return found[found >= 0]

    return replace(
        test,
        records=tuple(r for r, is_kept in zip(test.records, kept, strict=True) if is_kept),
        trials=tuple(
            replace(t, query=moved(t.query), gallery=moved(t.gallery)) for t in test.trials
        ),
    )
