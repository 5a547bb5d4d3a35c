"""P x K batches: P people with K pictures each, so that a batch holds positives and negatives.

Hermans et al. (arXiv:1703.07737). With `balance_views` half of the K are aerial and half ground,
so that every person brings cross-view positives. With neighbours set, half of a batch is made of
groups of people the model finds hard to tell apart, after Liao and Shao, "Graph Sampling Based Deep
Metric Learning for Generalizable Person Re-Identification", CVPR 2022 (arXiv:2104.01546); what
differs: neighbours are found among the classifier's rows instead of embedded pictures, which costs
nothing.

Two ways to choose the people. By turns, everybody comes once before anybody comes again. In passes,
as the published aerial-ground methods do, everybody may come at any time until fewer than K of his
pictures are left, so that people with many pictures come more often; neither views nor neighbours
have a say there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class _Deck:
    """Draws cards without replacement and shuffles anew when they run out."""

    def __init__(self, cards: Ints, rng: np.random.Generator) -> None:
        self._cards, self._rng = cards, rng
        self.left: list[int] = []

    def draw(self, count: int) -> list[int]:
        drawn: list[int] = []
        while len(drawn) < count:
            if not self.left:
                self.left = self._rng.permutation(self._cards).tolist()
            drawn.append(self.left.pop())
        return drawn


class PkSampler:
    """An endless stream of batches of indices.

    Args:
        people: int64 [N], class of each picture, 0 to C - 1, each with at least one picture.
        views: int64 [N], aerial 1 and ground 0.
        people_per_batch: P, at most C.
        crops_per_person: K; even with `balance_views`.
        balance_views: draw K/2 of each view where a person has both.
        passes: choose people in passes instead of by turns; without `balance_views`.
        seed: of the draws.
    """

    def __init__(
        self,
        people: Ints,
        views: Ints,
        *,
        people_per_batch: int,
        crops_per_person: int,
        balance_views: bool,
        passes: bool = False,
        seed: int,
    ) -> None:
        classes = int(people.max()) + 1
        if people_per_batch > classes:
            raise ValueError(f"{people_per_batch} people a batch, but the data set has {classes}")
        if balance_views and crops_per_person % 2:
            raise ValueError(f"balanced views need an even number of crops, not {crops_per_person}")
        if balance_views and passes:
            raise ValueError("passes draw from all of a person's pictures and cannot balance views")
        self._rng = np.random.default_rng(seed)
        self._passes = passes
        self._pictures = [np.flatnonzero(people == person) for person in range(classes)]
        self._people_per_batch = people_per_batch
        self._crops = crops_per_person
        self._neighbours: Ints | None = None
        self._classes = _Deck(np.arange(classes), self._rng)
        self._left: list[Ints] = []  # of each person, what this pass has not shown yet
        self._decks: list[list[_Deck]] = []
        for mine in self._pictures:
            parts = [mine[views[mine] == view] for view in (1, 0)] if balance_views else [mine]
            self._decks.append([_Deck(part, self._rng) for part in parts if part.size])

    def set_neighbours(self, neighbours: Ints | None) -> None:
        """From the next batch on, fill half of it with groups of look-alikes.

        Args:
            neighbours: int64 [C, G - 1], for each person the most similar others; None for
                independent draws.
        """
        if self._passes:
            raise ValueError("passes know no look-alikes")
        self._neighbours = neighbours

    def __iter__(self) -> Iterator[Ints]:
        """Endless: int64 [P * K] indices of pictures, the K of a person side by side."""
        while True:
            yield self._next_of_pass() if self._passes else self._next_by_turns()

    def state(self) -> dict[str, Any]:
        """JSON-able: all that decides the batches to come, for `restore`."""
        return {
            "rng": self._rng.bit_generator.state,
            "classes": self._classes.left,
            "decks": [[deck.left for deck in decks] for decks in self._decks],
            "pass": [left.tolist() for left in self._left],
            "neighbours": None if self._neighbours is None else self._neighbours.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a sampler of the same pictures and settings was when it gave `state`."""
        self._rng.bit_generator.state = state["rng"]
        self._classes.left = list(state["classes"])
        for decks, left in zip(self._decks, state["decks"], strict=True):
            for deck, cards in zip(decks, left, strict=True):
                deck.left = list(cards)
        self._left = [np.asarray(left, np.int64) for left in state["pass"]]
        neighbours = state["neighbours"]
        self._neighbours = None if neighbours is None else np.asarray(neighbours, np.int64)

    def _next_by_turns(self) -> Ints:
        batch: list[int] = []
        for person in self._draw_people():
            decks = self._decks[person]
            share = self._crops // len(decks)
            for deck in decks:
                batch += deck.draw(share)
        return np.asarray(batch, np.int64)

    def _next_of_pass(self) -> Ints:
        """A pass ends when fewer than P people have K pictures left; what is left is dropped.

        Who has fewer than K pictures at all comes once, with K drawn with replacement.
        """
        crops = self._crops
        if sum(left.size >= crops for left in self._left) < self._people_per_batch:
            self._left = [
                self._rng.permutation(mine)
                if mine.size >= crops
                else self._rng.choice(mine, crops, replace=True)
                for mine in self._pictures
            ]
        available = np.asarray([p for p, left in enumerate(self._left) if left.size >= crops])
        chosen = self._rng.choice(available, self._people_per_batch, replace=False)
        batch = np.concatenate([self._left[person][:crops] for person in chosen])
        for person in chosen:
            self._left[person] = self._left[person][crops:]
        return batch

    def _draw_people(self) -> list[int]:
        chosen: dict[int, None] = {}  # a set that keeps its order
        while len(chosen) < self._people_per_batch:
            person = self._classes.draw(1)[0]
            chosen.setdefault(person)
            if self._neighbours is not None and len(chosen) <= self._people_per_batch // 2:
                for other in self._neighbours[person].tolist():
                    chosen.setdefault(other)
        return list(chosen)[: self._people_per_batch]
