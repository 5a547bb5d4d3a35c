"""Calls into GStreamer that may never come back, made where their owner can leave them.

Measured: about one in 150 tear-downs of a live pipeline waits for ever on a lock inside
GStreamer's RTSP client. A thread that hangs in C can neither be interrupted nor ended; it can only
be left behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TEARDOWN_S = 5.0
"""A pipeline that has not come down by then is left behind ..."""
LEFT_MAX = 3
"""... and with so many of them the process asks to be started anew."""
STOP_GRACE_S = 1.0
"""At the end nobody waits longer: the process is going away anyhow."""
_STEP_S = 0.1


class Bounded:
    """Makes calls with a limit and remembers those that did not come back. One thread at a time."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._left: list[threading.Thread] = []
        self.left_ever = 0
        """Calls that did not come back in time, also those that came back later."""

    @property
    def left(self) -> int:
        """Calls that have not come back to this moment."""
        self._left = [thread for thread in self._left if thread.is_alive()]
        return len(self._left)

    def call(self, function: Callable[[], object], limit_s: float) -> bool:
        """Whether ``function`` came back within ``limit_s``; after a stop within its grace."""
        thread = threading.Thread(target=function, name="gstreamer", daemon=True)
        thread.start()
        end = time.monotonic() + limit_s
        while thread.is_alive() and (left_s := end - time.monotonic()) > 0:
            if self._stop.is_set():
                thread.join(min(STOP_GRACE_S, left_s))
                break
            thread.join(min(_STEP_S, left_s))
        if not thread.is_alive():
            return True
        self._left.append(thread)
        self.left_ever += 1
        return False
