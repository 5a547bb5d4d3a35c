"""How rows of the journal are written: a sighting with its checksum, a decision with its events."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

from skyreid.contract.identity_event import encode_event
from skyreid.contract.sighting import Kind
from skyreid.server.matching.identity import Applied
from skyreid.server.store.records import CLOCK_SET_NS, Arrived, Heard


def checksum(values: Sequence[object], body: bytes) -> int:
    """CRC-32 of a row: of its columns in order, and its ``body`` last."""
    return zlib.crc32(body, zlib.crc32("\0".join(map(str, values)).encode("utf-8", "replace")))


def put_decisions(
    db: sqlite3.Connection, made: Sequence[Applied], after: int, site: str, decided_at_ns: int
) -> None:
    """Append decisions to the log, numbered from ``after`` on, and their events."""
    for number, applied in enumerate(made, after + 1):
        put_decision(db, number, decided_at_ns, applied.decision.to_json())
        for position, event in enumerate(applied.events):
            body = encode_event(
                event, site=site, decision=number, number=position, decided_at_ns=decided_at_ns
            )
            db.execute(
                "INSERT INTO event (decision, number, identity, body) VALUES (?, ?, ?, ?)",
                (number, position, event.identity, body),
            )


def put_decision(db: sqlite3.Connection, number: int, decided_at_ns: int, body: str) -> None:
    """Append one row to the log."""
    crc = checksum((number, decided_at_ns), body.encode())
    db.execute("INSERT INTO decision VALUES (?, ?, ?, ?)", (number, decided_at_ns, body, crc))


def insert(db: sqlite3.Connection, arrived: Arrived, number: int) -> bool:
    """Store a sighting as ``number``; False where it was stored before."""
    s = arrived.sighting
    row = (
        arrived.device,
        arrived.boot,
        s.seq,
        arrived.lane,
        arrived.model_key,
        arrived.dim,
        s.camera,
        s.track,
        s.revision,
        s.captured_at_ns,
        arrived.received_at_ns,
    )
    done = db.execute(
        "INSERT OR IGNORE INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, *row, arrived.body, checksum(row, arrived.body)),
    )
    if done.rowcount == 0:
        return False
    db.execute(
        "INSERT INTO tracklet VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (device, boot, camera, track) DO UPDATE SET revision = excluded.revision, "
        "ended = excluded.ended, first_seen_ns = excluded.first_seen_ns, "
        "captured_at_ns = excluded.captured_at_ns, crops = excluded.crops, "
        "quality = excluded.quality, east_m = excluded.east_m, north_m = excluded.north_m, "
        "heard_at_ns = excluded.heard_at_ns "
        "WHERE excluded.revision > revision",
        (
            arrived.device,
            arrived.boot,
            s.camera,
            s.track,
            s.revision,
            int(s.view),
            s.kind == Kind.END,
            s.first_seen_ns,
            s.captured_at_ns,
            s.crops,
            s.quality,
            s.ground.east_m if s.ground else None,
            s.ground.north_m if s.ground else None,
            arrived.received_at_ns,
        ),
    )
    return True


def hear(db: sqlite3.Connection, row: Heard) -> None:
    db.execute(
        "INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET "
        "heard_at_ns = max(heard_at_ns, excluded.heard_at_ns), "
        "watermark_ns = CASE WHEN excluded.boot IS NULL THEN watermark_ns "
        "WHEN excluded.boot IS NOT boot THEN excluded.watermark_ns "
        f"WHEN excluded.watermark_ns BETWEEN 1 AND watermark_ns - {CLOCK_SET_NS} "
        "THEN excluded.watermark_ns ELSE max(watermark_ns, excluded.watermark_ns) END, "
        "boot = coalesce(excluded.boot, boot), "
        "camera = coalesce(excluded.camera, camera), "
        "view = coalesce(excluded.view, view), "
        "model_key = coalesce(excluded.model_key, model_key)",
        (
            row.device,
            row.heard_at_ns,
            row.boot,
            row.watermark_ns,
            row.camera,
            row.view,
            row.model_key,
        ),
    )
