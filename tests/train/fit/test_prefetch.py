import threading
from collections.abc import Callable
from typing import Any

import pytest

from skyreid.train.fit.prefetch import AHEAD, SLOTS, Prefetch


class Counted:
    """A task whose batches are their plans; what is learnt is added to those to come."""

    def __init__(self, make: Callable[[int], Any] = lambda plan: plan) -> None:
        self.number, self.learnt, self.make = 0, 0, make

    def plan(self) -> int:
        self.number += 1
        return self.number + self.learnt

    def begin(self, plan: int) -> Callable[[], Any]:
        return lambda: self.make(plan)

    def state(self) -> dict[str, int]:
        return {"number": self.number, "learnt": self.learnt}

    def restore(self, state: dict[str, int]) -> None:
        self.number, self.learnt = state["number"], state["learnt"]


def test_batches_come_in_order_as_many_planned_ahead_whoever_is_faster() -> None:
    task = Counted()
    with Prefetch(task) as batches:
        for step in range(1, 6):
            assert batches.take() == step
            assert task.number == step + AHEAD
        task.learnt = 1000  # has a say in what is planned from now on
        assert [batches.take() for _ in range(4)] == [6, 7, 1008, 1009]


def test_what_is_planned_and_not_taken_comes_back_with_the_state() -> None:
    first = Counted()
    with Prefetch(first) as batches:
        for _ in range(3):
            batches.take()
        first.learnt = 50
        state = batches.state()
        going_on = [batches.take() for _ in range(5)]
    second = Counted()
    again = Prefetch(second)
    again.restore(state)
    with again as batches:
        assert [batches.take() for _ in range(5)] == going_on
    assert going_on == [4, 5, 56, 57, 58]


def test_all_that_there_is_room_for_is_begun_before_the_first_is_waited_for() -> None:
    """So that who makes a part of one can go on with a part of the next."""
    begun: list[int] = []

    class Told(Counted):
        def begin(self, plan: int) -> Callable[[], Any]:
            begun.append(plan)
            return lambda: plan

    with Prefetch(Told()) as batches:
        for step in range(1, 4):
            assert batches.take() == step
            assert begun == list(range(1, step + SLOTS))


def test_making_goes_on_in_a_thread_while_the_taker_does_something_else() -> None:
    """As far ahead as there is room, and no further: a batch that is trained on keeps its place."""
    made: list[int] = []
    full = threading.Event()

    def make(plan: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        made.append(plan)
        if len(made) == SLOTS:
            full.set()
        return plan

    with Prefetch(Counted(make)) as batches:
        assert batches.take() == 1
        assert full.wait(60)  # with nobody asking
        assert made == [1, 2, 3]


def test_the_time_that_is_spent_waiting_is_counted() -> None:
    may_end = threading.Event()

    def make(plan: int) -> int:
        assert may_end.wait(60)
        return plan

    with Prefetch(Counted(make)) as batches:
        threading.Timer(0.05, may_end.set).start()
        batches.take()
        first = batches.waited_s
        batches.take()
    assert 0.04 < first <= batches.waited_s


def test_an_error_of_the_thread_reaches_who_takes() -> None:
    def make(plan: int) -> int:
        raise ValueError("no such picture")

    with Prefetch(Counted(make)) as batches, pytest.raises(ValueError, match="no such picture"):
        batches.take()
