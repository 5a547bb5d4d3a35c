"""Exact nearest-neighbour search among all embeddings that are kept, by model, view and time.

Vectors lie once, as float16, in segments (`segments`): files that are mapped, and in memory what
came since they were written. A search is one product a segment. Exact search covers some hundred
thousand vectors a core; approximate indices lose the tail of a person's sightings, and must never
be the only way to find them all. The writer feeds it, the API asks it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.store import segments
from skyreid.server.store.records import Arrived
from skyreid.server.store.segments import Bool, Float32, Segment

_log = logging.getLogger(__name__)

SPAN_NS = 3 * 3600 * 10**9
"""A segment is sealed when its first row came so long ago: it expires as a whole."""
BEHIND = 2048
"""Sightings that wait to be put into segments, at most."""
RECENT = 16384
"""Keys that are looked up in a dict before the sorted index is made anew."""


@dataclass(frozen=True)
class Hit:
    """One thing found. ``similarity`` is a cosine, up to float16's rounding (5e-4)."""

    key: TrackKey
    similarity: float


def gallery_of(journal: Path) -> Path:
    """The folder of a journal's segments."""
    return journal.with_name(f"{journal.name}.gallery")


class Gallery:
    """Vectors by tracklet: ``take`` replaces, ``drop`` forgets, ``search`` misses nothing.

    May be called from any thread; ``flush``, ``drop`` and ``expire`` write files, from one.
    """

    def __init__(self, folder: Path | None = None, *, last: int = 0) -> None:
        """Of the segments in a folder; None = in memory alone.

        ``last`` is the number of the journal's last sighting: what was flushed after it belongs to
        another journal, and nothing of it is used.
        """
        self._folder = folder
        self.lock = threading.RLock()
        """Held by whoever uses what ``of`` and ``find`` give."""
        self._all: list[Segment] = []
        self._behind: list[Arrived] = []
        self._number = 0
        self.through = 0
        """Number of the last sighting that was taken in when it was flushed."""
        if folder is not None:
            self._open(folder, last)
        self._reindex()

    def __len__(self) -> int:
        with self.lock:
            self._catch_up()
            return self._count()

    def _count(self) -> int:
        return sum(int(each.alive[: each.rows].sum()) for each in self._all)

    def __contains__(self, key: TrackKey) -> bool:
        return self.find(key) is not None

    def find(self, key: TrackKey) -> tuple[Segment, int] | None:
        """The segment and the row in which a tracklet lies; None where it is not here."""
        with self.lock:
            self._catch_up()
            return self._find(key, _hash(key))

    def take(self, arrived: Iterable[Arrived]) -> None:
        """Take in stored sightings: a later revision replaces an earlier one, never the reverse.

        They are put into segments when somebody asks, or when there are many.
        """
        with self.lock:
            self._behind += arrived
            if len(self._behind) >= BEHIND:
                self._catch_up()

    def _catch_up(self) -> None:
        latest: dict[TrackKey, Arrived] = {}
        for item in self._behind:
            if len(item.sighting.embedding):  # else its time was up
                before = latest.setdefault(key := item.key, item)
                if item.sighting.revision > before.sighting.revision:
                    latest[key] = item
        self._behind = []
        for key, item in latest.items():
            s = item.sighting
            self.add(
                key,
                item.model_key,
                s.view,
                s.captured_at_ns,
                s.embedding,
                revision=s.revision,
                at_ns=item.received_at_ns,
            )

    def add(
        self,
        key: TrackKey,
        model_key: str,
        view: View,
        seen_ns: int,
        vector: Float32,
        *,
        revision: int = 0,
        at_ns: int = 0,
    ) -> None:
        """Add a vector, or replace that of an earlier revision.

        Args:
            key: whose it is.
            model_key: vectors of different models are never compared.
            view: from where it was seen.
            seen_ns: capture time, for slices of time.
            vector: float [D], L2-normalised.
            revision: one that is not above that which is here changes nothing.
            at_ns: when it came.
        """
        with self.lock:
            number = _hash(key)
            found = self._find(key, number)
            if found is not None:
                segment, row = found
                if revision <= segment.columns["revision"][row]:
                    return
                same = (segment.model_key, segment.dim, segment.view) == (
                    model_key,
                    len(vector),
                    view,
                )
                if same and not segment.sealed:
                    segment.put(row, revision, seen_ns, vector, at_ns)
                    return
                segment.alive[row] = False
            segment = self._open_segment(model_key, len(vector), view, at_ns)
            row = segment.add(key, number, revision, seen_ns, vector, at_ns)
            self._recent[number] = segment, row
            if len(self._recent) > RECENT:
                self._reindex()

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
        with self.lock:
            self._catch_up()
            found = self._find(key, _hash(key))
            if found is None:
                return None
            segment, row = found
            query = segment.vectors[row].astype(np.float32)
            hits = [
                hit
                for view in views
                for hit in self.search(
                    query, segment.model_key, view, k + 1, since_ns=since_ns, until_ns=until_ns
                )
                if hit.key != key
            ]
        hits.sort(key=lambda hit: -hit.similarity)
        return [(hit.key, hit.similarity) for hit in hits[:k]]

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
        with self.lock:
            self._catch_up()
            for segment in self.of(model_key, len(query), view):
                rows = segment.rows
                wanted = segment.alive[:rows].copy()
                if since_ns > 0:
                    wanted &= segment.columns["seen_ns"][:rows] >= since_ns
                if until_ns is not None:
                    wanted &= segment.columns["seen_ns"][:rows] <= until_ns
                if not wanted.any():
                    continue
                similarity = segment.products(query)
                similarity[~wanted] = -np.inf
                # The k best and all that equal the last of them: equals are told apart by row, so
                # that the same gallery answers the same.
                least = np.partition(similarity, rows - k)[rows - k] if k < rows else -np.inf
                chosen = np.flatnonzero((similarity >= least) & wanted)
                best = chosen[np.lexsort((chosen, -similarity[chosen]))[:k]]
                hits += [Hit(segment.key(i), float(similarity[i])) for i in best]
        return sorted(hits, key=lambda hit: -hit.similarity)[:k]

    def drop(self, keys: Collection[TrackKey]) -> int:
        """Keep nothing of some tracklets, in no file either; how many of them there were.

        Raises:
            InputError: a file cannot be written: call again.
        """
        with self.lock:
            self._catch_up()
            numbers = np.array([_hash(key) for key in keys], np.uint64)
            there: set[TrackKey] = set()
            for place, segment in enumerate(self._all):
                gone = np.isin(segment.columns["hash"][: segment.rows], numbers)
                for row in map(int, np.flatnonzero(gone)):
                    if (key := segment.key(row)) in keys:
                        there.add(key)
                    else:
                        gone[row] = False
                if gone.any():
                    if segment.path is None:  # before others can see it: overwritten
                        segment.vectors[: segment.rows][gone] = 0
                    left = segment.without(gone)
                    self._all[place] = self._rewritten(left) if left.rows else left
            self._all = [each for each in self._all if each.rows]
            self._write_list()  # and of what a kill left nothing is
            self._reindex()
            return len(there)

    def expire(self, before_ns: int) -> int:
        """Drop the segments of which everything came before a moment; how many."""
        with self.lock:
            self._catch_up()
            old = [each for each in self._all if each.last_ns < before_ns]
            if old:
                self._all = [each for each in self._all if each.last_ns >= before_ns]
                self._write_list()
                self._reindex()
            return len(old)

    def flush(self, through: int) -> None:
        """Write what is not in files yet; the sightings up to ``through`` have been taken in.

        Raises:
            InputError: a file cannot be written.
        """
        if self._folder is None:
            return
        with self.lock:
            self._catch_up()
            self._all = [self._rewritten(each) if each.dirty else each for each in self._all]
            self.through = through
            self._write_list()
            self._reindex()

    def _open(self, folder: Path, last: int) -> None:
        try:
            said = json.loads((folder / "segments.json").read_text("utf-8"))
            self._number, self.through = int(said["number"]), int(said["through"])
            if self.through > last:
                raise InputError(f"{folder} is of a later state of the journal")
            self._all = [segments.read(folder / name) for name in said["segments"]]
            self._all = [each if each.sealed else each.without(_none(each)) for each in self._all]
        except FileNotFoundError:
            self._all, self.through = [], 0
        except (OSError, ValueError, KeyError, TypeError, InputError) as error:
            _log.warning("gallery %s is made anew from the journal: %s", folder, error)
            self._all, self.through = [], 0

    def _rewritten(self, segment: Segment) -> Segment:
        """A segment whose file has all of it; mapped once it is sealed."""
        if self._folder is None:
            return segment
        if segment.path is None:
            self._number += 1
            segment.path = self._folder / f"{self._number:08d}.segment"
        segments.write(segment, segment.path)
        if segment.sealed:
            return segments.read(segment.path)
        segment.dirty = False
        return segment

    def _write_list(self) -> None:
        if self._folder is None:
            return
        names = [each.path.name for each in self._all if each.path is not None]
        said = {"through": self.through, "number": self._number, "segments": names}
        files.write(self._folder / "segments.json", json.dumps(said).encode())
        for path in self._folder.iterdir():
            left = path.name.endswith(".segment") and path.name not in names
            if left or path.name.endswith(".segment.partial"):  # of a write that was killed
                path.unlink()

    def _open_segment(self, model_key: str, dim: int, view: View, at_ns: int) -> Segment:
        """The one that is filled."""
        for segment in reversed(self.of(model_key, dim, view)):
            if segment.sealed:
                continue
            if segment.rows < segments.SEGMENT_ROWS and at_ns - segment.first_ns < SPAN_NS:
                return segment
            segment.sealed = segment.dirty = True
        segment = Segment.empty(model_key, dim, view)
        self._all.append(segment)
        return segment

    def of(self, model_key: str, dim: int, view: View) -> list[Segment]:
        """The segments of a model and a view."""
        of = model_key, dim, view
        return [each for each in self._all if (each.model_key, each.dim, each.view) == of]

    def _find(self, key: TrackKey, number: int) -> tuple[Segment, int] | None:
        found = self._recent.get(number)
        if found is None:
            at = int(self._hashes.searchsorted(np.uint64(number)))
            if at == len(self._hashes) or self._hashes[at] != number:
                return None
            found = self._all[self._places[at, 0]], int(self._places[at, 1])
        segment, row = found
        return found if segment.alive[row] and segment.key(row) == key else None

    def _reindex(self) -> None:
        """One sorted array of every key's hash: of several rows the highest revision lives."""
        self._recent: dict[int, tuple[Segment, int]] = {}
        counts = [each.rows for each in self._all]
        places = np.zeros((sum(counts), 2), np.uint32)
        places[:, 0] = np.repeat(np.arange(len(counts)), counts)
        parts = [np.zeros((0, 2), np.int64)]
        start = 0
        for each in self._all:
            places[start : start + each.rows, 1] = np.arange(each.rows)
            start += each.rows
            rows = slice(each.rows)
            alive = each.alive[rows]
            parts.append(np.stack([np.where(alive, each.columns["revision"][rows], -1), alive], 1))
        of = np.concatenate(parts)
        hashes = np.concatenate(
            [np.zeros(0, np.uint64), *(each.columns["hash"][: each.rows] for each in self._all)]
        )
        order = np.lexsort((places[:, 0], of[:, 0], hashes))
        hashes, places = hashes[order], places[order]
        last = np.ones(len(hashes), np.bool_)
        last[:-1] = hashes[1:] != hashes[:-1]
        for segment, row in places[~last]:
            self._all[segment].alive[row] = False
        self._hashes, self._places = hashes[last], places[last]


def _hash(key: TrackKey) -> int:
    text = f"{key.device}/{key.boot}/{key.camera}/{key.track}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _none(segment: Segment) -> Bool:
    return np.zeros(segment.rows, np.bool_)
