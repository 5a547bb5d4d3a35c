"""Whoever waits for a call can leave it, and what it leaves goes on alone."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from skyreid.edge.element.worker import Left, Worker


def test_calls_run_in_order_in_one_thread_and_raise_what_they_raise() -> None:
    closed: list[str] = []
    worker: Worker[str] = Worker(lambda: closed.append("closed"), lambda: closed.append("cut"))
    names = {worker.do(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"reidembed"}

    def wrong() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        worker.do(wrong)
    assert worker.do(lambda: "again") == "again"
    worker.end()
    assert closed == ["closed"]
    with pytest.raises(Left):
        worker.do(lambda: "late")


def test_a_call_that_is_left_is_counted_and_the_next_waits_for_its_end() -> None:
    inside, go = threading.Event(), threading.Event()
    worker: Worker[str] = Worker(lambda: None, go.set)

    def slow() -> str:
        inside.set()
        assert go.wait(60)
        return "slow"

    outcome: list[str] = []

    def ask() -> None:
        try:
            outcome.append(worker.do(slow))
        except Left:
            outcome.append("left")

    asking = threading.Thread(target=ask)
    asking.start()
    assert inside.wait(60)
    worker.leave()
    asking.join(60)
    assert outcome == ["left"]
    assert worker.left == 1
    worker.stay()
    after = threading.Thread(target=lambda: outcome.append(worker.do(lambda: "next")))
    after.start()
    go.set()
    after.join(60)
    assert outcome == ["left", "next"]
    worker.end()


def test_the_end_cuts_a_call_and_does_not_wait_for_it() -> None:
    inside, go, closed = threading.Event(), threading.Event(), threading.Event()
    worker: Worker[bool] = Worker(closed.set, go.set)

    def slow() -> bool:
        inside.set()
        return go.wait(60)

    def ask() -> None:
        with suppress(Left):  # or the answer came first
            worker.do(slow)

    threading.Thread(target=ask, daemon=True).start()
    assert inside.wait(60)
    worker.end()
    assert closed.wait(60)
