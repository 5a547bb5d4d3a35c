"""Pictures of tracklets: kept where the sighting is that they were taken for."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence

from skyreid.contract.identity_event import TrackKey
from skyreid.server.store.records import ArrivedPicture

EARLY_MAX, EARLY_NS = 64, 60_000_000_000
"""Pictures that came before their sighting, which may be on the slower lane, and how long each of
them waits."""


class EarlyPictures:
    """Holds pictures until their sighting is here. Use from one thread."""

    def __init__(self, has_sighting: Callable[[ArrivedPicture], bool]) -> None:
        self._has_sighting = has_sighting
        self.waiting: deque[ArrivedPicture] = deque()
        """Those that have no sighting yet."""

    def drop(self, keys: Collection[TrackKey]) -> int:
        """Keep nothing of some tracklets; how many pictures went."""
        left = deque(picture for picture in self.waiting if picture.key not in keys)
        gone = len(self.waiting) - len(left)
        self.waiting = left
        return gone

    def sort(
        self, arrived: Sequence[ArrivedPicture], now_ns: int
    ) -> tuple[list[ArrivedPicture], int]:
        """Those that can be kept now, and how many are given up: their tracklet does not exist."""
        known: list[ArrivedPicture] = []
        waiting: list[ArrivedPicture] = []
        for picture in (*self.waiting, *arrived):
            (known if self._has_sighting(picture) else waiting).append(picture)
        fresh = [p for p in waiting if now_ns - p.received_at_ns < EARLY_NS][-EARLY_MAX:]
        self.waiting = deque(fresh)
        return known, len(waiting) - len(fresh)


def has_sighting_of(db: sqlite3.Connection, arrived: ArrivedPicture) -> bool:
    """Whether a tracklet has a sighting of the picture's number or a later one."""
    p = arrived.picture
    (latest,) = db.execute(
        "SELECT max(seq) FROM sighting WHERE (device, boot, camera, track) = (?, ?, ?, ?)",
        (arrived.device, p.boot, p.camera, p.track),
    ).fetchone()
    return latest is not None and int(latest) >= p.seq


def put_pictures(
    db: sqlite3.Connection, arrived: Sequence[ArrivedPicture], size_bytes: int, max_bytes: int
) -> int:
    """Keep pictures, the oldest of all go first; returns how many bytes the table has then."""
    size_bytes += sum(put_picture(db, picture) for picture in arrived)
    while size_bytes > max_bytes:
        oldest = db.execute(
            "SELECT rowid, length(body) FROM picture ORDER BY received_at_ns LIMIT 1"
        ).fetchone()
        db.execute("DELETE FROM picture WHERE rowid = ?", oldest[:1])
        size_bytes -= oldest[1]
    return size_bytes


def put_picture(db: sqlite3.Connection, arrived: ArrivedPicture) -> int:
    """Keep a picture if it is the tracklet's latest; returns by how many bytes the table grew."""
    p = arrived.picture
    key = (arrived.device, p.boot, p.camera, p.track)
    old = db.execute(
        "SELECT seq, length(body) FROM picture WHERE (device, boot, camera, track) = (?, ?, ?, ?)",
        key,
    ).fetchone()
    if old is not None and old[0] >= p.seq:
        return 0
    db.execute(
        "INSERT OR REPLACE INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, p.seq, p.captured_at_ns, arrived.received_at_ns, p.jpeg),
    )
    return len(p.jpeg) - (old[1] if old else 0)
