"""Ranking metrics of re-identification, with the published rules and named protocols.

Distance is 1 - cosine in float32; equal distances keep the gallery's order. Gallery items of the
query's person and camera are removed; queries without a positive left are skipped, and every mean
is over the queries that remain. Zheng et al., "Scalable Person Re-identification" (CMC, mAP), ICCV
2015; Ye et al., arXiv:2001.04193 (mINP).

Every number follows from the ranks of the few positives, and a rank from counting who is nearer, so
nothing sorts the gallery. Which strangers are nearer does not depend on the protocol, only on which
part of the gallery is searched: one count per positive and cell of the gallery, made once, serves
every protocol and every part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.train.data.trials import Trial, two_views

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Counts = NDArray[np.int32]
Bools = NDArray[np.bool_]

Protocol = Literal["ALL", "A-A", "G-G", "A<->G", "A->G", "G->A"]

# The literature prints both of the last kinds as "A<->G". Here `A<->G` is the one with all queries,
# the whole gallery and cameras collapsed to two domains; `A->G` and `G->A` search the other view.
PROTOCOLS: tuple[Protocol, ...] = ("ALL", "A-A", "G-G", "A<->G", "A->G", "G->A")

MAX_RANK = 50
RANKS = (1, 5, 10)  # that are printed
BLOCK_BYTES = 64 * 2**20  # of distances held at a time


@dataclass(frozen=True)
class Embedded:
    """A set of pictures as the metrics see it.

    Attributes:
        embeddings: float32 [N, D], L2-normalised.
        people: int64 [N].
        cameras: int64 [N].
        aerial: bool [N].
    """

    embeddings: Floats
    people: Ints
    cameras: Ints
    aerial: Bools

    def where(self, mask: Bools) -> Embedded:
        """The rows for which `mask` [N] holds."""
        return Embedded(
            self.embeddings[mask], self.people[mask], self.cameras[mask], self.aerial[mask]
        )

    def rows(self, indices: Ints) -> Embedded:
        """The rows `indices` [M]; a view and no copy where they lie side by side."""
        if indices.size and bool((np.diff(indices) == 1).all()):
            part = slice(int(indices[0]), int(indices[-1]) + 1)
            return Embedded(
                self.embeddings[part], self.people[part], self.cameras[part], self.aerial[part]
            )
        return Embedded(
            self.embeddings[indices],
            self.people[indices],
            self.cameras[indices],
            self.aerial[indices],
        )

    def in_two_domains(self) -> Embedded:
        """The same with the view as camera: aerial 0, ground 1."""
        return Embedded(
            self.embeddings, self.people, np.where(self.aerial, 0, 1).astype(np.int64), self.aerial
        )


def average_precision(ranks: Ints) -> float:
    """Of one query: the mean over its right pictures of the share of right ones up to each."""
    return float(np.mean(np.arange(1, ranks.size + 1) / ranks))


def inverse_penalty(ranks: Ints) -> float:
    """Of one query: right pictures by the rank of the last of them."""
    return float(ranks.size / ranks[-1])


MEANS: dict[str, Callable[[Ints], float]] = {"mAP": average_precision, "mINP": inverse_penalty}
"""What is averaged over queries, each a fraction of the ranks of one query's right pictures: int64
[M], from 1, ascending, never empty. JSON, tables and the page of a report print every entry."""


@dataclass(frozen=True)
class Score:
    """Means over the valid queries, as fractions 0 to 1; undefined, NaN, where there is none.

    Attributes:
        queries: how many queries count.
        cmc: float32 [MAX_RANK], the share of queries with a hit within the first r + 1; rounded
            to float32 as the published evaluators do, so that recorded results agree to the digit.
        means: of each entry of `MEANS`.
    """

    queries: int
    cmc: Floats
    means: Mapping[str, float]

    @property
    def rank1(self) -> float:
        return float(self.cmc[0])

    @property
    def average_precision(self) -> float:
        return self.means["mAP"]

    def as_json(self) -> dict[str, float | int | None]:
        """`rank1`, `rank5`, `rank10` and each of `MEANS` in percent, None where undefined.

        Beside them `queries`.
        """
        return {
            **{f"rank{rank}": percent(float(self.cmc[rank - 1])) for rank in RANKS},
            **{name: percent(mean) for name, mean in self.means.items()},
            "queries": self.queries,
        }


def percent(share: float) -> float | None:
    """A fraction in percent; None where it is undefined."""
    return None if np.isnan(share) else 100 * share


@dataclass(frozen=True)
class Measures:
    """What every valid query of a protocol gave.

    Attributes:
        query: int64 [V], ascending indices into the query set.
        people: int64 [V], whom they show.
        first: int64 [V], the rank of the first right one, from 1.
        values: float64 [M, V], a row for each entry of `MEANS`.
    """

    query: Ints
    people: Ints
    first: Ints
    values: Doubles

    @property
    def precision(self) -> Doubles:
        """Average precision of each, float64 [V]."""
        precision: Doubles = self.values[list(MEANS).index("mAP")]
        return precision

    def where(self, mask: Bools) -> Measures:
        """The queries for which `mask` [V] holds."""
        return Measures(
            self.query[mask],
            self.people[mask],
            self.first[mask],
            self.values[:, mask],
        )

    def score(self) -> Score:
        """The means over these queries."""
        valid = self.query.size
        if not valid:
            nothing = np.full(MAX_RANK, np.nan, np.float32)
            return Score(0, nothing, dict.fromkeys(MEANS, float("nan")))
        hits = np.bincount(self.first[self.first <= MAX_RANK], minlength=MAX_RANK + 1)[1:].cumsum()
        return Score(
            valid,
            hits.astype(np.float32) / np.float32(valid),
            {name: float(np.mean(row)) for name, row in zip(MEANS, self.values, strict=True)},
        )


@dataclass(frozen=True)
class _Standing:
    """Where one query's person comes in the whole gallery, nearest first.

    Attributes:
        query: index of the query.
        own: int64 [M], indices of the gallery's items of that person.
        nearer: int32 [M, C], items of other people that come before each, by cell of the gallery.
    """

    query: int
    own: Ints
    nearer: Counts


@dataclass(frozen=True)
class Ranked:
    """A query and a gallery set, and how they rank; `measure` reads any protocol out of it.

    Attributes:
        query: the query set.
        gallery: the gallery set.
        cells: int64 [G], the cell of each gallery item: items of one cell are searched together or
            not at all.
        standings: of every query whose person is in the gallery.
    """

    query: Embedded
    gallery: Embedded
    cells: Ints
    standings: tuple[_Standing, ...]

    def measure(
        self, trial: Trial, *, searched: Bools | None = None, without_camera: bool = False
    ) -> Measures:
        """One protocol.

        Args:
            trial: with indices into `query` and `gallery`.
            searched: bool [G]; search this part of the trial's gallery only. Whole cells.
            without_camera: take everything that the query's camera took out of the gallery, not
                only the query's person.
        """
        part = np.zeros(self.cells.size, np.bool_)
        part[trial.gallery] = True
        if searched is not None:
            part &= searched
        open_cells = np.zeros(_cell_count(self.cells), np.bool_)
        open_cells[self.cells[part]] = True
        camera_of_cell = np.zeros(open_cells.size, np.int64)
        camera_of_cell[self.cells] = self.gallery.cameras
        asking = np.zeros(self.query.people.size, np.bool_)
        asking[trial.query] = True
        rows: list[tuple[int, Ints]] = []
        for standing in self.standings:
            index, own = standing.query, standing.own
            if not asking[index]:
                continue
            camera = self.query.cameras[index]
            other_camera = self.gallery.cameras[own] != camera
            if trial.domains:
                kept = part[own] & (self.gallery.aerial[own] != self.query.aerial[index])
            else:
                kept = part[own] & other_camera
            columns = open_cells
            if without_camera:
                kept &= other_camera
                columns = open_cells & (camera_of_cell != camera)
            if not kept.any():
                continue
            strangers = standing.nearer[kept][:, columns].sum(1, dtype=np.int64)
            rows.append((index, strangers + np.arange(1, strangers.size + 1)))
        query = np.asarray([index for index, _ in rows], np.int64)
        values = [[mean(ranks) for _, ranks in rows] for mean in MEANS.values()]
        return Measures(
            query,
            self.query.people[query],
            np.asarray([ranks[0] for _, ranks in rows], np.int64),
            np.asarray(values, np.float64),
        )


def rank(
    query: Embedded,
    gallery: Embedded,
    trials: Sequence[Trial],
    *,
    groups: Ints | None = None,
    distances: Floats | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Ranked:
    """Rank the gallery for every query, once for all protocols; distances are computed once.

    Memory beyond the inputs is a few times `block_bytes`, and of every query 4 bytes for each
    picture of its person and each part that the gallery is searched by.

    Args:
        query: what is searched for.
        gallery: what is searched.
        trials: with indices into both.
        groups: int64 [G], further parts that the gallery may be searched by.
        distances: float32 [Q, G] to rank by instead of 1 - cosine.
        block_bytes: of distances held at a time.

    Raises:
        InputError: when a distance is not finite.
    """
    keys = [gallery.cameras]
    for trial in trials:
        member = np.zeros(gallery.people.size, np.int64)
        member[trial.gallery] = 1
        keys.append(member)
    if groups is not None:
        keys.append(groups)
    _, cells = np.unique(np.stack(keys, 1), axis=0, return_inverse=True)
    cells = cells.astype(np.int64).reshape(-1)
    found = _standings(query, gallery, cells, distances, block_bytes)
    return Ranked(query, gallery, cells, tuple(found))


def score(query: Embedded, gallery: Embedded, *, block_bytes: int = BLOCK_BYTES) -> Score:
    """Rank all of `gallery` for every query.

    Raises:
        InputError: when a distance is not finite.
    """
    everyone, everything = np.arange(query.people.size), np.arange(gallery.people.size)
    trial = Trial("ALL", everyone, everything, domains=False)
    return rank(query, gallery, [trial], block_bytes=block_bytes).measure(trial).score()


def protocols(
    query: Embedded, gallery: Embedded, *, block_bytes: int = BLOCK_BYTES
) -> dict[str, Score]:
    """Every protocol of PROTOCOLS on one query and gallery set; distances are computed once.

    Raises:
        InputError: when a distance is not finite.
    """
    trials = two_views(query.aerial, gallery.aerial)
    found = rank(query, gallery, trials, block_bytes=block_bytes)
    return {trial.name: found.measure(trial).score() for trial in trials}


def as_json(scores: Mapping[str, Score]) -> dict[str, dict[str, float | int | None]]:
    """JSON-ready: protocol to its score, see `Score.as_json`."""
    return {name: score.as_json() for name, score in scores.items()}


def _cell_count(cells: Ints) -> int:
    return int(cells.max(initial=-1)) + 1


def _standings(
    query: Embedded, gallery: Embedded, cells: Ints, distances: Floats | None, block_bytes: int
) -> Iterator[_Standing]:
    """One for each query whose person is in the gallery."""
    by_person = np.argsort(gallery.people, kind="stable")
    people = gallery.people[by_person]
    first = np.searchsorted(people, query.people, side="left")
    last = np.searchsorted(people, query.people, side="right")
    present = np.flatnonzero(first < last)
    count = _cell_count(cells)
    rows = max(1, block_bytes // max(1, 12 * cells.size))  # a float32 and an int64 per pair
    for start in range(0, present.size, rows):
        block = present[start : start + rows]
        keys = _keys(
            1 - query.embeddings[block] @ gallery.embeddings.T
            if distances is None
            else distances[block]
        )
        for row, index in zip(keys, block.tolist(), strict=True):
            own = by_person[first[index] : last[index]]
            own = own[np.argsort(row[own])]
            # An item lies before own item j when at most j own items lie before it.
            place = np.searchsorted(row[own], row)
            place *= count
            place += cells
            counts = np.bincount(place, minlength=count * own.size)[: count * own.size]
            counts = counts.reshape(own.size, count)
            counts[np.arange(own.size), cells[own]] -= 1  # strangers only
            yield _Standing(index, own, counts.cumsum(0, dtype=np.int32))


def _keys(distance: Floats) -> Ints:
    """Int64 numbers, all different in a row, in the order of (distance, column).

    A float's bits grow with its value, and fall where it is negative; the column takes the lower
    half. `distance` [B, G] is overwritten.

    Raises:
        InputError: when a distance is not finite.
    """
    if not (np.isfinite(distance.min()) and np.isfinite(distance.max())):
        raise InputError("the embeddings hold numbers that are not finite, which have no order")
    distance += 0.0  # -0 becomes 0
    bits = distance.view(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(distance.shape[1])
    return keys
