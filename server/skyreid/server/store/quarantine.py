"""Stored sightings that matching failed on: kept with the traceback, and not shown to it again.

A sighting is in the journal for good, and each start shows the matcher what is in the journal: one
on which it fails would end every life of the server. Who is held here can be tried again after a
release that mends it, or dropped, which leaves it stored and unmatched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

SingleKey = tuple[str, str, int]
"""(device, boot, seq)."""
SHOWN = (
    "NOT EXISTS (SELECT 1 FROM quarantine q WHERE (q.device, q.boot, q.seq) = "
    "(sighting.device, sighting.boot, sighting.seq))"
)
"""Of the sightings: those that matching is shown."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Held:
    """One sighting in quarantine, with where it was seen."""

    key: SingleKey
    camera: str
    track: int
    captured_at_ns: int
    at_ns: int
    """When it was set aside."""
    state: str
    """``held``, ``retry`` or ``dropped``."""
    traceback: str

    def to_json(self) -> dict[str, Any]:
        """As ``quarantine list --json`` shows it."""
        device, boot, seq = self.key
        return {
            "device": device,
            "boot": boot,
            "seq": seq,
            "camera": self.camera,
            "track": self.track,
            "captured_at_ns": self.captured_at_ns,
            "at_ns": self.at_ns,
            "state": self.state,
            "traceback": self.traceback,
        }


def hold(db: sqlite3.Connection, keys: Sequence[SingleKey], at_ns: int, traceback: str) -> None:
    """Set stored sightings aside (within a transaction)."""
    db.executemany(
        "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, 'held')",
        [(*key, at_ns, traceback) for key in keys],
    )


def count_held(db: sqlite3.Connection) -> int:
    """How many are held and neither dropped nor to be tried again."""
    return int(db.execute("SELECT count(*) FROM quarantine WHERE state = 'held'").fetchone()[0])


def take_retries(db: sqlite3.Connection) -> list[SingleKey]:
    """Let go of those that are to be tried again (within a transaction); returns their keys."""
    keys = db.execute("SELECT device, boot, seq FROM quarantine WHERE state = 'retry'").fetchall()
    db.execute("DELETE FROM quarantine WHERE state = 'retry'")
    return keys


def read_held(db: sqlite3.Connection) -> list[Held]:
    """Everything in quarantine, oldest first."""
    rows = db.execute(
        "SELECT q.device, q.boot, q.seq, s.camera, s.track, s.captured_at_ns, q.at_ns, q.state, "
        "q.traceback FROM quarantine q JOIN sighting s USING (device, boot, seq) ORDER BY q.at_ns"
    )
    return [Held((device, boot, seq), *rest) for device, boot, seq, *rest in rows]


def mark(db: sqlite3.Connection, key: SingleKey | None, state: str) -> int:
    """Have one (None = every one held) tried again or dropped; returns how many there were."""
    which, values = ("state = 'held'", ()) if key is None else (
        "(device, boot, seq) = (?, ?, ?)", key
    )  # fmt: skip
    return db.execute(f"UPDATE quarantine SET state = ? WHERE {which}", (state, *values)).rowcount


def culprit(items: Sequence[_T], fails: Callable[[Sequence[_T]], bool]) -> int:
    """The index of an item with which the items before it fail, and without it they do not.

    Args:
        items: which fail together; none of them do not.
        fails: called about log2(N) times.
    """
    passes, failing = 0, len(items)  # as many of the first items
    while failing - passes > 1:
        middle = (passes + failing) // 2
        if fails(items[:middle]):
            failing = middle
        else:
            passes = middle
    return failing - 1
