import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.evaluate import bootstrap
from skyreid.train.evaluate.bootstrap import difference, estimate
from skyreid.train.evaluate.metrics import Measures


def measures(people: np.ndarray, right: np.ndarray, precision: np.ndarray) -> Measures:
    count = np.arange(len(people))
    return Measures(count, people, np.where(right, 1, 2), np.stack([precision, precision]))


def some(seed: int, people: int = 30, queries: int = 120) -> Measures:
    """Whether a query is right depends on the person much more than on the query."""
    rng = np.random.default_rng(seed)
    ease = rng.beta(1, 0.5, people)
    who = np.sort(rng.integers(0, people, queries)) * 7 + 3
    return measures(
        who, rng.random(queries) < ease[who // 7], np.clip(rng.normal(ease[who // 7], 0.05), 0, 1)
    )


def test_intervals_equal_a_loop_that_draws_people_and_pools_their_queries() -> None:
    found = some(1)
    names = np.unique(found.people)
    rng = np.random.default_rng(5)
    rank1, precision = [], []
    for _ in range(300):
        drawn = names[rng.integers(0, names.size, names.size)]
        rows = np.concatenate([np.flatnonzero(found.people == name) for name in drawn])
        rank1.append(np.mean(found.first[rows] == 1))
        precision.append(np.mean(found.precision[rows]))
    result = estimate(found, resamples=300, seed=5)
    assert result.people == names.size
    assert result.rank1 == pytest.approx(np.percentile(rank1, [2.5, 97.5]), abs=1e-12)
    assert result.average_precision == pytest.approx(
        np.percentile(precision, [2.5, 97.5]), abs=1e-12
    )
    assert result.score.rank1 == pytest.approx(np.mean(found.first == 1))


def test_more_queries_of_the_same_people_make_nothing_surer() -> None:
    found = some(2)
    often = measures(
        np.tile(found.people, 9), np.tile(found.first == 1, 9), np.tile(found.precision, 9)
    )
    assert estimate(often).rank1 == pytest.approx(estimate(found).rank1)
    assert estimate(often).average_precision == pytest.approx(estimate(found).average_precision)


def test_more_people_make_it_surer() -> None:
    few, many = estimate(some(3)), estimate(some(3, people=600, queries=2400))
    assert few.rank1[1] - few.rank1[0] > 3 * (many.rank1[1] - many.rank1[0])


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth, held = 1 / 1.5, 0
    for seed in range(150):
        low, high = estimate(some(seed, people=60, queries=300), resamples=300).rank1
        held += low <= truth <= high
    assert 0.87 <= held / 150 <= 1.0


def test_the_same_numbers_give_the_same_interval_however_few_draws_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = some(4)
    whole = estimate(found)
    monkeypatch.setattr(bootstrap, "_CELLS", 77)
    again = estimate(found)
    assert (again.rank1, again.average_precision) == (whole.rank1, whole.average_precision)


def test_one_person_and_nobody_have_an_interval_too() -> None:
    alone = estimate(measures(np.zeros(4, np.int64), np.array([1, 0, 0, 0]) > 0, np.full(4, 0.5)))
    assert alone.people == 1
    assert alone.rank1 == (0.25, 0.25)
    nobody = estimate(measures(np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0)))
    assert (nobody.people, nobody.score.queries) == (0, 0)
    assert np.isnan(nobody.rank1).all()


def nudged(found: Measures, seed: int, gain: float) -> Measures:
    """The same queries, answered almost as well or badly, `gain` better in precision."""
    rng = np.random.default_rng(seed)
    right = np.where(rng.random(found.first.size) < 0.1, rng.random() < 0.5, found.first == 1)
    return measures(found.people, right, found.precision + gain + rng.normal(0, 0.02, right.size))


def test_a_difference_equals_a_loop_that_draws_the_same_people_for_both() -> None:
    theirs = some(1)
    ours = nudged(theirs, 2, 0.03)
    names = np.unique(theirs.people)
    rng = np.random.default_rng(5)
    rank1, precision = [], []
    for _ in range(300):
        drawn = names[rng.integers(0, names.size, names.size)]
        rows = np.concatenate([np.flatnonzero(theirs.people == name) for name in drawn])
        rank1.append(np.mean(ours.first[rows] == 1) - np.mean(theirs.first[rows] == 1))
        precision.append(np.mean(ours.precision[rows]) - np.mean(theirs.precision[rows]))
    found = difference(ours, theirs, resamples=300, seed=5)
    assert found.rank1_interval == pytest.approx(np.percentile(rank1, [2.5, 97.5]), abs=1e-12)
    assert found.average_precision_interval == pytest.approx(
        np.percentile(precision, [2.5, 97.5]), abs=1e-12
    )
    assert found.average_precision == pytest.approx(np.mean(ours.precision - theirs.precision))
    assert (found.people, found.queries) == (names.size, 120)


def test_a_small_gain_shows_although_the_intervals_of_both_models_overlap() -> None:
    theirs = some(3)
    ours = nudged(theirs, 4, 0.02)
    low, high = difference(ours, theirs).average_precision_interval
    assert 0 < low < 0.02 < high
    assert estimate(ours).average_precision[0] < estimate(theirs).average_precision[1]
    there, back = difference(ours, theirs), difference(theirs, ours)
    assert back.rank1 == -there.rank1
    assert back.rank1_interval == pytest.approx([-end for end in there.rank1_interval[::-1]])


def test_models_that_were_asked_different_queries_are_not_compared() -> None:
    with pytest.raises(InputError, match="119 queries with 120 others"):
        difference(some(1).where(np.arange(120) > 0), some(1))
