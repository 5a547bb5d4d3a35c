"""A scrub: every row of a journal read once beside the work, and held against its checksum."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from skyreid.server.store.journal import checksum

ROWS = 64
"""Read in one turn."""
# Of each table: how many of its columns stand before the body, and which the checksum is of.
_TABLES = (("sighting", 12, slice(1, 12)), ("decision", 2, slice(0, 2)))


def scrub(db: sqlite3.Connection) -> Iterator[None]:
    """Some rows at each turn; ends when all were read.

    Raises:
        sqlite3.DatabaseError: one is not as it was written, or its page is none.
    """
    for table, body, columns in _TABLES:
        after = 0
        while rows := db.execute(
            f"SELECT * FROM {table} WHERE id > ? ORDER BY id LIMIT {ROWS}", (after,)
        ).fetchall():
            for row in rows:
                data = row[body]
                if isinstance(data, str):
                    data = data.encode()
                if row[-1] is not None and row[-1] != checksum(row[columns], data):
                    raise sqlite3.DatabaseError(f"{table} {row[0]} is malformed")
            after = rows[-1][0]
            yield
