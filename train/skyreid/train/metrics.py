"""Ranking metrics of re-identification, with the published rules and named protocols.

Distance is 1 - cosine in float32; equal distances keep the gallery's order. Gallery items of the
query's person and camera are removed; queries without a positive left are skipped, and every mean
is over the queries that remain. Zheng et al., "Scalable Person Re-identification" (CMC, mAP), ICCV
2015; Ye et al., arXiv:2001.04193 (mINP).

Every number follows from the ranks of the few positives, and a rank from counting who is nearer, so
nothing sorts the gallery. Which strangers are nearer does not depend on cameras, only on which
views are searched: one count per positive and view, made once, serves every protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Protocol = Literal["ALL", "A-A", "G-G", "A<->G", "A->G", "G->A"]

# The literature prints both of the last kinds as "A<->G". Here `A<->G` is the one with all queries,
# the whole gallery and cameras collapsed to two domains; `A->G` and `G->A` search the other view.
PROTOCOLS: tuple[Protocol, ...] = ("ALL", "A-A", "G-G", "A<->G", "A->G", "G->A")

MAX_RANK = 50
RANKS = (1, 5, 10)  # that are printed
GROUND, AERIAL, BOTH = (0,), (1,), (0, 1)  # columns of what is counted per view
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

    def in_two_domains(self) -> Embedded:
        """The same with the view as camera: aerial 0, ground 1."""
        return Embedded(
            self.embeddings, self.people, np.where(self.aerial, 0, 1).astype(np.int64), self.aerial
        )


@dataclass(frozen=True)
class Score:
    """Means over the valid queries, as fractions 0 to 1; 0 where there is no valid query.

    Attributes:
        queries: how many queries count.
        cmc: float32 [MAX_RANK], the share of queries with a hit within the first r + 1; rounded
            to float32 as the published evaluators do, so that recorded results agree to the digit.
        average_precision: mAP.
        inverse_penalty: mINP.
    """

    queries: int
    cmc: Floats
    average_precision: float
    inverse_penalty: float

    @property
    def rank1(self) -> float:
        return float(self.cmc[0])


@dataclass(frozen=True)
class _Standing:
    """Where one query's person comes in the whole gallery, nearest first.

    Attributes:
        query: index of the query.
        own: int64 [M], indices of the gallery's items of that person.
        nearer: int64 [M, 2], ground and aerial items of other people that come before each.
    """

    query: int
    own: Ints
    nearer: Ints

    def ranks(self, kept: Bools, searched: tuple[int, ...]) -> Ints:
        """Ranks from 1 of the `kept` [M] own items when only views `searched` are ranked."""
        strangers: Ints = self.nearer[kept][:, searched].sum(1)
        return strangers + np.arange(1, strangers.size + 1)


class _Tally:
    """Sums the measures over queries."""

    def __init__(self) -> None:
        self._hits = np.zeros(MAX_RANK, np.int64)
        self._precisions: list[float] = []
        self._penalties: list[float] = []

    def add(self, ranks: Ints) -> None:
        """Count a query whose positives have these ranks, ascending from 1; none is skipped."""
        if not ranks.size:
            return
        self._precisions.append(float(np.mean(np.arange(1, ranks.size + 1) / ranks)))
        self._penalties.append(float(ranks.size / ranks[-1]))
        self._hits[ranks[0] - 1 :] += 1

    def score(self) -> Score:
        """The means over what was added."""
        valid = len(self._precisions)
        if not valid:
            return Score(0, np.zeros(MAX_RANK, np.float32), 0.0, 0.0)
        return Score(
            valid,
            self._hits.astype(np.float32) / np.float32(valid),
            float(np.mean(self._precisions)),
            float(np.mean(self._penalties)),
        )


def score(query: Embedded, gallery: Embedded, *, block_bytes: int = BLOCK_BYTES) -> Score:
    """Rank all of `gallery` for every query.

    Memory beyond the inputs stays near a few times `block_bytes`, whatever the sizes.

    Raises:
        InputError: when a distance is not finite.
    """
    tally = _Tally()
    for standing in _standings(query, gallery, block_bytes):
        other_camera = gallery.cameras[standing.own] != query.cameras[standing.query]
        tally.add(standing.ranks(other_camera, BOTH))
    return tally.score()


def protocols(
    query: Embedded, gallery: Embedded, *, block_bytes: int = BLOCK_BYTES
) -> dict[Protocol, Score]:
    """Every protocol of PROTOCOLS on one query and gallery set; distances are computed once.

    Raises:
        InputError: when a distance is not finite.
    """
    tallies = {name: _Tally() for name in PROTOCOLS}
    for standing in _standings(query, gallery, block_bytes):
        aerial = bool(query.aerial[standing.query])
        other_camera = gallery.cameras[standing.own] != query.cameras[standing.query]
        other_view = gallery.aerial[standing.own] != aerial
        here, there = (AERIAL, GROUND) if aerial else (GROUND, AERIAL)
        within: Protocol = "A-A" if aerial else "G-G"
        across: Protocol = "A->G" if aerial else "G->A"
        tallies["ALL"].add(standing.ranks(other_camera, BOTH))
        tallies["A<->G"].add(standing.ranks(other_view, BOTH))
        tallies[within].add(standing.ranks(other_camera & ~other_view, here))
        tallies[across].add(standing.ranks(other_camera & other_view, there))
    return {name: tally.score() for name, tally in tallies.items()}


def as_json(scores: dict[Protocol, Score]) -> dict[str, dict[str, float | int]]:
    """JSON-ready: protocol to `rank1`, `rank5`, `rank10`, `mAP`, `mINP` (percent) and `queries`."""
    return {
        name: {
            **{f"rank{rank}": 100 * float(score.cmc[rank - 1]) for rank in RANKS},
            "mAP": 100 * score.average_precision,
            "mINP": 100 * score.inverse_penalty,
            "queries": score.queries,
        }
        for name, score in scores.items()
    }


def table(scores: dict[Protocol, Score]) -> str:
    """The scores for people, a line a protocol, in percent, with the queries that count."""
    lines = [f"{'percent':<8} {'R1':>6} {'R5':>6} {'R10':>6} {'mAP':>6} {'mINP':>6} {'n':>6}"]
    for name, row in as_json(scores).items():
        *percents, queries = row.values()
        lines.append(f"{name:<8} {' '.join(f'{p:6.1f}' for p in percents)} {queries:6d}")
    return "\n".join(lines)


def _standings(query: Embedded, gallery: Embedded, block_bytes: int) -> Iterator[_Standing]:
    """One for each query whose person is in the gallery."""
    by_person = np.argsort(gallery.people, kind="stable")
    people = gallery.people[by_person]
    first = np.searchsorted(people, query.people, side="left")
    last = np.searchsorted(people, query.people, side="right")
    present = np.flatnonzero(first < last)
    views = gallery.aerial.astype(np.int64)
    rows = max(1, block_bytes // max(1, 12 * views.size))  # a float32 and an int64 per pair
    for start in range(0, present.size, rows):
        block = present[start : start + rows]
        keys = _keys(1 - query.embeddings[block] @ gallery.embeddings.T)
        for row, index in zip(keys, block.tolist(), strict=True):
            own = by_person[first[index] : last[index]]
            own = own[np.argsort(row[own])]
            # An item lies before own item j when at most j own items lie before it.
            place = np.searchsorted(row[own], row)
            counts = np.bincount(2 * place + views, minlength=2 * own.size)[: 2 * own.size]
            counts = counts.reshape(own.size, 2)
            counts[np.arange(own.size), views[own]] -= 1  # strangers only
            yield _Standing(index, own, counts.cumsum(0))


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
