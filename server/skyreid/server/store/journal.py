"""The journal, idempotent: every sighting once, and the log of decisions. SQLite, one writer.

A sighting is stored before its message is acknowledged to the broker and before its device gets a
receipt, so that a kill at any moment costs a redelivery and nothing else. Decisions are stored in
one transaction with the events that they cause (the outbox), so that what the world is told and
what a restart replays are the same thing.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

from skyreid.contract.errors import InputError
from skyreid.contract.files import FileLock
from skyreid.contract.identity_event import TrackKey, encode_event
from skyreid.contract.migration import require_newest, require_own
from skyreid.contract.sighting import Kind
from skyreid.server.matching.identity import Applied, State
from skyreid.server.owner import refuse_root
from skyreid.server.store.aside import Aside
from skyreid.server.store.faults import cannot_open
from skyreid.server.store.mark import forget_closed, mark_of, note_closed, say_damaged
from skyreid.server.store.migrations import OWN, REMEDY, STEPS, prepare
from skyreid.server.store.pictures import put_pictures
from skyreid.server.store.reading import Reading
from skyreid.server.store.records import (
    Arrived,
    ArrivedPicture,
    Heard,
    OutboxRow,
)
from skyreid.server.store.snapshots import Held, Snapshots

EVENTS_KEPT = 1_000_000
_T = TypeVar("_T")


class Journal(Reading):
    """The one writer of a journal file. Use from one thread at a time."""

    def __init__(
        self, path: Path, site: str, *, pictures_max_bytes: int, events_kept: int = EVENTS_KEPT
    ) -> None:
        """Open or create the journal of ``site``; ``events_kept`` events that were sent stay.

        Raises:
            InputError: the file is in use, is not a journal of this version, or is another site's.
        """
        self._site = site
        path = Path(os.path.realpath(path))  # the lock is the file's, whatever it is called
        refuse_root(path)
        self.path = path
        self._pictures_max_bytes, self._events_kept = pictures_max_bytes, events_kept
        self._data_version = self._picture_bytes = 0
        self._lock = FileLock(
            path.with_name(f"{path.name}.lock"),
            of=f"journal {path}",
            remedy="one server writes a journal",
        )
        self._mark: int | None = None
        self._reader: sqlite3.Connection | None = None
        try:
            # isolation_level None: transactions are begun here, by name, nowhere behind our back.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            self._lock.close()
            raise cannot_open(path, error) from error
        try:
            prepare(self._db, path, site)
            self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._reader.execute("PRAGMA query_only = ON")
            self.snapshots = Snapshots(self._db, self._reader)
            self.aside = Aside(self._db, self.writing, self._sightings)
            self.refresh()
            self._last_sighting = self._max_id("sighting")
            self._last_decision = self._max_id("decision")
            self._mark = os.open(mark_of(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            self._note()
            forget_closed(path)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise cannot_open(path, error) from error
        except InputError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; what was committed stays."""
        if self._reader is not None:
            self._reader.close()
        self._db.close()
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None
            note_closed(self.path)
            mark_of(self.path).unlink(missing_ok=True)
        self._lock.close()

    def store(
        self,
        sightings: Sequence[Arrived],
        heard: Sequence[Heard] = (),
        pictures: Sequence[ArrivedPicture] = (),
    ) -> list[Arrived]:
        """Store a batch durably, in one transaction; returns the sightings that were new.

        Raises:
            sqlite3.Error: nothing of the batch was stored.
        """
        with self.writing() as db:
            new = _insert_all(db, sightings, self._last_sighting)
            note_tracklets(db, new)
            for row in heard:
                hear(db, row)
            size = self._picture_bytes
            if pictures:
                size = put_pictures(db, pictures, size, self._pictures_max_bytes)
        self._picture_bytes = size
        self._last_sighting += len(new)
        self._note()
        return new

    def decide(
        self,
        made: Sequence[Applied],
        decided_at_ns: int,
        also: Callable[[sqlite3.Connection], None] | None = None,
        snapshot: tuple[State, Held] | None = None,
    ) -> None:
        """Append decisions to the log, and their events to those that wait, in one transaction.

        ``also`` is done in it first, and the snapshot brought forward last: call ``brought`` then.

        Raises:
            sqlite3.Error: nothing of it was stored.
        """
        with self.writing() as db:
            if also is not None:
                also(db)
            put_decisions(db, made, self._last_decision, self._site, decided_at_ns)
            if snapshot is not None:
                self.snapshots.bring(db, snapshot[0], self._last_decision + len(made), snapshot[1])
        self._last_decision += len(made)
        self._note()

    def brought(self, state: State, held: Held) -> State:
        """A state that the snapshot has now, with nothing of it in memory."""
        return self.snapshots.brought(state, self._last_decision, held)

    @property
    def since_snapshot(self) -> int:
        """Rows of sightings and of decisions that came after the snapshot."""
        snapshots = self.snapshots
        return self._last_sighting - snapshots.sightings + self._last_decision - snapshots.at

    def decision_count(self) -> int:
        """How many decisions the log has ever had: the number of the latest."""
        return self._last_decision

    def outbox(self, after: int, limit: int) -> list[OutboxRow]:
        """Events with a number above ``after`` that wait for the broker, oldest first."""
        rows = self._db.execute(
            "SELECT id, identity, body FROM event WHERE id > ? AND taken = 0 ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [OutboxRow(*row) for row in rows]

    def outbox_count(self, after: int) -> int:
        """How many events with a number above ``after`` wait for the broker."""
        row = self._db.execute(
            "SELECT count(*) FROM event WHERE id > ? AND taken = 0", (after,)
        ).fetchone()
        return int(row[0])

    def taken(self, events: Iterable[int]) -> None:
        """The broker has taken events: they wait no more, and stay as long as there is room."""
        with self.writing() as db:
            db.executemany("UPDATE event SET taken = 1 WHERE id = ?", [(i,) for i in events])
            db.execute(
                "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE taken = 1 AND "
                "id <= (SELECT max(id) FROM event) - ? ORDER BY id LIMIT 1000)",
                (self._events_kept,),
            )

    def written_elsewhere(self) -> bool:
        """Whether another connection (an operator's command) has written since the last call."""
        before = self._data_version
        (self._data_version,) = self._db.execute("PRAGMA data_version").fetchone()
        return bool(self._data_version != before)

    def reading(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        """Ask something of the journal's own connection, in no transaction."""
        return read(self._db)

    def refresh(self) -> None:
        """Count the pictures anew: rows of them went."""
        row = self._db.execute("SELECT coalesce(sum(length(body)), 0) FROM picture").fetchone()
        self._picture_bytes = int(row[0])

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that is written in it, or nothing.

        Raises:
            sqlite3.Error: nothing was stored.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @property
    def last(self) -> tuple[int, int]:
        """Number of the last sighting, number of the last decision."""
        return self._last_sighting, self._last_decision

    def abandon(self) -> None:
        """Close the file because it is damaged: the next start repairs it before it opens it."""
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None
            say_damaged(self.path)
        self.close()

    def _note(self) -> None:
        """Note outside of the database what it has: see ``mark``."""
        if self._mark is not None:
            os.pwrite(self._mark, b"%020d %020d\n" % (self._last_sighting, self._last_decision), 0)

    def _max_id(self, table: str) -> int:
        """The largest that was ever given: rows of it may have gone."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
        (given,) = row.fetchone() or (0,)
        return int(given)


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; close to free when used for one answer.

    Raises:
        InputError: the file is missing or is not a journal of this version.
    """
    if not path.is_file():
        raise InputError(f"journal {str(path)!r} does not exist")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("PRAGMA busy_timeout = 5000")
            require_own(db, OWN, what=f"journal {path}", remedy=REMEDY)
            by = "run skyreid-server run on it"
            require_newest(db, STEPS, what=f"journal {path}", by=by)
            yield db
    except sqlite3.Error as error:
        raise cannot_open(path, error) from error


HAD_TOKENS = "had_tokens"
"""In ``meta`` once somebody had a token: see `beside.had_tokens`."""


def checksum(values: Sequence[object], body: bytes) -> int:
    """CRC-32 of a row: of its columns in order, and its ``body`` last."""
    return zlib.crc32(body, zlib.crc32("\0".join(map(str, values)).encode("utf-8", "replace")))


def put_decisions(
    db: sqlite3.Connection, made: Sequence[Applied], after: int, site: str, decided_at_ns: int
) -> None:
    """Append decisions to the log, numbered from ``after`` on, and their events."""
    for number, applied in enumerate(made, after + 1):
        put_decision(db, number, decided_at_ns, applied.decision.to_json())
        for position, event in enumerate(applied.events):
            body = encode_event(
                event, site=site, decision=number, number=position, decided_at_ns=decided_at_ns
            )
            db.execute(
                "INSERT INTO event (decision, number, identity, body) VALUES (?, ?, ?, ?)",
                (number, position, event.identity, body),
            )


def put_decision(db: sqlite3.Connection, number: int, decided_at_ns: int, body: str) -> None:
    """Append one row to the log."""
    crc = checksum((number, decided_at_ns), body.encode())
    db.execute("INSERT INTO decision VALUES (?, ?, ?, ?)", (number, decided_at_ns, body, crc))


_INSERT = "INSERT OR IGNORE INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def insert(db: sqlite3.Connection, arrived: Arrived, number: int) -> bool:
    """Store a sighting as ``number``; False where it was stored before. See `note_tracklets`."""
    return db.execute(_INSERT, _row(arrived, number)).rowcount > 0


def _insert_all(db: sqlite3.Connection, sightings: Sequence[Arrived], last: int) -> list[Arrived]:
    """Store sightings, numbered from ``last`` on without a gap; those that were new."""
    db.execute("SAVEPOINT of_all")
    rows = map(_row, sightings, count(last + 1))
    if db.executemany(_INSERT, rows).rowcount == len(sightings):
        return list(sightings)
    db.execute("ROLLBACK TO of_all")  # some are repeats, which must not use up numbers
    new: list[Arrived] = []
    for arrived in sightings:
        if insert(db, arrived, last + len(new) + 1):
            new.append(arrived)
    # SQLite takes the number of a row that it ignores as given.
    db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'sighting'", (last + len(new),))
    return new


def _row(arrived: Arrived, number: int) -> tuple[object, ...]:
    """All columns; its checksum is `checksum` written out: that is a third of the time."""
    a, s, body = arrived, arrived.sighting, arrived.body
    device, boot, lane, key, dim, at = (
        a.device,
        a.boot,
        a.lane,
        a.model_key,
        a.dim,
        a.received_at_ns,
    )
    seq, camera, track, revision, seen = s.seq, s.camera, s.track, s.revision, s.captured_at_ns
    of = f"{device}\0{boot}\0{seq}\0{lane}\0{key}\0{dim}\0{camera}\0{track}\0{revision}"
    crc = zlib.crc32(body, zlib.crc32(f"{of}\0{seen}\0{at}".encode("utf-8", "replace")))
    return number, device, boot, seq, lane, key, dim, camera, track, revision, seen, at, body, crc


def note_tracklets(db: sqlite3.Connection, new: Iterable[Arrived]) -> None:
    """Note of the tracklets of sightings what the latest revision of each says."""
    latest: dict[TrackKey, Arrived] = {}
    for arrived in new:
        sighting = arrived.sighting
        key = TrackKey(arrived.device, arrived.boot, sighting.camera, sighting.track)
        before = latest.setdefault(key, arrived)
        if sighting.revision > before.sighting.revision:
            latest[key] = arrived
    db.executemany(
        "INSERT INTO tracklet VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (device, boot, camera, track) DO UPDATE SET revision = excluded.revision, "
        "ended = excluded.ended, first_seen_ns = excluded.first_seen_ns, "
        "captured_at_ns = excluded.captured_at_ns, crops = excluded.crops, "
        "quality = excluded.quality, east_m = excluded.east_m, north_m = excluded.north_m, "
        "heard_at_ns = excluded.heard_at_ns "
        "WHERE excluded.revision > revision",
        [
            (
                *key,
                s.revision,
                int(s.view),
                s.kind == Kind.END,
                s.first_seen_ns,
                s.captured_at_ns,
                s.crops,
                s.quality,
                s.ground.east_m if s.ground else None,
                s.ground.north_m if s.ground else None,
                arrived.received_at_ns,
            )
            for key, arrived in latest.items()
            for s in (arrived.sighting,)
        ],
    )


def hear(db: sqlite3.Connection, row: Heard) -> None:
    sees = row.camera, row.view, row.model_key
    db.execute(
        "INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET "
        "heard_at_ns = max(heard_at_ns, excluded.heard_at_ns), "
        "watermark_ns = CASE WHEN excluded.boot IS NULL THEN watermark_ns "
        "WHEN excluded.boot IS NOT boot THEN excluded.watermark_ns "
        "WHEN excluded.watermark_ns > 0 AND watermark_ns > excluded.heard_at_ns "
        "THEN excluded.watermark_ns ELSE max(watermark_ns, excluded.watermark_ns) END, "
        "boot = coalesce(excluded.boot, boot), "
        "camera = coalesce(excluded.camera, camera), "
        "view = coalesce(excluded.view, view), "
        "model_key = coalesce(excluded.model_key, model_key)",
        (row.device, row.heard_at_ns, row.boot, row.watermark_ns, *sees),
    )
