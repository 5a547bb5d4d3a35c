"""This machine's own time, which nobody sets: what is kept, or is good, for some days goes by it.

A clock that was set years ahead, once and for a minute, would empty everything; one that was set
back would make good again what was over.
"""

from __future__ import annotations

import logging
import time

_log = logging.getLogger(__name__)
AHEAD_NS = 3600 * 10**9
"""So far may the clock run away from this machine's own time before it is not believed."""


def up_ns() -> int:
    """How long this machine has run, asleep too: nobody sets it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class OwnTime:
    """The clock's time, or what it would be had nobody set it ahead since this was made."""

    def __init__(self, what: str) -> None:
        """``what`` goes by it, for the log."""
        self._what, self._began_ns, self._ahead = what, time.time_ns() - up_ns(), False

    def least_ns(self) -> int:
        """The clock's time, or what it would be had nobody set it back; ns since 1970 UTC."""
        return max(time.time_ns(), self._began_ns + up_ns())

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        now_ns, most_ns = time.time_ns(), self._began_ns + up_ns() + AHEAD_NS
        if (ahead := now_ns > most_ns) != self._ahead:
            self._ahead = ahead
            if ahead:
                _log.warning(
                    "the clock was set %.1f hours ahead: %s goes by the time before it; "
                    "if the clock is right now, start the server anew",
                    (now_ns - most_ns + AHEAD_NS) / 3.6e12,
                    self._what,
                )
        return min(now_ns, most_ns)
