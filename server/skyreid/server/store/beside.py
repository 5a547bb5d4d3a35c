"""A journal beside its server, which may be running: what others read and an operator writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.store import erasures
from skyreid.server.store.erasures import Asked, Target
from skyreid.server.store.journal import HAD_TOKENS, open_to_read
from skyreid.server.store.migrations import check_own
from skyreid.server.store.reading import log_of


def read_decisions(path: Path) -> list[Decision]:
    """The log of a journal, in order; the server may be running.

    Raises:
        InputError: the file is missing or is not a journal of this version.
    """
    with open_to_read(path) as db:
        gone = db.execute("SELECT value FROM meta WHERE key = 'forgotten_decisions'").fetchone()
        log = list(log_of(db))
    if gone and int(gone[0]) and not _founds(log):
        raise InputError(f"journal {path}: its log is not whole, {gone[0]} decisions are forgotten")
    return log


def _founds(log: Sequence[Decision]) -> bool:
    """Whether a log can be replayed from its start."""
    try:
        identity.replay(log)
    except InputError:
        return False
    return True


def read_keys(path: Path) -> set[tuple[str, str, int]]:
    """The keys (device, boot, seq) of all stored sightings; the server may be running.

    Raises:
        InputError: the file is missing or is not a journal of this version.
    """
    with open_to_read(path) as db:
        return {tuple(row) for row in db.execute("SELECT device, boot, seq FROM sighting")}


def site_of(path: Path) -> str:
    """Whose journal it is.

    Raises:
        InputError: the file is missing or is not a journal of this version.
    """
    with open_to_read(path) as db:
        (site,) = db.execute("SELECT value FROM meta WHERE key = 'site'").fetchone()
    return str(site)


def had_tokens(path: Path) -> bool:
    """Whether anybody ever had a token: then nobody is let in without one, whatever was lost.

    Raises:
        InputError: the file is missing, or is not a journal.
    """
    with open_to_read(path) as db:
        return db.execute(f"SELECT 1 FROM meta WHERE key = '{HAD_TOKENS}'").fetchone() is not None


def note_tokens(path: Path) -> None:
    """Remember that somebody has a token, in a journal of any version.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as db:
            db.execute("PRAGMA busy_timeout = 5000")
            check_own(db, path)
            with db:
                db.execute(f"INSERT OR IGNORE INTO meta VALUES ('{HAD_TOKENS}', '1')")
    except sqlite3.Error as error:
        raise InputError(f"journal {path}: {error}") from error


@contextmanager
def open_to_write(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction beside the server, which may be running: for an operator's few rows.

    Raises:
        InputError: the file is missing, is not a journal of this version, or cannot be written.
    """
    with open_to_read(path):
        pass
    try:
        with closing(sqlite3.connect(path.resolve(), isolation_level=None)) as db:
            db.execute("PRAGMA busy_timeout = 5000")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(f"journal {path}: {error}") from error


def admit(db: sqlite3.Connection, device: str, at_ns: int) -> None:
    """Let a device in (within a transaction)."""
    db.execute("INSERT OR IGNORE INTO admitted VALUES (?, ?)", (device, at_ns))


def forget(db: sqlite3.Connection, device: str) -> None:
    """Let it in no more; its sightings stay (within a transaction)."""
    db.execute("DELETE FROM admitted WHERE device = ?", (device,))
    db.execute("DELETE FROM device WHERE device = ?", (device,))


def read_all(db: sqlite3.Connection) -> list[tuple[str, str | None, bool]]:
    """Name, camera and whether it was admitted by name, of every device that is known."""
    rows = db.execute(
        "SELECT device, camera, device IN (SELECT device FROM admitted) FROM device "
        "UNION SELECT device, NULL, 1 FROM admitted WHERE device NOT IN (SELECT device FROM device)"
        " ORDER BY 1"
    )
    return [(name, camera, bool(named)) for name, camera, named in rows]


def ask_erasure(path: Path, target: Target, reason: str, at_ns: int) -> int:
    """Have somebody erased: decided by this, carried out by the server; the request's number.

    Raises:
        InputError: as for `open_to_write`.
    """
    with open_to_write(path) as db:
        return erasures.ask(db, target, reason, at_ns)


def read_erasure(path: Path, number: int) -> Asked | None:
    """A request, by its number.

    Raises:
        InputError: as for `open_to_read`.
    """
    with open_to_read(path) as db:
        return next(iter(erasures.read(db, "id = ?", number)), None)
