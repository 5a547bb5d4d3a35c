"""How the process ends: asked by a signal, in good order, and within a limit whatever hangs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from skyreid.edge.flow import Stop

log = logging.getLogger(__name__)

GRACE_S = 1.9
"""Beside the time that receipts are waited for: the last frame, the last word, the files."""


@contextmanager
def stopped_by_signals(stop: Stop, *, within_s: float) -> Iterator[None]:
    """SIGINT and SIGTERM end the run in good order; a second one does not wait for receipts.

    Python runs a signal's handler in the main thread only, and not while that is in C: a detector
    that hangs would keep it away. So the signal wakes a thread, which asks for the stop, and after
    ``within_s`` ends the process with 1. What was said is in the spool by then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()

    def watch() -> None:
        asked = False
        while os.read(reading, 1):
            stop.ask()
            if not asked:
                asked = True
                threading.Thread(target=end, name="end", daemon=True).start()
        os.close(reading)

    def end() -> None:
        if not over.wait(within_s):
            log.critical("something hangs: not ended %.1f s after the signal", within_s)
            leave(1)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    waking = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(waking)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        watcher.join()


def leave(code: int) -> NoReturn:
    """End the process without asking its threads, of which one hangs inside a library."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
