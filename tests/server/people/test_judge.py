"""How sure a return is, from scores alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

from skyreid.server.matching.priors import Normals
from skyreid.server.people.judge import (
    COHORT_MIN,
    FALLS,
    SECOND,
    Candidate,
    Cohort,
    Measured,
    probabilities,
    unit_of,
    why_not,
)

STRANGERS = sorted(np.random.default_rng(5).normal(0, 0.8, 400), reverse=True)


def test_who_stands_out_is_told_from_who_is_one_of_many_alike() -> None:
    best, *_ = family = [4.0, 3.9, 3.8, 3.7]
    alone = Cohort.of([best, *STRANGERS], 400)
    among = Cohort.of([*family, *STRANGERS], 400)
    assert alone.level < 0.5 * STRANGERS[0] < among.level
    assert alone.beyond(best) < 0.01 < among.beyond(best)  # told at 1 %, and not beside look-alikes
    assert among.beyond(best) > 5 * alone.beyond(best)
    alike = [Candidate(str(k), score, 60.0) for k, score in enumerate(family)]
    assert max(probabilities(alike, among, 0.3, 8.0)) < 0.5
    assert max(probabilities(alike[:1], alone, 0.3, 8.0)) > 0.9
    values = [alone.beyond(score) for score in np.linspace(-20, 9, 50)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 400
    level = alone.level + 2.0
    assert alone.beyond(level + FALLS) == pytest.approx(alone.beyond(level) / math.e)


def test_the_best_is_no_part_of_its_own_cohort_and_a_cohort_may_be_small() -> None:
    assert Cohort.of([9.0, *STRANGERS], 400) == Cohort.of([3.0, *STRANGERS], 400)
    assert Cohort.of([3.0], 1).level == Cohort.of([], 0).level == 0.0
    assert Cohort.of([2.0, 3.0], 2).level == pytest.approx(2 * SECOND)


def test_few_people_who_are_unlike_each_other_make_nobody_stand_out() -> None:
    """A cosine of .15 among four people of one clip was told as perhaps back, at .40."""
    few = Cohort.of([0.15 / 0.2, -0.3 / 0.2, -0.4 / 0.2], 4)
    assert few.level == 0.0
    (sure,) = probabilities([Candidate("a", 0.15 / 0.2, 4.8)], few, 0.25, 8.0)
    assert sure < 0.1


def test_the_more_people_are_known_the_more_it_takes_to_stand_out() -> None:
    bars = [
        next(s for s in np.arange(0, 9, 0.01) if Cohort.of([s], people).beyond(s) <= 0.01)
        for people in (50, 500, 5000)
    ]
    assert bars[0] < bars[1] < bars[2] < bars[0] + 1.5
    sure = [
        probabilities([Candidate("a", 3.0, 60.0)], Cohort(n, 0.0), 0.3, 8.0) for n in (50, 5000)
    ]
    assert sure[0] > sure[1]


def test_strangers_of_made_up_galleries_are_expected_as_often_as_they_are_there() -> None:
    """Of normal cosines, of as much spread as rendered people have: the rate is kept."""
    rng = np.random.default_rng(11)
    for people in (60, 400, 2000):
        linked = 0
        for _ in range(400):
            best = np.sort(rng.normal(0, 0.75, people))[::-1][:20]
            linked += Cohort.of(best.tolist(), people).beyond(float(best[0])) <= 0.01
        assert linked <= 0.02 * 400


def test_alikes_share_what_is_sure_and_a_long_gap_lowers_it() -> None:
    best = Candidate("a", 4.5, 3600.0)
    cohort = Cohort.of([4.5, *STRANGERS], 400)
    (alone,) = probabilities([best], cohort, 0.3, 8.0)
    (later,) = probabilities([replace(best, gap_s=16 * 3600.0)], cohort, 0.3, 8.0)
    (rare,) = probabilities([best], cohort, 0.01, 8.0)
    assert 0.9 < alone <= 0.99
    assert later < alone
    assert rare < alone
    two = probabilities([best, replace(best, person="b")], cohort, 0.3, 8.0)
    assert two[0] == two[1] <= 0.5
    assert sum(two) <= 1


def test_the_unit_is_what_a_bundle_says_of_strangers() -> None:
    plain = Normals(0.6, 0.1, 0.0, 0.15)
    pairs = ("aerial-aerial", "aerial-ground", "ground-ground")
    assert unit_of(dict.fromkeys(pairs, plain)) == pytest.approx(0.15)
    shared = Normals(0.6, 0.1, 0.1, 0.15)  # a part that all have is taken away from all
    assert unit_of(dict.fromkeys(pairs, shared)) == pytest.approx(0.15 / 0.9)
    assert unit_of({}) == pytest.approx(0.2)


def test_what_was_measured_lowers_the_bar_to_the_configured_rate() -> None:
    measured = Measured()
    assert math.isnan(measured.rate(0.01))
    assert measured.accept_below(0.01) == 0.01
    for number in range(1000):  # five times as many as there may be look like somebody
        measured.note(0.001 if number % 20 == 0 else 0.5)
    assert measured.accept_below(0.01) <= 0.001
    assert measured.rate(0.01) <= 0.011


def test_each_reason_to_suggest_only_is_said() -> None:
    cohort = Cohort.of([6.0, *STRANGERS], 400)
    measured = Measured()

    def reason(expected: float = 1e-4, sure: float = 0.9, gap_s: float = 60.0) -> str:
        return why_not(cohort, expected, sure, gap_s, 24.0, measured, 0.01)

    assert reason() == ""
    assert "over 24 h" in reason(gap_s=25 * 3600.0)
    assert reason(expected=0.5) == reason(sure=0.4) == "others look as much alike"
    cohort = replace(cohort, people=COHORT_MIN - 1)
    assert f"{COHORT_MIN - 1} people are too few" in reason()
