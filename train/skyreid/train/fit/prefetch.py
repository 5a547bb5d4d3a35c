"""Prefetch: the next batches are made while this one is trained on.

They are begun together and ended in a thread, one after another, so that processes that make parts
of them need not wait for each other (`data.workers`). Plans are drawn here, in the order of steps
and always as many ahead, so that what a batch is made of depends on nobody's speed; what is learnt
has a say in the plans that are drawn from then on. The state of a run has the plans whose batches
it has not taken.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic

from skyreid.train.fit.task import B, Task

AHEAD = 2  # batches in the making while another is trained on
SLOTS = AHEAD + 1  # batches that are alive at once, the one that is trained on among them


class Prefetch(Generic[B]):
    """The batches of a task, one after another; a context that ends its thread.

    Attributes:
        waited_s: seconds that who takes them had to wait.
    """

    def __init__(self, task: Task[B]) -> None:
        self._task = task
        self._plans: deque[Any] = deque()
        self._making: deque[Future[B]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self.waited_s = 0.0

    def __enter__(self) -> Prefetch[B]:
        self._pool = ThreadPoolExecutor(1, "prefetch")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._pool is not None
        self._pool.shutdown(cancel_futures=True)
        self._making.clear()

    def take(self) -> B:
        """The next one. What it is made of is alive until the next is taken.

        Raises:
            SkyreidError: it could not be made.
        """
        assert self._pool is not None, "within its context"
        while len(self._plans) <= AHEAD:
            self._plans.append(self._task.plan())
        for plan in list(self._plans)[len(self._making) :]:
            self._making.append(self._pool.submit(self._task.begin(plan)))
        began = time.monotonic()
        batch = self._making.popleft().result()
        self.waited_s += time.monotonic() - began
        self._plans.popleft()
        return batch

    def state(self) -> dict[str, Any]:
        """JSON-able: all that decides the batches to come."""
        return {"task": self._task.state(), "plans": list(self._plans)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another of the same run was when it gave `state`."""
        self._task.restore(state["task"])
        self._plans = deque(state["plans"])
