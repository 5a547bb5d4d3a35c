"""What is read of a journal beside its main path: by a start, by commands, by the API."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.server.matching.identity import Decision
from skyreid.server.store.quarantine import SHOWN, SingleKey
from skyreid.server.store.records import Arrived, Heard
from skyreid.server.store.snapshots import Snapshots, Start


class Reading:
    """The part of a `Journal` that reads, on its connection."""

    _db: sqlite3.Connection
    snapshots: Snapshots

    def sightings_since(
        self, captured_at_ns: int, until_ns: int = (1 << 63) - 1
    ) -> Iterator[Arrived]:
        """Stored sightings captured at or after a moment, in the order they were stored.

        Without those that were captured at ``until_ns`` or later.
        """
        moments = captured_at_ns, until_ns
        return self._sightings("captured_at_ns >= ? AND captured_at_ns < ?", moments)

    def sightings_after(self, number: int, waiting: Iterable[SingleKey]) -> Iterator[Arrived]:
        """Those that waited then, and all that were stored after ``number``."""
        for key in waiting:
            yield from self._sightings("(device, boot, seq) = (?, ?, ?)", key)
        yield from self._sightings("id > ?", (number,))

    def sightings_of(self, key: TrackKey) -> Iterator[Arrived]:
        """Stored sightings of one tracklet, in the order they were stored."""
        values = (key.device, key.boot, key.camera, key.track)
        return self._sightings("(device, boot, camera, track) = (?, ?, ?, ?)", values)

    def tracklets_before(self, captured_at_ns: int) -> set[TrackKey]:
        """Tracklets whose latest revision was captured before a moment."""
        rows = self._db.execute(
            "SELECT device, boot, camera, track FROM tracklet WHERE captured_at_ns < ?",
            (captured_at_ns,),
        )
        return {TrackKey(*row) for row in rows}

    def has(self, key: TrackKey) -> bool:
        """Whether there is a tracklet of that name."""
        values = (key.device, key.boot, key.camera, key.track)
        found = self._db.execute(
            "SELECT 1 FROM tracklet WHERE (device, boot, camera, track) = (?, ?, ?, ?)", values
        )
        return found.fetchone() is not None

    def _sightings(self, where: str, values: tuple[object, ...]) -> Iterator[Arrived]:
        """Those that matching may be shown: not in quarantine, and with their embedding still."""
        rows = self._db.execute(
            "SELECT device, boot, lane, model_key, dim, received_at_ns, body FROM sighting "
            f"WHERE {where} AND dim > 0 AND {SHOWN} ORDER BY id",
            values,
        )
        for device, boot, lane, model_key, dim, received_at_ns, body in rows:
            sighting = decode_sighting(body, dim)
            yield Arrived(device, boot, lane, model_key, dim, received_at_ns, sighting, body)

    def devices(self) -> list[Heard]:
        """Every device that was ever heard."""
        rows = self._db.execute(
            "SELECT device, heard_at_ns, boot, watermark_ns, camera, view, model_key "
            "FROM device ORDER BY device"
        )
        return [Heard(*row) for row in rows]

    def start(self) -> Start:
        """Where a start begins: the latest snapshot, and the log after it.

        Raises:
            InputError: they do not fit together.
            sqlite3.Error: something in it is damaged.
        """
        return self.snapshots.start(lambda after: log_of(self._db, after))

    def decisions(self) -> Iterator[Decision]:
        """The log in order."""
        return log_of(self._db)

    def counts(self) -> tuple[int, int]:
        """How many sightings are stored, and how many events wait for the broker."""
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM sighting), (SELECT count(*) FROM event WHERE taken = 0)"
        ).fetchone()
        return int(row[0]), int(row[1])


def log_of(db: sqlite3.Connection, after: int = 0) -> Iterator[Decision]:
    """The log in order."""
    for (body,) in db.execute("SELECT body FROM decision WHERE id > ? ORDER BY id", (after,)):
        yield Decision.from_json(body)
