"""What a device does so that nothing of people lies on its disk in clear.

Sightings and pictures come into the spool sealed (``contract.sealed``). What lies in it in clear,
of a time before there was a key, is sealed where it lies; and no file of the process's memory is
written when it dies.
"""

from __future__ import annotations

import logging
import resource
import sqlite3
from pathlib import Path

from skyreid.contract.sealed import MAGIC, Sealer, about_picture, about_sighting

log = logging.getLogger(__name__)

_CLEAR = f"substr({{}}, 1, {len(MAGIC)}) <> x'{MAGIC.hex()}'"


def keep_no_core() -> None:
    """A core file would have pictures, embeddings and the key of this run's records."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def seal_file(db: sqlite3.Connection, path: Path, sealer: Sealer | None) -> None:
    """Seal what a spool holds in clear, and have nothing left of it in the file.

    A boot is sealed as a whole: its sightings travel together. Without a ``sealer`` it is only
    noted that what comes now lies in clear.

    Raises:
        sqlite3.Error: it cannot be written; what is not sealed yet stays as it is.
    """
    if sealer is None:
        with db:
            db.execute("DELETE FROM spool WHERE name = 'sealed'")
        return
    db.execute("PRAGMA secure_delete = ON").fetchall()
    count = sum(_seal_sightings(db, sealer, boot) for boot in _boots(db))
    count += _seal_pictures(db, sealer)
    if count or not db.execute("SELECT 1 FROM spool WHERE name = 'sealed'").fetchone():
        # What was deleted in clear lies in free pages and in the log until they are used again.
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with db:
            db.execute("INSERT OR REPLACE INTO spool VALUES ('sealed', ?)", (sealer.key,))
    if count:
        log.info("spool %s: %d sightings and pictures that lay in clear are sealed", path, count)


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
