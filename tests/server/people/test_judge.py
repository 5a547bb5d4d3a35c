"""How sure a return is, from scores alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

from skyreid.server.people.judge import (
    MEASURED_MIN,
    Candidate,
    Measured,
    Tail,
    probabilities,
    strength,
    why_not,
)

STRANGERS = np.sort(np.random.default_rng(5).normal(0, 1, 400))[::-1]


def test_a_tail_says_how_many_strangers_look_so_alike() -> None:
    tail = Tail.of([9.0, *STRANGERS[:40]], 400)  # the first may be the person
    for score in (2.0, 2.5, 3.0):
        there = sum(STRANGERS >= score)
        assert there / 2 <= tail.beyond(score) <= 2 * there + 3
    assert tail.beyond(9.0) < 0.01
    values = [tail.beyond(score) for score in np.linspace(-2, 9, 50)]
    assert values == sorted(values, reverse=True)


def test_look_alikes_raise_the_bar_and_a_long_gap_lowers_what_is_known() -> None:
    best = Candidate("a", 4.5, 4.0, 3600.0)
    plain = Tail.of([4.5, *STRANGERS[:40]], 400)
    alike = Tail.of([4.5, 4.4, 4.3, 4.2, 4.1, *STRANGERS[:36]], 400)
    (alone,) = probabilities([best], plain, 0.3, 8.0)
    (among,) = probabilities([best], alike, 0.3, 8.0)
    (later,) = probabilities([replace(best, gap_s=16 * 3600.0)], plain, 0.3, 8.0)
    assert among < alone > later
    two = probabilities([best, replace(best, person="b")], plain, 0.3, 8.0)
    assert two[0] == two[1] < alone
    assert sum(two) <= 1


def test_tracklets_of_one_stranger_are_not_counted_as_if_they_were_many() -> None:
    one, expected = strength([(3.0, [2.0])])
    many, _ = strength([(3.0, [2.0] * 20)])
    assert one == pytest.approx(2.0)
    assert one < many < 2.0 * math.sqrt(20) / 2
    assert 0 < expected < 3.0
    assert strength([(3.0, [])]) == (0.0, 0.0)


def test_what_was_measured_lowers_the_bar_to_the_configured_rate() -> None:
    measured = Measured()
    assert math.isnan(measured.rate(0.01))
    assert measured.accept_below(0.01) == 0.01
    for number in range(1000):  # five times as many as there may be look like somebody
        measured.note(0.001 if number % 20 == 0 else 0.5)
    assert measured.accept_below(0.01) <= 0.001
    assert measured.rate(0.01) <= 0.011


def test_each_reason_to_suggest_only_is_said() -> None:
    tail = Tail.of([6.0, *STRANGERS[:40]], 400)
    measured = Measured()

    def reason(expected: float = 1e-4, sure: float = 0.9, gap_s: float = 60.0) -> str:
        return why_not(tail, expected, sure, gap_s, 24.0, measured, 0.01)

    assert reason() == ""
    assert "over 24 h" in reason(gap_s=25 * 3600.0)
    assert reason(expected=0.5) == reason(sure=0.4) == "others look as much alike"
    tail = replace(tail, people=12)
    assert "12 people are too few" in reason()
    for _ in range(MEASURED_MIN):
        measured.note(0.7)
    assert reason() == ""
