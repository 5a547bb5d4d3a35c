"""The journal's tables, as a list of migrations; see ``contract.migration``."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.contract.migration import Step, execute_all, migrate, require_own

OWN = frozenset({"meta", "sighting", "decision"})
"""Tables by which a file is told from another program's."""
REMEDY = "give another journal.path"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sighting (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  device TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL,
  lane INTEGER NOT NULL, model_key TEXT NOT NULL, dim INTEGER NOT NULL,
  camera TEXT NOT NULL, track INTEGER NOT NULL, revision INTEGER NOT NULL,
  captured_at_ns INTEGER NOT NULL, received_at_ns INTEGER NOT NULL,
  body BLOB NOT NULL,                       -- the Sighting message as it arrived
  UNIQUE (device, boot, seq)
);
CREATE INDEX IF NOT EXISTS sighting_by_capture ON sighting (captured_at_ns);
CREATE INDEX IF NOT EXISTS sighting_by_tracklet ON sighting (device, boot, camera, track);
CREATE INDEX IF NOT EXISTS sighting_by_camera ON sighting (camera, captured_at_ns);
CREATE TABLE IF NOT EXISTS tracklet (  -- the latest revision of each
  device TEXT NOT NULL, boot TEXT NOT NULL, camera TEXT NOT NULL, track INTEGER NOT NULL,
  revision INTEGER NOT NULL, view INTEGER NOT NULL, ended INTEGER NOT NULL,
  first_seen_ns INTEGER NOT NULL, captured_at_ns INTEGER NOT NULL,
  crops INTEGER NOT NULL, quality REAL NOT NULL, east_m REAL, north_m REAL,
  PRIMARY KEY (device, boot, camera, track)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tracklet_by_capture ON tracklet (captured_at_ns);
CREATE TABLE IF NOT EXISTS device (
  device TEXT PRIMARY KEY, heard_at_ns INTEGER NOT NULL, boot TEXT, watermark_ns INTEGER NOT NULL,
  camera TEXT, view INTEGER, model_key TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS picture (  -- the latest of each tracklet
  device TEXT NOT NULL, boot TEXT NOT NULL, camera TEXT NOT NULL, track INTEGER NOT NULL,
  seq INTEGER NOT NULL, captured_at_ns INTEGER NOT NULL, received_at_ns INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (device, boot, camera, track)
);
CREATE INDEX IF NOT EXISTS picture_by_age ON picture (received_at_ns);
CREATE TABLE IF NOT EXISTS decision (
  id INTEGER PRIMARY KEY AUTOINCREMENT, decided_at_ns INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (  -- events that the broker has not taken yet
  id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL, body TEXT NOT NULL
);
"""


def _first(db: sqlite3.Connection) -> None:
    """The tables of release 0.1.0: made, or taken over where they had no version yet."""
    execute_all(db, _TABLES)
    db.execute("DELETE FROM meta WHERE key = 'schema'")  # the version says it now


def _sums_and_events(db: sqlite3.Connection) -> None:
    """A checksum a row (those that are there have none), and events that stay once sent."""
    for table in ("sighting", "decision"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER")
    execute_all(
        db,
        """
CREATE TABLE event (  -- what the world was told, the oldest pruned; taken: the broker has it
  id INTEGER PRIMARY KEY AUTOINCREMENT, decision INTEGER NOT NULL, number INTEGER NOT NULL,
  identity TEXT NOT NULL, body TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX event_waiting ON event (id) WHERE taken = 0;
CREATE UNIQUE INDEX event_by_name ON event (decision, number);
""",
    )
    waiting = db.execute("SELECT id, identity, body FROM outbox ORDER BY id").fetchall()
    for row, identity, body in waiting:
        decision, _, number = json.loads(body).get("id", f"0-{row}").partition("-")
        values = (int(decision), int(number), identity, body)
        db.execute(
            "INSERT INTO event (decision, number, identity, body) VALUES (?, ?, ?, ?)", values
        )
    db.execute("DROP TABLE outbox")
    # From here on ids of sightings have no gaps: what is missing was lost.
    db.execute("INSERT INTO meta SELECT 'gapless_after', coalesce(max(id), 0) FROM sighting")


_SET_ASIDE = """
CREATE TABLE quarantine (  -- stored sightings that matching failed on; it is not shown them
  device TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL,
  at_ns INTEGER NOT NULL, traceback TEXT NOT NULL,
  state TEXT NOT NULL,                      -- held, retry (by the operator) or dropped (for good)
  PRIMARY KEY (device, boot, seq)
) WITHOUT ROWID;
CREATE TABLE admitted (  -- devices that the operator let in by name
  device TEXT PRIMARY KEY, at_ns INTEGER NOT NULL
) WITHOUT ROWID;
"""


def _set_aside(db: sqlite3.Connection) -> None:
    """Sightings that matching fails on, and devices that the site file does not know."""
    execute_all(db, _SET_ASIDE)


def _erasures(db: sqlite3.Connection) -> None:
    """Who is to be erased, how far that is, and the receipts."""
    execute_all(
        db,
        """
CREATE TABLE erasure (
  id INTEGER PRIMARY KEY AUTOINCREMENT, asked_at_ns INTEGER NOT NULL, reason TEXT NOT NULL,
  target TEXT NOT NULL,                     -- an identity's id, or a tracklet's key in JSON
  state TEXT NOT NULL,                      -- asked, decided, done or refused
  body TEXT NOT NULL                        -- JSON: what was removed, at last the receipt
);
""",
    )


def _snapshot(db: sqlite3.Connection) -> None:
    """The state as of a decision, in rows: see ``snapshots``."""
    execute_all(
        db,
        """
CREATE TABLE snapshot (id INTEGER PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE snapshot_identity (
  id TEXT PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE snapshot_track (
  device TEXT NOT NULL, boot TEXT NOT NULL, camera TEXT NOT NULL, track INTEGER NOT NULL,
  body TEXT NOT NULL, crc INTEGER NOT NULL,  -- which identity it is in
  PRIMARY KEY (device, boot, camera, track)
) WITHOUT ROWID;
CREATE TABLE snapshot_alias (
  id TEXT PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE snapshot_window (  -- what matching held: the latest sighting of each, and its path
  sighting INTEGER PRIMARY KEY, path BLOB NOT NULL, crc INTEGER NOT NULL
);
""",
    )


def _heard(db: sqlite3.Connection) -> None:
    """When the latest revision of a tracklet came, for retention."""
    db.execute("ALTER TABLE tracklet ADD COLUMN heard_at_ns INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "UPDATE tracklet SET heard_at_ns = coalesce((SELECT max(s.received_at_ns) FROM sighting s "
        "WHERE (s.device, s.boot, s.camera, s.track) = (tracklet.device, tracklet.boot, "
        "tracklet.camera, tracklet.track)), 0)"
    )
    db.execute("CREATE INDEX tracklet_by_heard ON tracklet (heard_at_ns)")


STEPS: tuple[Step, ...] = (_first, _sums_and_events, _set_aside, _erasures, _snapshot, _heard)


def check_own(db: sqlite3.Connection, path: Path) -> None:
    """Raise InputError where the file is another program's; see ``contract.migration``."""
    require_own(db, OWN, what=f"journal {path}", remedy=REMEDY)


def prepare(db: sqlite3.Connection, path: Path, site: str) -> None:
    """Make a file the journal of a site, of this version, and its connection one that writes it.

    Raises:
        InputError: it is another program's, another site's, or of a later release.
    """
    db.execute("PRAGMA busy_timeout = 5000")
    check_own(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    migrate(db, STEPS, what=f"journal {path}")
    db.execute("INSERT OR IGNORE INTO meta VALUES ('site', ?)", (site,))
    (owner,) = db.execute("SELECT value FROM meta WHERE key = 'site'").fetchone()
    if owner != site:
        raise InputError(
            f"journal {path} belongs to site {owner!r}, the site file says {site!r}: "
            "give another journal.path"
        )
