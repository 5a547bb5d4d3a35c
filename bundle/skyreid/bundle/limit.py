"""A call into C that may never come back, and its owner, who does.

ONNX can loop: a graph of a hundred bytes computes for ever. What is run before it has proved itself
runs in a thread of its own; the owner waits for so long and then leaves it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from skyreid.contract.errors import BundleError

CPU_S = 10.0
"""CPU seconds of one call and core, whatever it computes; loading takes six times as long."""
CPU_PER_PICTURE_S = 2.0
"""More for each picture of the call: a model that is slower could not follow any camera."""
WALL_S = 300.0
"""The same of wall time, for a machine that swaps."""
_GRACE_S = 5.0
_T = TypeVar("_T")


def within(call: Callable[[], _T], what: str, *, cpu_s: float, cut: Callable[[], object]) -> _T:
    """The result of `call`, or its exception.

    Args:
        call: runs in another thread, which is left behind where it does not end.
        what: does not end, for the message.
        cpu_s: of this process that the call may take.
        cut: asks the call to end, from this thread.

    Raises:
        BundleError: the call did not end in time.
    """
    done: queue.SimpleQueue[tuple[bool, _T | BaseException]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((True, call()))
        except BaseException as error:  # it is the caller's
            done.put((False, error))

    began, cpu_began = time.monotonic(), time.process_time()
    threading.Thread(target=work, name="first run of a model", daemon=True).start()
    while True:
        try:
            good, value = done.get(timeout=0.2)
        except queue.Empty:
            used = time.process_time() - cpu_began
            if used < cpu_s and time.monotonic() - began < WALL_S:
                continue
            cut()
            try:
                done.get(timeout=_GRACE_S)  # that it ends in good order is better than to leave it
            except queue.Empty:
                pass
            raise BundleError(
                f"{what} has not ended after {used:.0f} s of CPU time: no model of this kit "
                "computes so long, this one may never end"
            ) from None
        if good:
            return value  # type: ignore[return-value]
        raise value  # type: ignore[misc]
