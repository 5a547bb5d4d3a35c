"""One thread that looks at pictures for a streaming thread that must be able to leave at once.

A model's call cannot be interrupted. Were it made in the streaming thread, a flush or a change of
state would have to wait for it: for as long as the model likes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

R = TypeVar("R")
END_S = 2.0
"""An idle thread has ended by then; a busy one is left to end by itself."""


class Left(Exception):
    """Nobody waits for the answer any more: a flush, or the pipeline goes down."""


class Worker(Generic[R]):
    """Runs one call after the other, in order, in a thread of its own."""

    def __init__(self, close: Callable[[], None], cut: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            close: runs in it once it is told to end, after the call that it is in.
            cut: asks that call to end; runs in the thread that tells.
        """
        self._close, self._cut = close, cut
        self._changed = threading.Condition()
        self._call: Callable[[], R] | None = None
        self._busy = self._leave = self._ending = False
        self._answer: R | None = None
        self._error: BaseException | None = None
        self.left = 0
        """Calls that nobody waited for to the end."""
        self._thread = threading.Thread(target=self._run, name="reidembed", daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], R]) -> R:
        """Have something run, after what still runs, and wait for its answer.

        Raises:
            Left: `leave` was called.
            BaseException: what the call raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._busy or self._leave)
            self._raise_if_left()
            self._call, self._busy = call, True
            self._answer = self._error = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._busy or self._leave)
            if self._busy:
                self.left += 1
                raise Left
            if self._error is not None:
                raise self._error
            answer: R = self._answer  # type: ignore[assignment]
            return answer

    def leave(self) -> None:
        """Whoever waits leaves now, and nobody waits until `stay`. Any thread."""
        with self._changed:
            self._leave = True
            self._changed.notify_all()

    def stay(self) -> None:
        """Calls are waited for again."""
        with self._changed:
            self._leave = False

    def end(self) -> None:
        """No further calls. One that the thread is inside of is cut, and not waited for."""
        with self._changed:
            self._leave = self._ending = True
            busy = self._busy
            self._changed.notify_all()
        if busy:
            self._cut()
        else:
            self._thread.join(END_S)

    def _raise_if_left(self) -> None:
        if self._leave:
            raise Left

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._call is not None or self._ending)
                call, self._call = self._call, None
            if call is None:
                self._close()
                return
            answer, error = None, None
            try:
                answer = call()
            except BaseException as raised:
                error = raised
            with self._changed:
                self._answer, self._error, self._busy = answer, error, False
                self._changed.notify_all()
