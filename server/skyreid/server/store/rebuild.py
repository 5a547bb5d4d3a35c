"""Identities again, from sightings alone: for a log that was lost in parts, or other thresholds."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timezone
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.contract.files import FileLock
from skyreid.contract.identity_event import Return
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.matching.matcher import Matcher
from skyreid.server.store import snapshots
from skyreid.server.store.drop import drop_decisions
from skyreid.server.store.faults import fault_of
from skyreid.server.store.journal import Journal, put_decisions

Ask = Callable[[Sequence[Applied], bool], list[Applied]]
"""Given what was decided, and whether that is all: which returns follow."""
Asking = Callable[[sqlite3.Connection, Sequence[Return]], Ask]
"""Makes one for a journal, and for what was undone in its log of before."""


def rebuild(
    path: Path, site: str, matcher: Matcher, batch_s: float, asking: Asking
) -> tuple[int, int, Path]:
    """Replace a journal's log by what a fresh matcher decides, in order of capture.

    New decisions get new numbers, and their events are told like any others; the journal as it was
    stays beside it. All of it is done or nothing.

    Args:
        path: of the journal; nobody may have it open.
        site: whose it is.
        matcher: one that knows nothing yet.
        batch_s: its micro-batch, seconds of capture time.
        asking: who came back.

    Returns:
        sightings read, decisions made, and where the journal as it was is kept

    Raises:
        InputError: it is in use, damaged, or there is no room.
    """
    Journal(path, site, pictures_max_bytes=1 << 62).close()  # of this version, and this site's
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    kept = path.with_name(f"{path.name}.before-rebuild-{stamp}")
    lock = path.with_name(f"{path.name}.lock")
    try:
        with (
            FileLock(lock, of=f"journal {path}", remedy="stop the server first"),
            closing(sqlite3.connect(path, isolation_level=None)) as db,
        ):
            with closing(sqlite3.connect(kept)) as copy:
                db.backup(copy)
            # What is deleted is overwritten: a later repair finds no rows of the log that was.
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            (number,) = db.execute("SELECT coalesce(max(id), 0) FROM decision").fetchone()
            ask = asking(db, _undone(db))
            drop_decisions(db, "1", ())
            snapshots.clear(db)
            db.execute("UPDATE event SET taken = 1")  # what was not told yet is told anew
            sightings, first = 0, number
            for made, count in _decide(db, matcher, batch_s, ask):
                sightings += count
                put_decisions(db, made, number, site, time.time_ns())
                number += len(made)
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise InputError(f"journal {path} ({fault_of(error)}): {error}") from error
    return sightings, number - first, kept


def _undone(db: sqlite3.Connection) -> list[Return]:
    """What was undone by the log that is there: as far as it can be read."""
    found: dict[Return, None] = {}
    for (body,) in db.execute("SELECT body FROM snapshot_identity WHERE body LIKE '%\"undone\"%'"):
        with suppress(ValueError, KeyError, TypeError):
            found |= dict.fromkeys(snapshots.read_identity(body).links)
    for (body,) in db.execute("SELECT body FROM decision WHERE body LIKE '%\"undone\"%'"):
        with suppress(InputError):
            link = Decision.from_json(body).link
            found |= {link: None} if link is not None else {}
    return [link for link in found if link.state == "undone"]


def _decide(
    db: sqlite3.Connection, matcher: Matcher, batch_s: float, ask: Ask
) -> Iterator[tuple[list[Applied], int]]:
    """Decisions as they are made, and how many sightings were read for them."""
    batch_ns = round(batch_s * 1e9)
    decided, count = 0, 0
    rows = db.execute(
        "SELECT device, boot, model_key, dim, captured_at_ns, body FROM sighting "
        "WHERE dim > 0 ORDER BY captured_at_ns, id"
    )
    for device, boot, model_key, dim, captured_at_ns, body in rows:
        complete = (captured_at_ns - 1) // batch_ns  # micro-batches of which nothing more comes
        if complete > decided:
            made = matcher.advance(complete * batch_ns)
            yield [*made, *ask(made, False)], count
            decided, count = complete, 0
        matcher.add(device, boot, model_key, decode_sighting(body, dim))
        count += 1
    made = matcher.advance(None)
    yield [*made, *ask(made, True)], count
