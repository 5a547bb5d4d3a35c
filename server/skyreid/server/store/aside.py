"""What the server asks its journal beside the main path: doubts, quarantine, who is admitted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from skyreid.server.store import quarantine
from skyreid.server.store.pictures import has_sighting_of
from skyreid.server.store.records import Arrived, ArrivedPicture

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]
Sightings = Callable[[str, tuple[object, ...]], Iterator[Arrived]]


class Aside:
    """A part of a `Journal`, on its connection. Use from the thread that uses it."""

    def __init__(
        self, db: sqlite3.Connection, transaction: Transaction, sightings: Sightings
    ) -> None:
        """``sightings`` reads those that fit a condition."""
        self._db, self._transaction, self._sightings = db, transaction, sightings

    def quarantine(self, sightings: Sequence[Arrived], at_ns: int, traceback: str) -> None:
        """Set stored sightings aside: who reads them for matching passes over them from now on.

        Raises:
            sqlite3.Error: nothing of it was stored.
        """
        keys = [(s.device, s.boot, s.sighting.seq) for s in sightings]
        with self._transaction() as db:
            quarantine.hold(db, keys, at_ns, traceback)

    def quarantined(self) -> int:
        """How many sightings are held in quarantine."""
        return quarantine.count_held(self._db)

    def retried(self) -> list[Arrived]:
        """Sightings that an operator wants tried again: they leave the quarantine by this.

        Raises:
            sqlite3.Error: they are still there.
        """
        with self._transaction() as db:
            keys = quarantine.take_retries(db)
        where = "(device, boot, seq) = (?, ?, ?)"
        return [arrived for key in keys for arrived in self._sightings(where, key)]

    def differing(self, repeated: Sequence[Arrived]) -> list[Arrived]:
        """Those of them that are not what is stored under their number."""
        sql = "SELECT body FROM sighting WHERE (device, boot, seq) = (?, ?, ?) AND dim > 0"
        out = []
        for item in repeated:
            row = self._db.execute(sql, (item.device, item.boot, item.sighting.seq)).fetchone()
            if row is not None and row[0] != item.body:
                out.append(item)
        return out

    def has_sighting_of(self, picture: ArrivedPicture) -> bool:
        """Whether what a picture was taken for, or a later sighting of its tracklet, is stored."""
        return has_sighting_of(self._db, picture)

    def admitted(self) -> set[str]:
        """Devices that an operator let in by name."""
        return {name for (name,) in self._db.execute("SELECT device FROM admitted")}
