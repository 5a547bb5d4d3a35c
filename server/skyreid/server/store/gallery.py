"""Exact nearest-neighbour search among all embeddings ever seen, by model, view and time.

Vectors lie as float32 in segments of one model and one view in the order they came in: twice the
memory of the float16 that they came in, and a search is one product a segment, without converting
or gathering anything first. Exact search covers some hundred thousand vectors a core; approximate
indices lose the tail of a person's sightings, and must never be the only way to find them all. The
writer feeds it, the API asks it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.store.records import Arrived

SEGMENT_ROWS = 16384

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """One thing found. ``similarity`` is a cosine, up to float16's rounding (5e-4)."""

    key: Hashable
    similarity: float


class _Segment:
    """Up to ``SEGMENT_ROWS`` vectors [N, D] with the time each was last seen."""

    def __init__(self, model_key: str, dim: int) -> None:
        self.model_key = model_key
        self.vectors = np.zeros((SEGMENT_ROWS, dim), np.float32)
        self.seen_ns = np.zeros(SEGMENT_ROWS, np.int64)
        self.alive = np.zeros(SEGMENT_ROWS, np.bool_)
        self.keys: list[Hashable] = []


class Gallery:
    """Vectors by key: ``add`` replaces, ``remove`` forgets, ``search`` misses nothing.

    ``take`` and ``similar`` may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revision: dict[TrackKey, int] = {}
        self._segments: dict[tuple[str, int, View], list[_Segment]] = {}
        """By model, width of its vectors (a key that two widths share is two models), and view."""
        self._where: dict[Hashable, tuple[_Segment, int]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._where

    def take(self, arrived: Iterable[Arrived]) -> None:
        """Take in stored sightings: a later revision replaces an earlier one, never the reverse."""
        with self._lock:
            for item in arrived:
                s, key = item.sighting, item.key
                if self._revision.get(key, -1) < s.revision:
                    self._revision[key] = s.revision
                    self.add(key, item.model_key, s.view, s.captured_at_ns, s.embedding)

    def similar(
        self,
        key: TrackKey,
        k: int,
        *,
        views: Sequence[View] = tuple(View),
        since_ns: int = 0,
        until_ns: int | None = None,
    ) -> list[tuple[TrackKey, float]] | None:
        """The ``k`` tracklets most like ``key``, most similar first, with their cosines.

        Only within the model that ``key`` was embedded by; ``key`` itself is left out. None if
        there is no such tracklet.
        """
        with self._lock:
            if key not in self._where:
                return None
            segment, row = self._where[key]
            query = segment.vectors[row].copy()
            hits = [
                hit
                for view in views
                for hit in self.search(
                    query, segment.model_key, view, k + 1, since_ns=since_ns, until_ns=until_ns
                )
                if hit.key != key
            ]
        hits.sort(key=lambda hit: -hit.similarity)
        return [(cast(TrackKey, hit.key), hit.similarity) for hit in hits[:k]]

    def add(self, key: Hashable, model_key: str, view: View, seen_ns: int, vector: Float32) -> None:
        """Add a vector, or replace the one of the same key.

        Args:
            key: whatever names it.
            model_key: vectors of different models are never compared.
            view: from where it was seen.
            seen_ns: capture time, for slices of time.
            vector: float [D], L2-normalised.
        """
        segments = self._segments.setdefault((model_key, len(vector), view), [])
        if key in self._where and self._where[key][0] in segments:  # a tracklet's next revision
            segment, row = self._where[key]
            segment.vectors[row] = vector
            segment.seen_ns[row] = seen_ns
            return
        self.remove(key)
        if not segments or len(segments[-1].keys) == SEGMENT_ROWS:
            segments.append(_Segment(model_key, len(vector)))
        segment = segments[-1]
        row = len(segment.keys)
        segment.vectors[row] = vector
        segment.seen_ns[row] = seen_ns
        segment.alive[row] = True
        segment.keys.append(key)
        self._where[key] = segment, row

    def remove(self, key: Hashable) -> bool:
        """Forget a vector (its bytes are overwritten); whether there was one."""
        found = self._where.pop(key, None)
        if found is None:
            return False
        segment, row = found
        segment.vectors[row] = 0
        segment.alive[row] = False
        segment.keys[row] = None
        if len(segment.keys) == SEGMENT_ROWS and not segment.alive.any():
            for segments in self._segments.values():
                if segment in segments:
                    segments.remove(segment)
        return True

    def drop(self, keys: Collection[TrackKey]) -> int:
        """Keep nothing of some tracklets; how many of them there were."""
        with self._lock:
            for key in keys:
                self._revision.pop(key, None)
            return sum(self.remove(key) for key in keys)

    def search(
        self,
        query: Float32,
        model_key: str,
        view: View,
        k: int,
        *,
        since_ns: int = 0,
        until_ns: int | None = None,
    ) -> list[Hit]:
        """The ``k`` most similar vectors of a model and view, most similar first.

        Args:
            query: float [D], L2-normalised.
            model_key: of the query; no other model's vectors are looked at.
            view: of what is looked for.
            k: how many at most.
            since_ns: only what was seen at or after this capture time.
            until_ns: only what was seen at or before it.
        """
        query = query.astype(np.float32)
        hits: list[Hit] = []
        for segment in self._segments.get((model_key, len(query), view), ()):
            rows = len(segment.keys)
            wanted = segment.alive[:rows] & (segment.seen_ns[:rows] >= since_ns)
            if until_ns is not None:
                wanted &= segment.seen_ns[:rows] <= until_ns
            similarity = segment.vectors[:rows] @ query
            similarity[~wanted] = -np.inf
            # The k best and all that equal the last of them: equals are told apart by row, so that
            # the same gallery answers the same.
            least = np.partition(similarity, rows - k)[rows - k] if k < rows else -np.inf
            chosen = np.flatnonzero((similarity >= least) & wanted)
            best = chosen[np.lexsort((chosen, -similarity[chosen]))[:k]]
            hits += [Hit(segment.keys[i], float(similarity[i])) for i in best]
        return sorted(hits, key=lambda hit: -hit.similarity)[:k]
