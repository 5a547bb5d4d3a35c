"""So many in a minute, for each name: a token bucket (the algorithm's token, not ours)."""

from __future__ import annotations

import time
from collections.abc import Callable

NAMES_MAX = 4_096


class Limit:
    """At most ``per_min`` in a minute, and as many at once; for each name of its own."""

    def __init__(self, per_min: float, now_s: Callable[[], float] = time.monotonic) -> None:
        """``now_s`` seconds of a clock that never goes back."""
        self._per_s, self._room, self._now_s = per_min / 60, float(max(1.0, per_min)), now_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> float:
        """0 where one more is allowed; else after how many seconds it will be."""
        now_s = self._now_s()
        left, at_s = self._left.pop(name, (self._room, now_s))
        left = min(self._room, left + (now_s - at_s) * self._per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._per_s
        if len(self._left) >= NAMES_MAX:
            self._left.pop(next(iter(self._left)))
        self._left[name] = left - 1 if not wait_s else left, now_s
        return wait_s
