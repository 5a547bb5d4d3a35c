"""What passes alone passes beside others, too: no property is held against the clock."""

import time

from hypothesis import given
from hypothesis import strategies as st


@given(st.just(0.25))
def test_an_example_may_wait_for_the_cpu_as_long_as_it_must(wait_s: float) -> None:
    time.sleep(wait_s)  # longer than Hypothesis allows an example by itself


@given(st.data())
def test_so_may_the_making_of_an_example(data: st.DataObject) -> None:
    data.draw(st.integers(0, 3).map(lambda _: time.sleep(0.6)))
