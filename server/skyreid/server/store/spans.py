"""When tracklets were seen: who was there at one time, and where each was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from skyreid.contract.identity_event import TrackKey

_COLUMNS = "device, boot, camera, track, first_seen_ns, captured_at_ns"
_AT_ONCE = 200
_LONGEST_NS = 3600 * 10**9
"""A tracklet is not over so much later than it is asked for whoever it met."""


class Span(NamedTuple):
    """From the first to the last that was seen of a tracklet, capture time."""

    first_ns: int
    last_ns: int

    def meets(self, other: Span) -> bool:
        """Whether there is a moment in both."""
        return self.first_ns <= other.last_ns and other.first_ns <= self.last_ns


class Spans:
    """Reads them of a journal."""

    def __init__(self, reading: Callable[[Callable[[sqlite3.Connection], Any]], Any]) -> None:
        """``reading`` asks something of a connection to the journal."""
        self._reading = reading

    def spans(self, keys: Collection[TrackKey]) -> dict[TrackKey, Span]:
        """Of those that are known."""
        wanted, found = list(keys), dict[TrackKey, Span]()
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            places = ", ".join(["(?, ?, ?, ?)"] * len(part))
            # CROSS: SQLite keeps this order, and looks each key up instead of reading all.
            sql = (
                f"WITH wanted (device, boot, camera, track) AS (VALUES {places}) SELECT {_COLUMNS} "
                "FROM wanted CROSS JOIN tracklet USING (device, boot, camera, track)"
            )
            found |= self._ask(sql, [value for key in part for value in key])
        return found

    def beside(self, span: Span) -> dict[TrackKey, Span]:
        """Tracklets that were seen at some moment of a time."""
        sql = (
            f"SELECT {_COLUMNS} FROM tracklet WHERE captured_at_ns BETWEEN ? AND ? "
            "AND first_seen_ns <= ?"
        )
        return self._ask(sql, [span.first_ns, span.last_ns + _LONGEST_NS, span.last_ns])

    def _ask(self, sql: str, values: list[Any]) -> dict[TrackKey, Span]:
        rows = self._reading(lambda db: db.execute(sql, values).fetchall())
        return {TrackKey(*row[:4]): Span(*row[4:]) for row in rows}
