"""The spool's tables, as a list of migrations; see ``contract.migration``."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from skyreid.contract.migration import Step, execute_all, require_own

_TABLES = """
CREATE TABLE IF NOT EXISTS spool (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS model (id INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS sighting (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order in which the device said it
  boot TEXT NOT NULL, seq INTEGER NOT NULL,
  model INTEGER NOT NULL REFERENCES model, stored_at_ns INTEGER NOT NULL,
  watermark_ns INTEGER NOT NULL, bytes BLOB NOT NULL,
  UNIQUE (boot, seq));
CREATE INDEX IF NOT EXISTS sighting_age ON sighting (stored_at_ns);
CREATE TABLE IF NOT EXISTS picture (
  boot TEXT NOT NULL, camera TEXT NOT NULL, track INTEGER NOT NULL,
  seq INTEGER NOT NULL, captured_at_ns INTEGER NOT NULL, stored_at_ns INTEGER NOT NULL,
  wanted INTEGER NOT NULL, jpeg BLOB NOT NULL,
  PRIMARY KEY (boot, camera, track));
"""


def check_own(db: sqlite3.Connection, path: Path) -> None:
    """Raise InputError where the file is another program's; see ``contract.migration``."""
    require_own(db, {"spool", "sighting"}, what=f"spool {path}", remedy="give another spool.path")


def _first(db: sqlite3.Connection) -> None:
    """The tables of release 0.1.0: made, or taken over where they had no version yet."""
    execute_all(db, _TABLES)
    db.execute("DELETE FROM spool WHERE name = 'schema'")  # the version says it now


def _ages(db: sqlite3.Connection) -> None:
    """Ages go by the spool's own time from here on; how old what it holds is, nobody can say."""
    now = (time.time_ns(),)
    db.execute("UPDATE sighting SET stored_at_ns = ?", now)
    db.execute("UPDATE picture SET stored_at_ns = ?", now)
    db.execute("DELETE FROM spool WHERE name = 'word'")  # each boot has its own now


STEPS: tuple[Step, ...] = (_first, _ages)
