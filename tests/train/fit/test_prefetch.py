import threading

import pytest

from skyreid.train.fit.prefetch import Prefetch


def test_what_is_taken_comes_in_order_whether_it_was_begun_or_not() -> None:
    made: list[tuple[int, str]] = []

    def make() -> int:
        made.append((len(made), threading.current_thread().name))
        return len(made) - 1

    with Prefetch(make) as ahead:
        taken = [ahead.take()]
        for begin in (True, False, True, True):
            if begin:
                ahead.begin()
            taken.append(ahead.take())
    assert taken == [0, 1, 2, 3, 4]
    main = threading.current_thread().name
    assert [name == main for _, name in made] == [True, False, True, False, False]


def test_making_goes_on_while_the_taker_does_something_else() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def make() -> str:
        begun.set()
        assert may_end.wait(60)
        return "made"

    with Prefetch(make) as ahead:
        ahead.begin()
        assert begun.wait(60)  # in the thread, with nobody asking
        may_end.set()
        assert ahead.take() == "made"


def test_an_error_of_the_thread_reaches_who_takes() -> None:
    def make() -> int:
        raise ValueError("no such picture")

    with Prefetch(make) as ahead:
        ahead.begin()
        with pytest.raises(ValueError, match="no such picture"):
            ahead.take()
