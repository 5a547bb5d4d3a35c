"""Pictures of tracklets in the journal: the latest of each, the oldest go first."""

from __future__ import annotations

import sqlite3

from skyreid.server.store.records import ArrivedPicture


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
