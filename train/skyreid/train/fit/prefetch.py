"""Prefetch: the next batch is made in a thread while this one is trained on.

Augmentation costs a tenth to a fifth of a small model's step, in operators that leave Python's lock
alone; docs/training.md has the measurement. What is drawn is drawn in the same order as without a
thread: nothing is made ahead of a step that reads or changes what batches are drawn from.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """What `make` returns, one after another; a context that ends its thread.

    Args:
        make: called by one thread at a time.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, "ahead")
        self._next: Future[T] | None = None

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def begin(self) -> None:
        """Start to make the next one; until it is taken, nobody else may use what `make` uses."""
        self._next = self._pool.submit(self._make)

    def take(self) -> T:
        """The next one, made now where it was not begun."""
        begun, self._next = self._next, None
        return self._make() if begun is None else begun.result()
