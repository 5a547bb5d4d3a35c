"""How much was left out, and why."""

from __future__ import annotations

import logging
import threading
from collections import Counter

log = logging.getLogger(__name__)


class Drops:
    """What was left out, by reason. Any thread."""

    def __init__(self) -> None:
        self._lock, self._counts = threading.Lock(), Counter[str]()
        self._told: set[str] = set()

    def add(self, reason: str, count: int = 1) -> None:
        """Count something that was left out."""
        with self._lock:
            self._counts[reason] += count

    def tell(self, reason: str, count: int = 1, *, note: str = "") -> None:
        """Count it, and say so the first time: what comes by the thousand is one line."""
        self.add(reason, count)
        if reason not in self._told:
            self._told.add(reason)
            log.warning("dropped reason=%s count=%d %s", reason, count, note)

    def take(self, counts: dict[str, int]) -> None:
        """Tell of each, and leave ``counts`` empty."""
        for reason, count in counts.items():
            self.tell(reason, count)
        counts.clear()

    def all(self) -> dict[str, int]:
        """Counts by reason, reasons that happened only."""
        with self._lock:
            return {reason: count for reason, count in sorted(self._counts.items()) if count}
