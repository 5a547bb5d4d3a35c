"""A backup of a journal while its server runs, and its restoring: the erased stay erased."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.contract.files import FileLock
from skyreid.server.owner import as_owner
from skyreid.server.store.erasures import list_of
from skyreid.server.store.faults import cannot_open, fault_of
from skyreid.server.store.gallery import gallery_of
from skyreid.server.store.journal import open_to_read
from skyreid.server.store.mark import closed_of, mark_of
from skyreid.server.store.repair import verify

PAGES = 4096
"""Copied before the server gets its turn."""


def backup(path: Path, target: Path) -> None:
    """Copy a journal, whole as of one moment; its server may be running.

    The gallery is not copied: a start makes it anew from the journal.

    Raises:
        InputError: there is no journal of this version, ``target`` exists, its folder does not, or
            it cannot be written.
    """
    if target.exists():
        raise InputError(f"{target} exists: choose another name")
    if not target.parent.is_dir():  # of a mount that is not there, a folder would be made
        raise InputError(f"there is no folder {target.parent}: make it, or mount what it is of")
    with open_to_read(path) as db, files.replacing(target) as partial:
        try:
            with closing(sqlite3.connect(partial)) as copy:
                db.backup(copy, pages=PAGES)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file
        except sqlite3.Error as error:
            raise InputError(f"cannot back up {path}: {error}") from error


def restore(source: Path, path: Path) -> Path | None:
    """Put a backup in the place of a journal, whose server does not run.

    The list of erased keys beside ``path`` stays, and the next start erases them from what was
    restored. Returns where the journal that was there is kept now.

    Raises:
        InputError: the backup is damaged or no journal of this version, or the server runs.
    """
    trouble = verify(source).trouble
    if trouble:
        why = " ".join(trouble[0].split())
        raise InputError(f"backup {source} is damaged: {why}; nothing was changed")
    path = Path(os.path.realpath(path))
    lock = path.with_name(f"{path.name}.lock")
    listed = _list_of(source, path)
    with (
        open(source, "rb") as copied,  # which only root may be able to read
        as_owner(path.parent),
        FileLock(lock, of=f"journal {path}", remedy="stop the server first"),
    ):
        kept = None
        # Whatever ends it before its last step, a full disk or a kill, leaves the journal in place.
        with files.replacing(path) as partial:
            with open(partial, "wb") as new:
                shutil.copyfileobj(copied, new)
            _list_too(listed, path)
            shutil.rmtree(gallery_of(path), ignore_errors=True)  # made anew, of either of the two
            if path.exists():
                stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
                kept = path.with_name(f"{path.name}.before-restore-{stamp}")
                _into_one_file(path)
                for old in (path, *_of_sqlite(path)[:1]):
                    if old.exists():  # of a damaged one its write-ahead log too
                        os.link(old, f"{kept}{old.name[len(path.name) :]}")
            for beside in (mark_of(path), closed_of(path), *_of_sqlite(path)):
                beside.unlink(missing_ok=True)
    return kept


def _list_of(source: Path, path: Path) -> bytes:
    """A backup that is kept elsewhere may have a list of erased keys of its own."""
    theirs = list_of(source)
    return theirs.read_bytes() if theirs.is_file() and theirs != list_of(path) else b""


def _list_too(listed: bytes, path: Path) -> None:
    if listed:
        with open(list_of(path), "ab") as ours:
            ours.write(b"\n" + listed)
            ours.flush()
            os.fsync(ours.fileno())


def _into_one_file(path: Path) -> None:
    """Bring a journal's write-ahead log into it; a damaged one is left as it is.

    Raises:
        InputError: somebody reads it just now, or it cannot be opened.
    """
    try:
        with closing(sqlite3.connect(path)) as db:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        if fault_of(error) == "damaged":
            return
        raise cannot_open(path, error) from error
    if busy:
        raise InputError(f"journal {path} is being read: end what reads it; nothing was changed")


def _of_sqlite(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))
