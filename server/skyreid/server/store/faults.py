"""What SQLite's errors mean for whoever runs the server: full, locked, damaged, or the disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

from skyreid.contract.errors import InputError

Fault = Literal["full", "locked", "damaged", "disk"]
# Primary result codes, https://www.sqlite.org/rescode.html
_CODES: dict[int, Fault] = {5: "locked", 6: "locked", 11: "damaged", 13: "full", 26: "damaged"}
# Python 3.10 has no codes yet.
_WORDS: tuple[tuple[str, Fault], ...] = (
    ("is full", "full"),
    ("is locked", "locked"),
    ("malformed", "damaged"),
    ("not a database", "damaged"),
    ("decode to UTF-8", "damaged"),  # Python's own, without a code
)
REMEDIES: dict[Fault, str] = {
    "full": "make room on its disk",
    "locked": "another program has it open: end that one",
    "damaged": "the next start keeps what is good of it",
    "disk": "look at its disk and at who may write there",
}
"""What helps against each."""


class DamagedJournal(InputError):
    """A journal that is not as it was written."""


def damaged_journal(path: object, why: object) -> DamagedJournal:
    """The error, with its remedies."""
    return DamagedJournal(
        f"journal {path} is damaged: {why}; restore a copy of it, keep what is good "
        f"(skyreid-server journal repair {path}), or move it away to start an empty one"
    )


def fault_of(error: sqlite3.Error) -> Fault:
    """The kind of an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _CODES.get(code & 0xFF, "disk")
    return next((fault for words, fault in _WORDS if words in str(error)), "disk")


def cannot_open(path: Path, error: sqlite3.Error | OSError) -> InputError:
    """The error of a journal that cannot be opened, with what to do."""
    fault = "disk" if isinstance(error, OSError) else fault_of(error)
    if fault == "damaged":
        return damaged_journal(path, error)
    return InputError(f"journal {path} cannot be opened: {error}; {REMEDIES[fault]}")
