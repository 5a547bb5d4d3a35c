"""What a model finds for single queries: the first ten, and how far down the right one comes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skyreid.train.evaluate.breakdown import Outcome, across
from skyreid.train.evaluate.metrics import Bools, Ints, Ranked

SEED = 20_240_607
SHOWN = 10  # of a list
LISTS = 8  # a protocol and kind


@dataclass(frozen=True)
class Hit:
    """One picture of the gallery.

    Attributes:
        picture: index into the gallery set.
        rank: from 1.
        right: whether it shows the person of the query.
    """

    picture: int
    rank: int
    right: bool


@dataclass(frozen=True)
class RankList:
    """What was found for one query.

    Attributes:
        query: index into the query set.
        hits: the first `SHOWN`, nearest first.
        first: the first right one; it is in `hits` or comes after them.
    """

    query: int
    hits: tuple[Hit, ...]
    first: Hit


def shown(ranked: Ranked, outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """The protocols whose rank lists are worth looking at: across views, or else the first."""
    asked = [outcome for outcome in outcomes if outcome.measures.query.size]
    crossing = [outcome for outcome in asked if across(ranked, outcome.trial)]
    return tuple(crossing or asked[:1])


def sample(
    ranked: Ranked, outcome: Outcome, count: int = LISTS, seed: int = SEED
) -> list[RankList]:
    """Valid queries drawn by `seed`, in the order of the query set."""
    valid = outcome.measures.query
    drawn = np.random.default_rng(seed).choice(valid, min(count, valid.size), replace=False)
    return [rank_list(ranked, outcome, query) for query in sorted(drawn.tolist())]


def hardest(ranked: Ranked, outcome: Outcome, count: int = LISTS) -> list[RankList]:
    """Queries whose first right one comes last, the worst first, at most one a person.

    Queries that are right at rank 1 are not among them.
    """
    measures = outcome.measures
    order = np.argsort(-measures.first, kind="stable")
    order = order[measures.first[order] > 1]
    _, first = np.unique(measures.people[order], return_index=True)
    chosen = order[np.sort(first)][:count]
    return [rank_list(ranked, outcome, query) for query in measures.query[chosen].tolist()]


def rank_list(ranked: Ranked, outcome: Outcome, query: int) -> RankList:
    """The gallery of a protocol in the order of one valid query, as the metrics rank it."""
    trial, gallery = outcome.trial, ranked.gallery
    searched: Ints = trial.gallery
    same: Bools = gallery.people[searched] == ranked.query.people[query]
    if trial.domains:
        junk = same & (gallery.aerial[searched] == ranked.query.aerial[query])
    else:
        junk = same & (gallery.cameras[searched] == ranked.query.cameras[query])
    # The same product as in the metrics, so that near-equal distances fall in the same order.
    distance = 1 - ranked.query.embeddings[query : query + 1] @ gallery.embeddings.T
    kept = searched[~junk]
    order = kept[np.lexsort((kept, distance[0, kept]))]
    right = gallery.people[order] == ranked.query.people[query]
    first = int(right.argmax())
    hits = tuple(
        Hit(int(picture), rank, bool(right[rank - 1]))
        for rank, picture in enumerate(order[:SHOWN].tolist(), start=1)
    )
    return RankList(query, hits, Hit(int(order[first]), first + 1, right=True))
