"""How often Python looks for cycles of garbage in a server.

What a message makes is let go by counting. Python's own interval, 700 objects, has it look at all
of a batch in hand again and again: a third of the time that taking it in took.
"""

from __future__ import annotations

import gc

OBJECTS = 50_000
"""So many more objects than were let go begin a look at the youngest; some ten MB of them."""


def collect_rarely() -> None:
    """Set it for this process."""
    gc.set_threshold(OBJECTS, 20, 20)
