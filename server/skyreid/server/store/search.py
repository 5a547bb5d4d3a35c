"""Who else looked like this person? The exact gallery, fed by the writer, asked by the API."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import cast

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.store.gallery import Float32, Gallery
from skyreid.server.store.records import Arrived


class Search:
    """The latest embedding of every tracklet. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gallery = Gallery()
        self._latest: dict[TrackKey, tuple[int, str, Float32]] = {}

    def take(self, arrived: Iterable[Arrived]) -> None:
        """Take in stored sightings: a later revision replaces an earlier one, never the reverse."""
        with self._lock:
            for item in arrived:
                s = item.sighting
                key = TrackKey(item.device, item.boot, s.camera, s.track)
                if key in self._latest and self._latest[key][0] >= s.revision:
                    continue
                self._latest[key] = s.revision, item.model_key, s.embedding
                self._gallery.add(key, item.model_key, s.view, s.captured_at_ns, s.embedding)

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
            if key not in self._latest:
                return None
            _revision, model_key, vector = self._latest[key]
            hits = [
                hit
                for view in views
                for hit in self._gallery.search(
                    vector, model_key, view, k + 1, since_ns=since_ns, until_ns=until_ns
                )
                if hit.key != key
            ]
        hits.sort(key=lambda hit: -hit.similarity)
        return [(cast(TrackKey, hit.key), hit.similarity) for hit in hits[:k]]
