"""What a journal drops: every row of some tracklets, so that nothing of them stays on its pages.

SQLite overwrites what is deleted (``secure_delete``), in the write-ahead log at first: whoever
drops for good runs a checkpoint afterwards.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from skyreid.contract.identity_event import TrackKey

_OF = "(device, boot, camera, track) = (?, ?, ?, ?)"


def drop_rows(db: sqlite3.Connection, keys: Collection[TrackKey]) -> Counter[str]:
    """Drop the sightings, pictures and cards of tracklets (within a transaction); how many."""
    gone: Counter[str] = Counter()
    for key in keys:
        values = (key.device, key.boot, key.camera, key.track)
        gone["quarantined"] += db.execute(
            "DELETE FROM quarantine WHERE (device, boot, seq) IN "
            f"(SELECT device, boot, seq FROM sighting WHERE {_OF})",
            values,
        ).rowcount
        gone["sightings"] += drop_sightings(db, _OF, values)
        for table, name in (("tracklet", "tracklets"), ("picture", "pictures")):
            gone[name] += db.execute(f"DELETE FROM {table} WHERE {_OF}", values).rowcount
    return gone


def drop_sightings(db: sqlite3.Connection, where: str, values: Sequence[object]) -> int:
    """Drop rows, and note how many: what else is missing in their numbers was lost."""
    db.execute(
        "INSERT INTO meta SELECT 'forgotten', count(*) FROM sighting WHERE id > "
        "(SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'gapless_after') "
        f"AND {where} ON CONFLICT (key) "
        "DO UPDATE SET value = CAST(value AS INTEGER) + excluded.value",
        values,
    )
    return db.execute(f"DELETE FROM sighting WHERE {where}", values).rowcount


def drop_log(
    db: sqlite3.Connection, keys: Collection[TrackKey], identities: Collection[str]
) -> tuple[int, int]:
    """Drop events and decisions that name any of them; how many of each there were.

    Within a transaction that brings the snapshot forward: nobody needs those decisions then.
    """
    texts = [json.dumps(name) for name in identities]
    for key in keys:
        for sort in (False, True):  # as events have it, and as decisions do
            texts.append(json.dumps(key.to_json(), sort_keys=sort, separators=(",", ":")))
    named = re.compile("|".join(map(re.escape, texts))).search
    db.create_function("names_any", 1, lambda body: named(body) is not None, deterministic=True)
    events = db.execute("DELETE FROM event WHERE names_any(body)").rowcount
    return events, drop_decisions(db, "names_any(body)", ())


def drop_decisions(db: sqlite3.Connection, where: str, values: Sequence[object]) -> int:
    """Drop decisions that the snapshot has, and note how many: what else is missing was lost."""
    gone = db.execute(f"DELETE FROM decision WHERE {where}", values).rowcount
    db.execute(
        "INSERT INTO meta VALUES ('forgotten_decisions', ?) ON CONFLICT (key) "
        "DO UPDATE SET value = CAST(value AS INTEGER) + excluded.value",
        (gone,),
    )
    return gone


def remove_copies(path: Path) -> list[str]:
    """Remove whole copies that stand beside a journal; their names.

    A repair, a rebuild or a restore kept them, or was killed. Somebody in the journal is in each of
    them too.
    """
    removed = []
    whole = rf"{re.escape(path.name)}\.(repaired|(damaged|before-rebuild|before-restore)-[0-9TZ]+)"
    cut_off = rf"\.{re.escape(path.name)}\.partial"  # by a kill while it was put in place
    for copy in sorted(path.parent.iterdir()):
        if re.match(f"{whole}|{cut_off}", copy.name):
            copy.unlink()
            removed.append(copy.name)
    return removed


def overwrite(db: sqlite3.Connection, *, wait: bool = True) -> bool:
    """Bring the write-ahead log into the file and empty it; False while a reader holds it up."""
    (patience_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    if not wait:
        db.execute("PRAGMA busy_timeout = 0")
    try:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience_ms}")
    return not busy
