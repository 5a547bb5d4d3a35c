"""How much was left out, and why."""

from __future__ import annotations

import threading
from collections import Counter


class Drops:
    """What was left out, by reason. Any thread."""

    def __init__(self) -> None:
        self._lock, self._counts = threading.Lock(), Counter[str]()

    def add(self, reason: str, count: int = 1) -> None:
        """Count something that was left out."""
        with self._lock:
            self._counts[reason] += count

    def all(self) -> dict[str, int]:
        """Counts by reason, reasons that happened only."""
        with self._lock:
            return {reason: count for reason, count in sorted(self._counts.items()) if count}
