"""Ranking metrics of re-identification, with the published rules and named protocols.

Distance is 1 - cosine in float32; equal distances keep the gallery's order. Gallery items of the
query's person and camera are removed; queries without a positive left are skipped, and every mean
is over the queries that remain. Zheng et al., "Scalable Person Re-identification" (CMC, mAP), ICCV
2015; Ye et al., arXiv:2001.04193 (mINP).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Protocol = Literal["ALL", "A-A", "G-G", "A<->G", "A->G", "G->A"]

# The literature prints both of the last kinds as "A<->G". Here `A<->G` is the one with all queries,
# the whole gallery and cameras collapsed to two domains; `A->G` and `G->A` search the other view.
PROTOCOLS: tuple[Protocol, ...] = ("ALL", "A-A", "G-G", "A<->G", "A->G", "G->A")

MAX_RANK = 50
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
        cmc: float64 [MAX_RANK], the share of queries with a hit within the first r + 1.
        average_precision: mAP.
        inverse_penalty: mINP.
    """

    queries: int
    cmc: NDArray[np.float64]
    average_precision: float
    inverse_penalty: float

    @property
    def rank1(self) -> float:
        return float(self.cmc[0])


def score(query: Embedded, gallery: Embedded, *, block_bytes: int = BLOCK_BYTES) -> Score:
    """Rank `gallery` for every query.

    Memory beyond the inputs stays near a few times `block_bytes`, whatever the sizes.
    """
    hits = np.zeros(MAX_RANK)
    precisions: list[float] = []
    penalties: list[float] = []
    for matches in _kept_matches(query, gallery, block_bytes):
        ranks = np.flatnonzero(matches) + 1  # of the positives, from 1
        if not ranks.size:
            continue
        precisions.append(float(np.mean(np.arange(1, ranks.size + 1) / ranks)))
        penalties.append(float(ranks.size / ranks[-1]))
        if ranks[0] <= MAX_RANK:
            hits[ranks[0] - 1 :] += 1
    valid = len(precisions)
    if not valid:
        return Score(0, hits, 0.0, 0.0)
    return Score(valid, hits / valid, float(np.mean(precisions)), float(np.mean(penalties)))


def protocols(query: Embedded, gallery: Embedded) -> dict[Protocol, Score]:
    """Every protocol of PROTOCOLS on one query and gallery set."""
    aerial_q, ground_q = query.where(query.aerial), query.where(~query.aerial)
    aerial_g, ground_g = gallery.where(gallery.aerial), gallery.where(~gallery.aerial)
    return {
        "ALL": score(query, gallery),
        "A-A": score(aerial_q, aerial_g),
        "G-G": score(ground_q, ground_g),
        "A<->G": score(query.in_two_domains(), gallery.in_two_domains()),
        "A->G": score(aerial_q, ground_g),
        "G->A": score(ground_q, aerial_g),
    }


def _kept_matches(query: Embedded, gallery: Embedded, block_bytes: int) -> Iterator[Bools]:
    """For each query the ranked gallery without junk: True where the person is the query's."""
    count = gallery.people.size
    rows = max(1, block_bytes // max(1, 12 * count))  # a float32 and an int64 per pair
    for start in range(0, query.people.size, rows):
        part = slice(start, start + rows)
        distance = 1 - query.embeddings[part] @ gallery.embeddings.T
        order = np.argsort(distance, axis=1, kind="stable")
        people, cameras = gallery.people[order], gallery.cameras[order]
        same = people == query.people[part, None]
        junk = same & (cameras == query.cameras[part, None])
        for row in range(order.shape[0]):
            yield same[row][~junk[row]]
