"""What a device does so that nothing of people lies on its disk in clear.

Sightings and pictures come into the spool sealed (``contract.sealed``). What lies in it in clear,
of a time before there was a key, is sealed where it lies; and no file of the process's memory is
written when it dies.
"""

from __future__ import annotations

import ctypes
import glob
import logging
import resource
import sqlite3
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.contract.sealed import MAGIC, Sealer, about_picture, about_sighting

log = logging.getLogger(__name__)

_SET_DUMPABLE = 4  # prctl(2)
_CLEAR = f"substr({{}}, 1, {len(MAGIC)}) <> x'{MAGIC.hex()}'"


def keep_no_core() -> None:
    """A core file would have pictures, embeddings and the key of this run's records.

    The limit alone is not asked where the system hands cores to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is None or prctl(_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("this system may write the memory of a process when it dies")


def seal_file(db: sqlite3.Connection, path: Path, sealer: Sealer | None) -> bool:
    """Seal what a spool holds in clear, and have nothing left of it in the file.

    A boot is sealed as a whole: its sightings travel together. Without a ``sealer`` it is only
    noted that what comes now lies in clear.

    Returns:
        Whether nothing lies in clear now, in the file or in those that were set aside before.

    Raises:
        InputError: what it has was sealed as another device, or one of another site.
        sqlite3.Error: it cannot be written; what is not sealed yet stays as it is.
    """
    if sealer is None:
        with db:
            db.execute("DELETE FROM spool WHERE name = 'sealed'")
        return False
    _require_own(db, path, sealer)
    db.execute("PRAGMA secure_delete = ON").fetchall()
    count = sum(_seal_sightings(db, sealer, boot) for boot in _boots(db))
    count += _seal_pictures(db, sealer)
    known = db.execute("SELECT value FROM spool WHERE name = 'sealed'").fetchone()
    aside, held = known[0].split("\n") if known else [], 0
    if count or not known:
        # What was deleted in clear lies in free pages and in the log until they are used again.
        db.execute("VACUUM")
        (held, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        aside = sorted(p.name for p in path.parent.glob(f"{glob.escape(path.name)}.damaged-*"))
        with db:
            db.execute("DELETE FROM spool WHERE name = 'sealed'")
            if not held:
                db.execute("INSERT INTO spool VALUES ('sealed', ?)", ("\n".join(aside),))
    if count:
        log.info("spool %s: %d sightings and pictures that lay in clear are sealed", path, count)
    if held:
        log.warning(
            "spool %s: somebody reads it, and what was in clear is in it still; tried again", path
        )
    if left := [name for name in aside if name and (path.parent / name).exists()]:
        log.warning("spool %s: set aside and not sealed, delete them: %s", path, ", ".join(left))
    return not (held or left)


def is_sealed(db: sqlite3.Connection) -> bool:
    """Whether a spool has nothing in clear, its free pages and its log neither."""
    return db.execute("SELECT 1 FROM spool WHERE name = 'sealed'").fetchone() is not None


def _require_own(db: sqlite3.Connection, path: Path, sealer: Sealer) -> None:
    """The server opens a record for whom it was sealed: as another's it is refused for good."""
    was = db.execute("SELECT value FROM spool WHERE name = 'sealed_as'").fetchone()
    if was is not None and was[0] == sealer.owner:
        return
    (count,) = db.execute(
        f"SELECT (SELECT count(*) FROM sighting WHERE NOT {_CLEAR.format('bytes')})"
        f" + (SELECT count(*) FROM picture WHERE NOT {_CLEAR.format('jpeg')})"
    ).fetchone()
    if was is not None and count:
        raise InputError(
            f"spool {path} has {count} sightings and pictures that were sealed as {was[0]}, which "
            f"as {sealer.owner} nobody opens: deliver them under that name, or move the file away"
        )
    with db:
        db.execute("INSERT OR REPLACE INTO spool VALUES ('sealed_as', ?)", (sealer.owner,))


def _boots(db: sqlite3.Connection) -> list[str]:
    clear = _CLEAR.format("bytes")
    return [boot for (boot,) in db.execute(f"SELECT DISTINCT boot FROM sighting WHERE {clear}")]


def _seal_sightings(db: sqlite3.Connection, sealer: Sealer, boot: str) -> int:
    clear = _CLEAR.format("bytes")
    with db:
        rows = db.execute(
            f"SELECT id, seq FROM sighting WHERE boot = ? AND {clear}", (boot,)
        ).fetchall()
        for number, seq in rows:
            (data,) = db.execute("SELECT bytes FROM sighting WHERE id = ?", (number,)).fetchone()
            sealed = sealer.seal(data, about_sighting(boot, seq), seq)
            db.execute("UPDATE sighting SET bytes = ? WHERE id = ?", (sealed, number))
    return len(rows)


def _seal_pictures(db: sqlite3.Connection, sealer: Sealer) -> int:
    with db:
        rows = db.execute(
            "SELECT rowid, boot, camera, track, seq, captured_at_ns FROM picture"
            f" WHERE {_CLEAR.format('jpeg')}"
        ).fetchall()
        for number, *key in rows:
            (jpeg,) = db.execute("SELECT jpeg FROM picture WHERE rowid = ?", (number,)).fetchone()
            sealed = sealer.seal(jpeg, about_picture(*key), key[3])
            db.execute("UPDATE picture SET jpeg = ? WHERE rowid = ?", (sealed, number))
    return len(rows)
