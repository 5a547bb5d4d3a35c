"""Store and forward: what no receipt has confirmed yet, in SQLite; it survives kill -9.

A sighting is written before it is sent and deleted by the server's receipt, or by the cap on bytes
or age, oldest first and counted; a full disk is a lower cap. Writes come in groups, one fsync a
group. One thread owns a spool. Ages are in the spool's own time (``now_ns``).

**Boot**: ``{counter}-{hex}``: a counter that goes up each time the spool is opened for a run, and a
random word, so that no spool, lost, copied or restored, ever uses a key twice.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from skyreid.contract.errors import SkyreidError
from skyreid.contract.picture import Picture, PictureRequest
from skyreid.contract.receipt import Range, Status
from skyreid.contract.sealed import Sealer
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery import spool_file
from skyreid.edge.delivery.rows import Row, Stored
from skyreid.edge.delivery.spool_file import SpoolFile, Stats, is_damage, stats_of

log = logging.getLogger(__name__)

_SEQ_MAX = 2**62  # what SQLite can compare; the wire allows 64 bits
_REASONS_MAX = 16
_STEP_NS = 60_000_000_000
_TRIES = 4
_NS_PER_HOUR = 3_600_000_000_000


class Spool:
    """The sightings of one device that the server has not confirmed."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 256 << 20,
        max_age_h: float = 24.0,
        sealer: Sealer | None = None,
    ) -> None:
        """Open or make the file, and begin a boot.

        Args:
            path: of the SQLite file; ``-wal``, ``-shm`` and ``.lock`` files lie beside it.
            max_bytes: sightings and pictures beyond it are dropped, oldest first.
            max_age_h: sightings and pictures stored longer ago are dropped.
            sealer: seals what the file has in clear; what is appended is sealed already.

        Raises:
            InputError: the file cannot be opened, or another process has it.
        """
        self._max_bytes, self._max_age_ns = max_bytes, int(max_age_h * _NS_PER_HOUR)
        self._models: dict[ModelRef, int] = {}
        self._reasons: set[str] = set()
        self._file = SpoolFile(path, sealer)
        self.path, self._db = self._file.path, self._file.db
        self._told_aside, self._tight = 0, False
        self.boot = f"{self._file.counter}-{secrets.token_hex(4)}"
        """Of this run."""
        self.clock_steps = 0
        """How often the wall clock was put right by more than a minute."""
        try:
            self._offset_ns = spool_file.resume(self._file.kept)
            self._bytes = self._measure()
        except (sqlite3.Error, ValueError) as error:
            self._renew(error)
            self._offset_ns = spool_file.resume(None)
        self._wall_offset_ns = time.time_ns() - spool_file.running_ns()

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
            What was dropped, by reason: ``spool_full``, ``spool_full_picture``, ``spool_old``,
            ``rejected``, ``rejected_{reason}``; ``spool_unwritten`` (all of ``rows``) where a full
            disk took nothing at all; ``spool_damaged`` where a new file had to begin.

        Raises:
            SkyreidError: the file cannot be written, for another reason than a full disk.
        """
        pictures, settled = list(pictures), list(settled)
        before = self._wall_offset_ns
        self._wall_offset_ns = time.time_ns() - spool_file.running_ns()
        if abs(step_ns := self._wall_offset_ns - before) > _STEP_NS:
            self.clock_steps += 1
            log.warning("clock put right by %+.0f s: nothing is older for it", step_ns / 1e9)
        dropped: dict[str, int] = {}
        try:
            if self._file.seal_tried_s is not None:
                self._file.seal_again()
            self._write(rows, model, pictures, settled, dropped)
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._forget()
            if is_damage(error):
                self._renew(error)
                dropped.clear()
                self._write(rows, model, pictures, (), dropped)
            elif self._file.is_full(error):
                dropped = self._squeeze(rows, model, settled)
                if pictures:
                    dropped["spool_full_picture"] = len(pictures)
            else:
                raise SkyreidError(f"spool {self.path} cannot be written: {error}") from error
        else:
            self._tight = self._tight and not self._file.grow_again()
        if self._told_aside < self._file.set_aside:
            dropped["spool_damaged"] = self._file.set_aside - self._told_aside
            self._told_aside = self._file.set_aside
        return dropped

    @property
    def sealed(self) -> bool:
        """Whether nothing of people lies in clear; any thread."""
        return self._file.sealed

    def _write(
        self,
        rows: Sequence[Row],
        model: ModelRef,
        pictures: Iterable[tuple[Picture, bool]],
        settled: Iterable[tuple[str, Range]],
        dropped: dict[str, int],
        *,
        drop_bytes: int = 0,
    ) -> None:
        """One transaction: all of it is on disk when this returns, or nothing is."""
        now = self.now_ns()
        with self._db:
            for boot, span in settled:
                count = self._settle(boot, span)
                if span.status is Status.REJECTED and count and not span.reason:
                    dropped["rejected"] = dropped.get("rejected", 0) + count
                elif span.status is Status.REJECTED and count:
                    reason = self._reason(span.reason)
                    dropped[reason] = dropped.get(reason, 0) + count
            if drop_bytes:
                self._drop_oldest(self._bytes - drop_bytes, dropped)
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
            self._trim(now, dropped)
            here = spool_file.running_ns()
            kept = {"at_ns": now, "running_ns": here, "machine": spool_file.MACHINE}
            self._db.execute("INSERT OR REPLACE INTO spool VALUES ('time', ?)", (json.dumps(kept),))

    def _squeeze(
        self, rows: Sequence[Row], model: ModelRef, settled: Sequence[tuple[str, Range]]
    ) -> dict[str, int]:
        """Write on a full disk: receipts first, then in the place of the oldest."""
        self._tight = True
        dropped: dict[str, int] = {}
        need = 2 * sum(len(row.data) for row in rows)
        for attempt in range(_TRIES + 1):
            change: dict[str, int] = {}
            last = attempt == _TRIES
            try:
                self._file.make_room()
                if settled:
                    self._write((), model, (), settled, change)
                    dropped, change, settled = change, {}, ()
                self._write(() if last else rows, model, (), (), change, drop_bytes=need << attempt)
            except sqlite3.Error as error:
                self._forget()
                if not self._file.is_full(error):
                    raise SkyreidError(f"spool {self.path} cannot be written: {error}") from error
            else:
                for reason, count in change.items():
                    dropped[reason] = dropped.get(reason, 0) + count
                if not last:
                    return dropped
                break
        if rows:
            dropped["spool_unwritten"] = len(rows)
        return dropped

    def _forget(self) -> None:
        """A transaction came to nothing: so did what was counted in it."""
        self._models.clear()
        try:
            self._bytes = self._measure()
        except sqlite3.Error:
            self._bytes = 0  # of a file that is about to be set aside

    def _renew(self, error: Exception) -> None:
        """A damaged file is set aside; the boot goes on in a new one."""
        self._file.renew(error)
        self._db = self._file.db
        self._models.clear()
        self._bytes = 0

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if not is_damage(error):
                raise SkyreidError(f"spool {self.path} cannot be read: {error}") from error
            self._renew(error)
            return self._db.execute(sql, values).fetchall()

    def _change(self, sql: str, values: Sequence[Any]) -> int:
        """Rows that were changed, in a transaction of its own; 0 where a full disk takes none."""
        for _ in range(2):
            try:
                with self._db:
                    return self._db.execute(sql, values).rowcount
            except sqlite3.Error as error:
                if is_damage(error):
                    self._renew(error)
                elif not self._file.is_full(error):
                    raise SkyreidError(f"spool {self.path} cannot be written: {error}") from error
                self._file.make_room()
        return 0

    def after(self, last_id: int, limit: int, *, until_id: int | None = None) -> list[Stored]:
        """Sightings with an id above ``last_id`` (and not above ``until_id``), in order."""
        rows = self._read(
            "SELECT s.id, s.boot, s.seq, m.reference, s.stored_at_ns, s.watermark_ns, s.bytes"
            " FROM sighting s JOIN model m ON m.id = s.model"
            " WHERE s.id > ? AND s.id <= ? ORDER BY s.id LIMIT ?",
            (last_id, until_id if until_id is not None else 2**62, limit),
        )
        try:
            return [
                Stored(i, boot, seq, ModelRef(**json.loads(model)), int(at), int(mark), bytes(data))
                for i, boot, seq, model, at, mark, data in rows
            ]
        except (ValueError, TypeError) as error:
            self._renew(error)
            return []

    def find(self, boot: str, first: int, last: int) -> list[tuple[int, int]]:
        """Id and seq of the sightings of a boot with a seq in a range, both ends included."""
        return self._read(
            "SELECT id, seq FROM sighting WHERE boot = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (boot, min(first, _SEQ_MAX), min(last, _SEQ_MAX)),
        )

    def now_ns(self) -> int:
        """The spool's time, by which sightings are dated; it only goes on."""
        return spool_file.running_ns() + self._offset_ns

    def last_id_before(self, stored_at_ns: int) -> int:
        """Id of the latest sighting stored before a time; 0 when there is none."""
        rows = self._read(
            "SELECT id FROM sighting WHERE stored_at_ns < ? ORDER BY stored_at_ns DESC, id DESC"
            " LIMIT 1",
            (stored_at_ns,),
        )
        return int(rows[0][0]) if rows else 0

    def last_id(self) -> int:
        """The highest id of a sighting that waits; 0 when there is none."""
        return int(self._read("SELECT max(id) FROM sighting")[0][0] or 0)

    def count(self) -> int:
        """How many sightings are waiting."""
        return int(self._read("SELECT count(*) FROM sighting")[0][0])

    def next_picture(self) -> Picture | None:
        """The picture that has waited longest among those to be sent."""
        rows = self._read(
            "SELECT boot, camera, track, seq, captured_at_ns, jpeg FROM picture WHERE wanted = 1"
            " ORDER BY stored_at_ns LIMIT 1"
        )
        return Picture(*rows[0]) if rows else None

    def want_picture(self, request: PictureRequest) -> bool:
        """Mark a picture as to be sent; False where the spool does not have it."""
        change = "UPDATE picture SET wanted = 1 WHERE boot = ? AND camera = ? AND track = ?"
        return self._change(change, (request.boot, request.camera, request.track)) > 0

    def picture_sent(self, picture: Picture, *, keep: bool) -> None:
        """The broker has it: forget it, or keep it for another request."""
        change = "UPDATE picture SET wanted = 0" if keep else "DELETE FROM picture"
        where = " WHERE boot = ? AND camera = ? AND track = ? AND seq = ?"
        key = picture.boot, picture.camera, picture.track, picture.seq
        if self._change(change + where, key):
            self._bytes = self._measure()

    def stats(self) -> Stats:
        """What it holds now."""
        return stats_of(self._db, self.now_ns())

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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

    def _put(self, p: Picture, wanted: bool, now_ns: int) -> None:
        self._db.execute(
            "INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET seq = excluded.seq, stored_at_ns = excluded.stored_at_ns,"
            " captured_at_ns = excluded.captured_at_ns, jpeg = excluded.jpeg,"
            " wanted = max(wanted, excluded.wanted)",  # somebody may have asked already
            (p.boot, p.camera, p.track, p.seq, p.captured_at_ns, now_ns, int(wanted), p.jpeg),
        )
        self._bytes += len(p.jpeg)  # a replaced one is counted until the next _measure

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
        self._drop_oldest(self._max_bytes, dropped)

    def _drop_oldest(self, until_bytes: int, dropped: dict[str, int]) -> None:
        """Pictures go first: they are nice to have, sightings are the device's word."""
        self._bytes = self._measure()
        while self._bytes > until_bytes:
            count = self._db.execute(
                "DELETE FROM picture WHERE rowid IN"
                " (SELECT rowid FROM picture ORDER BY stored_at_ns LIMIT 16)"
            ).rowcount
            if count == 0:
                break
            dropped["spool_full_picture"] = dropped.get("spool_full_picture", 0) + count
            self._bytes = self._measure()
        while self._bytes > until_bytes:
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
