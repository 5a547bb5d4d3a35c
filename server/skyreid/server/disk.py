"""Writing to a disk that may refuse: tried again until it takes what is written."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from skyreid.server.counters import Metrics
from skyreid.server.store.faults import REMEDIES, DamagedJournal, Fault, fault_of
from skyreid.server.store.journal import Journal

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

RETRY_S = 1.0
_FILES_FAULT = (sqlite3.DatabaseError, sqlite3.InternalError, sqlite3.NotSupportedError)
"""Exactly these: what SQLite raises for a value is derived from the first."""


class Stopped(Exception):
    """The server was told to stop while it waited for its disk."""


class Disk:
    """Where the journal lies. Use from the writer's thread."""

    def __init__(self, journal: Journal, metrics: Metrics, stopping: threading.Event) -> None:
        """``stopping`` ends the waiting."""
        self._journal, self._metrics, self._stopping = journal, metrics, stopping
        self.fault: Fault | None = None
        """Why it refuses just now."""

    @staticmethod
    def is_fault(error: Exception) -> bool:
        """Whether it is the disk's or the file's fault, not that of what was to be written."""
        return isinstance(error, (Stopped, DamagedJournal)) or type(error) in _FILES_FAULT

    def again(self, write: Callable[[], _T], error: sqlite3.Error) -> _T:
        """It refused: try until it takes it. Nothing is acknowledged meanwhile, nothing is lost."""
        while True:
            if type(error) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
                raise error  # of what was given to be written: a defect
            self._refused(error)
            if self._stopping.wait(RETRY_S):
                raise Stopped from error
            try:
                result = write()
            except sqlite3.Error as once_more:
                error = once_more
                continue
            self.fault = None
            _log.info("journal can be written again")
            return result

    def _refused(self, error: sqlite3.Error) -> None:
        fault = fault_of(error)
        self._metrics.commit_failures.labels(fault).inc()
        if fault == "damaged":
            self._journal.abandon()
            raise DamagedJournal(f"the journal is damaged: {error}") from error
        if self.fault != fault:
            self.fault = fault
            _log.error(
                "journal cannot be written (%s): %s; %s; nothing is acknowledged until it can",
                *(fault, error, REMEDIES[fault]),
            )
