"""Store and forward: what no receipt has confirmed yet, in SQLite; it survives kill -9.

A sighting is written before it is sent and deleted by the server's receipt, or by the cap on bytes
or age, oldest first and counted. Writes come in groups, one fsync a group. One thread owns a spool.

**Boot**: ``{counter}-{hex}``: a counter that goes up each time the spool is opened for a run, and a
random word made with the file, so that a lost spool never uses a key twice.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from skyreid.contract.errors import InputError, SkyreidError
from skyreid.contract.files import FileLock
from skyreid.contract.migration import migrate, require_newest
from skyreid.contract.picture import Picture, PictureRequest
from skyreid.contract.receipt import Range, Status
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery.migrations import STEPS, check_own

_SEQ_MAX = 2**62  # what SQLite can compare; the wire allows 64 bits
_REASONS_MAX = 16
_NS_PER_HOUR = 3_600_000_000_000


@dataclass(frozen=True)
class Row:
    """A sighting on its way into the spool."""

    seq: int
    watermark_ns: int
    """What may be said together with it: no later sighting is older than this."""
    data: bytes
    """See ``contract.sighting.encode_sighting``."""


@dataclass(frozen=True)
class Stored:
    """A sighting that the spool holds."""

    id: int
    boot: str
    seq: int
    model: ModelRef
    stored_at_ns: int
    watermark_ns: int
    data: bytes


@dataclass(frozen=True)
class Stats:
    """What a spool holds."""

    sightings: int
    bytes: int
    pictures: int
    oldest_age_s: float
    """Of the oldest sighting, wall time; 0 when there is none."""
    boots: int


class Spool:
    """The sightings of one device that the server has not confirmed."""

    def __init__(self, path: Path, *, max_bytes: int = 256 << 20, max_age_h: float = 24.0) -> None:
        """Open or make the file, and begin a boot.

        Args:
            path: of the SQLite file; ``-wal``, ``-shm`` and ``.lock`` files lie beside it.
            max_bytes: sightings and pictures beyond it are dropped, oldest first.
            max_age_h: sightings and pictures stored longer ago are dropped.

        Raises:
            InputError: the file cannot be opened, is damaged, or another process has it.
        """
        path = Path(os.path.realpath(path))  # the lock is the file's, whatever it is called
        self.path, self._max_bytes = path, max_bytes
        self._max_age_ns = int(max_age_h * _NS_PER_HOUR)
        self._models: dict[ModelRef, int] = {}
        self._reasons: set[str] = set()
        self._lock = FileLock(
            path.with_name(f"{path.name}.lock"),
            of=f"spool {path}",
            remedy="give each device its own spool.path",
        )
        # check_same_thread off: opened by the main thread, then owned by the one that sends.
        try:
            self._db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
        except sqlite3.Error as error:
            self._lock.close()
            raise InputError(f"spool {path} cannot be opened: {error}") from error
        try:
            check_own(self._db, path)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            migrate(self._db, STEPS, what=f"spool {path}")
            with self._db:
                self.boot = self._begin()
            self._bytes = self._measure()
        except sqlite3.Error as error:
            self.close()
            # Full, locked or read-only: what is in it is good, and is to stay.
            good = isinstance(error, sqlite3.OperationalError)
            remedy = "" if good else ": move it away to start an empty one"
            raise InputError(f"spool {path} cannot be used ({error}){remedy}") from error
        except InputError:
            self.close()
            raise

    def append(
        self,
        rows: Sequence[Row],
        model: ModelRef,
        pictures: Iterable[tuple[Picture, bool]] = (),
        settled: Iterable[tuple[str, Range]] = (),
    ) -> dict[str, int]:
        """Write a group in one transaction; it is on disk when this returns.

        Args:
            rows: sightings of this boot in order of seq.
            model: what made their embeddings.
            pictures: pictures, each with whether it is to be sent.
            settled: what receipts say; those sightings are deleted.

        Returns:
            What was dropped, by reason: ``spool_full``, ``spool_old``, ``rejected``.

        Raises:
            SkyreidError: the disk is full or the file is gone.
        """
        now = time.time_ns()
        dropped: dict[str, int] = {}
        try:
            with self._db:
                if rows:
                    number = self._model(model)
                    self._db.executemany(
                        "INSERT INTO sighting (boot, seq, model, stored_at_ns, watermark_ns, bytes)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        [(self.boot, r.seq, number, now, r.watermark_ns, r.data) for r in rows],
                    )
                    self._bytes += sum(len(r.data) for r in rows)
                for picture, wanted in pictures:
                    self._put(picture, wanted, now)
                for boot, span in settled:
                    count = self._settle(boot, span)
                    if span.status is Status.REJECTED and count and not span.reason:
                        dropped["rejected"] = dropped.get("rejected", 0) + count
                    elif span.status is Status.REJECTED and count:
                        reason = self._reason(span.reason)
                        dropped[reason] = dropped.get(reason, 0) + count
                self._trim(now, dropped)
        except sqlite3.Error as error:
            raise SkyreidError(f"spool {self.path} cannot be written: {error}") from error
        return dropped

    def after(self, last_id: int, limit: int, *, until_id: int | None = None) -> list[Stored]:
        """Sightings with an id above ``last_id`` (and not above ``until_id``), in order."""
        rows = self._db.execute(
            "SELECT s.id, s.boot, s.seq, m.reference, s.stored_at_ns, s.watermark_ns, s.bytes"
            " FROM sighting s JOIN model m ON m.id = s.model"
            " WHERE s.id > ? AND s.id <= ? ORDER BY s.id LIMIT ?",
            (last_id, until_id if until_id is not None else 2**62, limit),
        )
        return [
            Stored(i, boot, seq, ModelRef(**json.loads(model)), at, watermark, data)
            for i, boot, seq, model, at, watermark, data in rows
        ]

    def find(self, boot: str, first: int, last: int) -> list[tuple[int, int]]:
        """Id and seq of the sightings of a boot with a seq in a range, both ends included."""
        return self._db.execute(
            "SELECT id, seq FROM sighting WHERE boot = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (boot, min(first, _SEQ_MAX), min(last, _SEQ_MAX)),
        ).fetchall()

    def now_ns(self) -> int:
        """What a sighting that is stored now is dated."""
        return time.time_ns()

    def last_id_before(self, stored_at_ns: int) -> int:
        """Id of the latest sighting stored before a time; 0 when there is none."""
        row = self._db.execute(
            "SELECT id FROM sighting WHERE stored_at_ns < ? ORDER BY stored_at_ns DESC, id DESC"
            " LIMIT 1",
            (stored_at_ns,),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def last_id(self) -> int:
        """The highest id of a sighting that waits; 0 when there is none."""
        return int(self._db.execute("SELECT max(id) FROM sighting").fetchone()[0] or 0)

    def count(self) -> int:
        """How many sightings are waiting."""
        return int(self._db.execute("SELECT count(*) FROM sighting").fetchone()[0])

    def next_picture(self) -> Picture | None:
        """The picture that has waited longest among those to be sent."""
        row = self._db.execute(
            "SELECT boot, camera, track, seq, captured_at_ns, jpeg FROM picture WHERE wanted = 1"
            " ORDER BY stored_at_ns LIMIT 1"
        ).fetchone()
        return None if row is None else Picture(*row)

    def want_picture(self, request: PictureRequest) -> bool:
        """Mark a picture as to be sent; False where the spool does not have it."""
        with self._db:
            cursor = self._db.execute(
                "UPDATE picture SET wanted = 1 WHERE boot = ? AND camera = ? AND track = ?",
                (request.boot, request.camera, request.track),
            )
        return cursor.rowcount > 0

    def picture_sent(self, picture: Picture, *, keep: bool) -> None:
        """The broker has it: forget it, or keep it for another request."""
        where = " WHERE boot = ? AND camera = ? AND track = ? AND seq = ?"
        change = "UPDATE picture SET wanted = 0" if keep else "DELETE FROM picture"
        with self._db:
            self._db.execute(
                change + where, (picture.boot, picture.camera, picture.track, picture.seq)
            )
        self._bytes = self._measure()

    def stats(self) -> Stats:
        """What it holds now."""
        return _stats(self._db)

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._db.close()
        self._lock.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> str:
        known = dict(self._db.execute("SELECT name, value FROM spool"))
        counter = int(known.get("counter", "0")) + 1
        word = known.get("word") or secrets.token_hex(4)
        self._db.executemany(
            "INSERT OR REPLACE INTO spool VALUES (?, ?)",
            [("counter", str(counter)), ("word", word)],
        )
        return f"{counter}-{word}"

    def _model(self, model: ModelRef) -> int:
        if model not in self._models:
            text = json.dumps(asdict(model), sort_keys=True)
            self._db.execute("INSERT OR IGNORE INTO model (reference) VALUES (?)", (text,))
            row = self._db.execute("SELECT id FROM model WHERE reference = ?", (text,)).fetchone()
            self._models[model] = int(row[0])
        return self._models[model]

    def _reason(self, word: str) -> str:
        """Of a refusal; a server that has ever new ones does not fill a health message."""
        if len(self._reasons) < _REASONS_MAX:
            self._reasons.add(word)
        return f"rejected_{word}" if word in self._reasons else "rejected_other"

    def _put(self, picture: Picture, wanted: bool, now_ns: int) -> None:
        self._db.execute(
            "INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET seq = excluded.seq, stored_at_ns = excluded.stored_at_ns,"
            " captured_at_ns = excluded.captured_at_ns, jpeg = excluded.jpeg,"
            " wanted = max(wanted, excluded.wanted)",  # somebody may have asked already
            (
                picture.boot,
                picture.camera,
                picture.track,
                picture.seq,
                picture.captured_at_ns,
                now_ns,
                int(wanted),
                picture.jpeg,
            ),
        )
        self._bytes += len(picture.jpeg)  # a replaced one is counted until the next _measure

    def _settle(self, boot: str, span: Range) -> int:
        where = " FROM sighting WHERE boot = ? AND seq BETWEEN ? AND ?"
        values = (boot, min(span.first, _SEQ_MAX), min(span.last, _SEQ_MAX))
        size = self._db.execute("SELECT total(length(bytes))" + where, values).fetchone()[0]
        self._bytes -= int(size)
        return self._db.execute("DELETE" + where, values).rowcount

    def _trim(self, now_ns: int, dropped: dict[str, int]) -> None:
        oldest = (now_ns - self._max_age_ns,)
        count = self._db.execute("DELETE FROM sighting WHERE stored_at_ns < ?", oldest).rowcount
        self._db.execute("DELETE FROM picture WHERE stored_at_ns < ?", oldest)
        if count:
            dropped["spool_old"] = dropped.get("spool_old", 0) + count
            self._bytes = self._measure()
        if self._bytes <= self._max_bytes:
            return
        # Pictures go first: they are nice to have, sightings are the device's word.
        self._bytes = self._measure()
        while self._bytes > self._max_bytes:
            cursor = self._db.execute(
                "DELETE FROM picture WHERE rowid IN"
                " (SELECT rowid FROM picture ORDER BY stored_at_ns LIMIT 16)"
            )
            if cursor.rowcount == 0:
                break
            dropped["spool_full_picture"] = dropped.get("spool_full_picture", 0) + cursor.rowcount
            self._bytes = self._measure()
        while self._bytes > self._max_bytes:
            row = self._db.execute(
                "SELECT id, length(bytes) FROM sighting ORDER BY id LIMIT 1"
            ).fetchone()
            if row is None:
                break
            self._db.execute("DELETE FROM sighting WHERE id = ?", (row[0],))
            self._bytes -= int(row[1])
            dropped["spool_full"] = dropped.get("spool_full", 0) + 1

    def _measure(self) -> int:
        row = self._db.execute(
            "SELECT (SELECT total(length(bytes)) FROM sighting)"
            " + (SELECT total(length(jpeg)) FROM picture)"
        ).fetchone()
        return int(row[0])


def read_stats(path: Path) -> Stats:
    """Look into a spool without taking it; a running process may have it.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"spool {path} does not exist")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            check_own(database, path)
            by = "run skyreid-edge run with it"
            require_newest(database, STEPS, what=f"spool {path}", by=by)
            return _stats(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise InputError(f"spool {path} cannot be read: {error}") from error


def _stats(database: sqlite3.Connection) -> Stats:
    count, size, oldest, boots = database.execute(
        "SELECT count(*), total(length(bytes)), min(stored_at_ns), count(DISTINCT boot)"
        " FROM sighting"
    ).fetchone()
    pictures = database.execute("SELECT count(*) FROM picture").fetchone()[0]
    age_s = max((time.time_ns() - oldest) / 1e9, 0.0) if oldest else 0.0
    return Stats(int(count), int(size), int(pictures), age_s, int(boots))
