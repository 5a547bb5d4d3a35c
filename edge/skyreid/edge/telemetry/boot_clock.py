"""When an autopilot was started, in this machine's UTC: what makes its time stamps comparable.

Three ways to know it, the best that there is. TIMESYNC: we ask for its time, which it read between
our asking and the answer; what all answers leave in common is narrow however uneven the link is
(as Cristian, Distributed Computing 3, 1989). SYSTEM_TIME: it says UTC itself, which is as right as
this machine's clock. Neither: it is as early as the quickest of its messages allows; the link's own
lag is left in it, which ``telemetry.lag_ms`` has to know or the picture to tell.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low

_ASK_NS = 1_000_000_000
_ASKED_MAX = 8
"""Questions that wait for an answer."""
_WIDE_NS = 400_000_000
"""A span so wide says no more than SYSTEM_TIME does."""


class BootClock:
    """Learns it from what comes."""

    def __init__(self) -> None:
        self._utc: deque[int] = deque(maxlen=15)
        self._quickest: deque[int] = deque(maxlen=500)
        self._spans: deque[tuple[int, int]] = deque(maxlen=30)
        self._asked: deque[int] = deque(maxlen=_ASKED_MAX)
        self._asked_ns = 0

    def clear(self) -> None:
        """It was started anew."""
        self._utc.clear()
        self._quickest.clear()
        self._spans.clear()
        self._asked.clear()

    def question(self, now_ns: int) -> int | None:
        """The time to ask with (TIMESYNC's ts1), now and then; else None."""
        if 0 <= now_ns - self._asked_ns < _ASK_NS:
            return None
        self._asked_ns = now_ns
        self._asked.append(now_ns)
        return now_ns

    def answered(self, asked_ns: int, since_ns: int, arrived_ns: int) -> None:
        """Take in an answer: to which question, nanoseconds since its start, and when it came."""
        if asked_ns in self._asked and asked_ns <= arrived_ns:
            self._asked.remove(asked_ns)
            self._spans.append((asked_ns - since_ns, arrived_ns - since_ns))

    def said(self, utc_ns: int, since_ns: int) -> None:
        """Take in a SYSTEM_TIME."""
        self._utc.append(utc_ns - since_ns)

    def arrived(self, since_ns: int, arrived_ns: int) -> None:
        """Take in that a message of that moment has come."""
        self._quickest.append(arrived_ns - since_ns)

    @property
    def start_ns(self) -> int:
        """UTC of its start; 0 before anything has come."""
        if (asked := self._by_answers()) is not None:
            return asked
        return median_low(self._utc) if self._utc else min(self._quickest, default=0)

    def _by_answers(self) -> int | None:
        if not self._spans:
            return None
        low, high = max(low for low, _ in self._spans), min(high for _, high in self._spans)
        if low > high:  # a clock was put right: those of before it are of another time
            latest = self._spans[-1]
            self._spans.clear()
            self._spans.append(latest)
            low, high = latest
        return (low + high) // 2 if high - low <= _WIDE_NS or not self._utc else None
