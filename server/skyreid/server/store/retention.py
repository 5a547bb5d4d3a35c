"""Retention: what is older than its kind is kept goes, the oldest first, some rows at a time.

By when it came to the server, and in the order in which it came: a row that is younger than its
time ends the walk, so a clock that was ahead once keeps rows longer and never loses one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting_wire import without_embedding
from skyreid.server.matching.identity import Decision
from skyreid.server.store import drop
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.journal import Journal, checksum
from skyreid.server.store.retention_options import RetentionOptions

ROWS = 500
"""Of each kind, gone at one turn."""
HOUR_NS, DAY_NS = 3600 * 10**9, 86_400 * 10**9
Decide = Callable[[Decision, Callable[[sqlite3.Connection], None]], None]


class Retention:
    """Use from the thread that writes the journal."""

    def __init__(
        self,
        options: RetentionOptions,
        journal: Journal,
        gallery: Gallery,
        decide: Decide,
        *,
        window_s: Callable[[], float],
    ) -> None:
        """``decide`` folds a decision and writes it down with what else is done in its transaction.

        What is younger than ``window_s`` at that time stays: matching is shown it, or may be again.
        """
        self._options, self._journal, self._gallery = options, journal, gallery
        self._decide, self._window_s = decide, window_s
        row = journal.reading(
            lambda db: db.execute("SELECT value FROM meta WHERE key = 'stripped'").fetchone()
        )
        self._stripped = int(row[0]) if row else 0
        """Number up to which sightings have no embedding any more."""
        self._overwritten = False
        """Whether what has gone from the rows has gone from the write-ahead log too."""

    def sweep(self, now_ns: int) -> bool:
        """Let go of some rows of each kind; whether there may be more.

        Raises:
            sqlite3.Error: the disk refuses; call again.
            InputError: a file of the gallery cannot be written; call again.
        """
        o = self._options
        steps = (
            self._pictures(now_ns - round(o.pictures_h * HOUR_NS)),
            self._embeddings(self._before(now_ns, o.embeddings_h * HOUR_NS)),
            self._sightings(self._before(now_ns, o.sightings_d * DAY_NS)),
            self._identities(self._before(now_ns, o.identities_d * DAY_NS)),
            self._log(now_ns - round(o.events_d * DAY_NS)),
        )
        if any(steps):
            self._overwritten = False
        more = max(steps) >= ROWS
        if not more and not self._overwritten:  # a reader may hold the log up; the writer goes on
            self._overwritten = self._journal.reading(lambda db: drop.overwrite(db, wait=False))
        return more

    def _before(self, now_ns: int, kept_ns: float) -> int:
        return now_ns - max(round(kept_ns), round(self._window_s() * 1e9))

    def _pictures(self, before_ns: int) -> int:
        with self._journal.writing() as db:
            gone = db.execute(
                "DELETE FROM picture WHERE rowid IN (SELECT rowid FROM picture "
                f"WHERE received_at_ns < ? ORDER BY received_at_ns LIMIT {ROWS})",
                (before_ns,),
            ).rowcount
        if gone:
            self._journal.refresh()
        return gone

    def _embeddings(self, before_ns: int) -> int:
        """Take them out of the oldest rows; of the gallery segments that are wholly due go."""
        old = []
        for row in self._journal.reading(
            lambda db: db.execute(
                f"SELECT * FROM sighting WHERE id > ? ORDER BY id LIMIT {ROWS}", (self._stripped,)
            ).fetchall()
        ):
            if row[11] >= before_ns:
                break
            old.append(row)
        self._gallery.expire(before_ns)
        if not old:
            return 0
        with self._journal.writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('stripped', ?)", old[-1][:1])
            for row in old:
                number, *columns, body, _ = row
                if not columns[5]:
                    continue
                columns[5] = 0
                bare = without_embedding(body)
                db.execute(
                    "UPDATE sighting SET dim = 0, body = ?, crc = ? WHERE id = ?",
                    (bare, checksum(columns, bare), number),
                )
        self._stripped = old[-1][0]
        return len(old)

    def _sightings(self, before_ns: int) -> int:
        old = self._oldest("sighting", "received_at_ns", before_ns)
        if not old:
            return 0
        with self._journal.writing() as db:
            db.execute(
                "DELETE FROM quarantine WHERE (device, boot, seq) IN "
                "(SELECT device, boot, seq FROM sighting WHERE id <= ?)",
                old[-1:],
            )
            return drop.drop_sightings(db, "id <= ?", old[-1:])

    def _identities(self, before_ns: int) -> int:
        rows = self._journal.reading(
            lambda db: db.execute(
                "SELECT device, boot, camera, track FROM tracklet "
                f"WHERE heard_at_ns < ? ORDER BY heard_at_ns LIMIT {ROWS}",
                (before_ns,),
            ).fetchall()
        )
        if not rows:
            return 0

        def cards(db: sqlite3.Connection) -> None:
            of = "(device, boot, camera, track) = (?, ?, ?, ?)"
            db.executemany(f"DELETE FROM tracklet WHERE {of}", rows)
            db.executemany(f"DELETE FROM picture WHERE {of}", rows)

        self._decide(Decision("forget", 0, "", tuple(TrackKey(*row) for row in rows)), cards)
        return len(rows)

    def _log(self, before_ns: int) -> int:
        """The oldest decisions that the snapshot has, and the events that were told before them."""
        at = self._journal.snapshots.at
        old = [n for n in self._oldest("decision", "decided_at_ns", before_ns) if n <= at]
        with self._journal.writing() as db:
            if old:
                drop.drop_decisions(db, "id <= ?", old[-1:])
            (first,) = db.execute("SELECT min(id) FROM decision").fetchone()
            events = db.execute(
                "DELETE FROM event WHERE id IN (SELECT id FROM event "
                f"WHERE decision < ? AND taken = 1 ORDER BY decision LIMIT {ROWS})",
                (at + 1 if first is None else first,),
            ).rowcount
        return max(len(old), events)

    def _oldest(self, table: str, when: str, before_ns: int) -> list[int]:
        """Numbers of the oldest rows, up to the first that is not due."""
        numbers = []
        for number, at_ns in self._journal.reading(
            lambda db: db.execute(
                f"SELECT id, {when} FROM {table} ORDER BY id LIMIT {ROWS}"
            ).fetchall()
        ):
            if at_ns >= before_ns:
                break
            numbers.append(number)
        return numbers
