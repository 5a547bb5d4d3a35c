"""Migrations of a SQLite file: ``PRAGMA user_version`` and a list of steps. No ORM.

Step n brings a file of version n to version n + 1; the first one makes the tables of an empty file.
A step is never changed after a release: what must change is another step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence, Set

from skyreid.contract.errors import InputError

Step = Callable[[sqlite3.Connection], None]


def migrate(db: sqlite3.Connection, steps: Sequence[Step], *, what: str) -> None:
    """Bring a file to the newest version, in one transaction: all of it or nothing.

    Args:
        db: a connection that is in no transaction.
        steps: from version 0 on.
        what: the file is, for messages: ``journal journal.sqlite``.

    Raises:
        InputError: a newer release wrote the file; what a step raises.
        sqlite3.Error: the file cannot be written, or is none of SQLite's.
    """
    if require_known(db, steps, what=what) == len(steps):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version(db) :]:
            step(db)
        db.execute(f"PRAGMA user_version = {len(steps)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def require_known(db: sqlite3.Connection, steps: Sequence[Step], *, what: str) -> int:
    """The version of a file; an empty one has 0.

    Raises:
        InputError: a newer release wrote the file.
    """
    found = version(db)
    if found < 0:
        raise InputError(f"{what} has version {found}, which no release wrote: move the file away")
    if found > len(steps):
        raise InputError(
            f"{what} has version {found}, this release knows up to {len(steps)}: a newer release "
            "wrote it, use that one or move the file away"
        )
    return found


def require_newest(db: sqlite3.Connection, steps: Sequence[Step], *, what: str, by: str) -> None:
    """For who only reads: the file must be as this release writes it.

    Args:
        db: a connection, read-only perhaps.
        steps: as for `migrate`.
        what: the file is.
        by: the command that brings an older file up to date.

    Raises:
        InputError: another release wrote the file.
    """
    found = require_known(db, steps, what=what)
    if found < len(steps):
        raise InputError(
            f"{what} has version {found}, this release reads {len(steps)}: "
            f"{by} once, which brings it up to date"
        )


def require_own(db: sqlite3.Connection, marks: Set[str], *, what: str, remedy: str) -> None:
    """Refuse another program's file, before anything is changed in it: its version says nothing.

    Args:
        db: a connection.
        marks: tables that every version of our file has.
        what: the file is.
        remedy: for the error.

    Raises:
        InputError: tables or a version are in it, and not ours.
        sqlite3.Error: it is none of SQLite's.
    """
    found = tables(db)
    if (found or version(db)) and not marks <= found:
        kind = what.split()[0]
        has = f"has tables {', '.join(sorted(found))}" if found else "has no tables"
        raise InputError(f"{what} {has:.200} and is no {kind}: {remedy}")


def version(db: sqlite3.Connection) -> int:
    """``PRAGMA user_version``: how many steps a file has behind it."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def execute_all(db: sqlite3.Connection, statements: str) -> None:
    """Several statements, each ended by ``;`` and a line break, within the transaction.

    ``executescript`` would commit first.
    """
    for statement in statements.split(";\n"):
        if statement.strip():
            db.execute(statement)


def tables(db: sqlite3.Connection) -> set[str]:
    """Names of a file's tables, SQLite's own left out."""
    rows = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\'"
    )
    return {name for (name,) in rows}
