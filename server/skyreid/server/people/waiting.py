"""Who waits to be asked for: oldest first, in a tenth of the time that there is.

A question is an exact product with every vector that is kept (18 ms among 5,000 identities), asked
by the thread that stores and decides. What a question took in CPU time goes by nine times before
the next one, so that a start with a full window delays nobody's event by more than one question;
who waits is forgotten by nobody. Where nothing else is to be done there is no such bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

ASK_AFTER_NS = 180 * 10**9
LONG_NS = 600 * 10**9
ASKED_AT_ONCE = 2
"""In one turn of the writer, between two rounds of matching."""
BUDGET = 0.1
"""Of the time of the thread that asks, while somebody speaks."""


class Waiting:
    """Names of identities, each once; use from one thread (``due`` from any)."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        spent_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """``spent_s`` is the CPU time of the thread that asks: what it waited for is no work."""
        self._now_s, self._spent_s = now_s, spent_s
        self._times: dict[str, tuple[int, int]] = {}  # touched first, last: capture time
        self._free_at_s = -math.inf
        self.due = 0
        """Whose time has come and who are not asked for yet, as of the last turn that asked."""

    def touch(self, name: str, at_ns: int) -> None:
        """Something joined an identity at a capture time."""
        first_ns, _ = self._times.get(name, (at_ns, 0))
        self._times[name] = first_ns, at_ns

    def turn(
        self, now_ns: int, ask: Callable[[str], bool], *, everything: bool, live: bool
    ) -> None:
        """Ask for those who are due at a capture time, as far as the budget goes.

        Args:
            now_ns: capture time that everything is decided up to.
            ask: of a name; whether there was somebody to ask for.
            everything: nothing more will come for now: everybody is due, and there is no budget.
            live: this thread has other work: a few at a time. Otherwise all, and no budget.
        """
        bound = live and not everything
        if bound and self._now_s() < self._free_at_s:
            return
        due = [
            (first_ns, last_ns, name)
            for name, (first_ns, last_ns) in self._times.items()
            if everything or now_ns >= min(last_ns + ASK_AFTER_NS, first_ns + LONG_NS)
        ]
        due.sort(key=lambda one: one[:2])
        self.due, asked = len(due), 0
        for _, _, name in due:
            if (live and asked >= ASKED_AT_ONCE) or (bound and self._now_s() < self._free_at_s):
                break
            del self._times[name]
            self.due -= 1
            begin_s = self._spent_s()
            asked += ask(name)
            took_s = self._spent_s() - begin_s
            self._free_at_s = self._now_s() + took_s * (1 / BUDGET - 1)
