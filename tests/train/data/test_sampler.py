import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.train.data.sampler import PkSampler

PEOPLE = np.repeat(np.arange(12), 10)
VIEWS = np.tile(np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0]), 12)


def sampler(**changes: int | bool) -> PkSampler:
    options = dict(people_per_batch=6, crops_per_person=4, balance_views=True, seed=3)
    return PkSampler(PEOPLE, VIEWS, **{**options, **changes})  # type: ignore[arg-type]


def test_every_batch_holds_p_people_with_k_crops_half_of_them_aerial() -> None:
    for batch in islice(sampler(), 50):
        people, counts = np.unique(PEOPLE[batch], return_counts=True)
        assert people.size == 6
        assert counts.tolist() == [4] * 6
        for person in people:
            assert VIEWS[batch[PEOPLE[batch] == person]].sum() == 2


def test_no_person_and_no_picture_comes_again_before_all_others_have() -> None:
    batches = list(islice(sampler(), 20))
    for pair in range(0, 20, 2):
        assert set(PEOPLE[np.concatenate(batches[pair : pair + 2])]) == set(range(12))
    # Four aerial pictures, two in a batch: after two rounds each was drawn exactly once.
    drawn = np.concatenate(batches[:4])
    _, counts = np.unique(drawn[VIEWS[drawn] == 1], return_counts=True)
    assert counts.tolist() == [1] * 48


def test_a_person_seen_from_one_view_only_still_brings_k_crops() -> None:
    views = np.where(PEOPLE == 0, 0, VIEWS)
    made = PkSampler(
        PEOPLE, views, people_per_batch=12, crops_per_person=4, balance_views=True, seed=0
    )
    batch = next(iter(made))
    assert (PEOPLE[batch] == 0).sum() == 4


def test_the_same_seed_draws_the_same_batches() -> None:
    for one, other in zip(islice(sampler(), 5), islice(sampler(), 5), strict=True):
        assert one.tolist() == other.tolist()


def test_half_of_a_batch_becomes_look_alikes_once_they_are_known() -> None:
    made = sampler()
    neighbours = (np.arange(12)[:, None] + np.array([[4, 8]])) % 12  # classes modulo 4
    made.set_neighbours(neighbours)
    for batch in islice(made, 20):
        people = PEOPLE[batch][::4]
        assert len(set(people.tolist())) == 6
        assert len({p % 4 for p in people[:3].tolist()}) == 1


def test_more_people_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="13 people"):
        sampler(people_per_batch=13)
    with pytest.raises(ValueError, match="even"):
        sampler(crops_per_person=3)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=8),
    st.integers(2, 3),
    st.integers(2, 4),
    st.integers(0, 2**31 - 1),
)
def test_a_pass_draws_people_until_their_pictures_are_used_up(
    counts: list[int], people_per_batch: int, crops: int, seed: int
) -> None:
    """Held by keeping the books of three passes: who is still there, with which pictures."""
    people = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    batches = iter(
        PkSampler(
            people,
            np.zeros_like(people),
            people_per_batch=people_per_batch,
            crops_per_person=crops,
            balance_views=False,
            passes=True,
            seed=seed,
        )
    )
    for _ in range(3):
        left = {p: set(np.flatnonzero(people == p).tolist()) for p in range(len(counts))}
        turns = {p: max(1, count // crops) for p, count in enumerate(counts)}
        while sum(turn > 0 for turn in turns.values()) >= people_per_batch:
            rows = next(batches).reshape(people_per_batch, crops)
            assert len({int(people[row[0]]) for row in rows}) == people_per_batch
            for row in rows:
                person = int(people[row[0]])
                assert turns[person] > 0
                turns[person] -= 1
                assert set(row.tolist()) <= left[person]
                if counts[person] >= crops:  # without replacement
                    assert len(set(row.tolist())) == crops
                    left[person] -= set(row.tolist())


def test_in_passes_people_come_as_often_as_their_pictures_allow() -> None:
    people = np.repeat(np.arange(3), [40, 40, 8])
    made = PkSampler(
        people, people, people_per_batch=2, crops_per_person=4, balance_views=False, passes=True,
        seed=1,
    )  # fmt: skip
    drawn = people[np.concatenate(list(islice(made, 300)))]
    share = np.bincount(drawn) / drawn.size
    assert share[2] < 0.15  # by turns a third
    assert share[0] == pytest.approx(share[1], abs=0.05)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(any), min_size=4, max_size=8),
    st.sampled_from([2, 4, 6]),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
def test_by_turns_no_picture_comes_again_before_all_of_its_kind_have(
    counts: list[tuple[int, int]], crops: int, balance: bool, seed: int
) -> None:
    """Held by dealing every kind of picture of a person from a deck of its own, as counted here."""
    labels = [(p, v) for p, pair in enumerate(counts) for v in (0, 1) for _ in range(pair[v])]
    people, views = np.array(labels).T
    made = PkSampler(
        people, views, people_per_batch=2, crops_per_person=crops, balance_views=balance, seed=seed
    )
    decks: dict[tuple[int, int], list[int]] = {}
    for batch in islice(made, 30):
        for row in batch.reshape(2, crops).tolist():
            person = int(people[row[0]])
            both = all(counts[person])
            if balance and both:
                assert views[row].sum() == crops // 2
            for picture in row:
                assert people[picture] == person
                kind = (person, int(views[picture]) if balance else -1)
                deck = decks.setdefault(kind, [])
                if not deck:
                    deck += [
                        i for i, (p, v) in enumerate(labels)
                        if p == person and (not balance or v == views[picture])
                    ]  # fmt: skip
                deck.remove(picture)  # raises when it came before its turn


def test_passes_with_balance_or_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot balance"):
        sampler(passes=True)
    with pytest.raises(ValueError, match="no look-alikes"):
        sampler(passes=True, balance_views=False).set_neighbours(np.zeros((12, 1), np.int64))


@pytest.mark.parametrize(
    "options", [{}, {"balance_views": False}, {"passes": True, "balance_views": False}]
)
def test_a_sampler_goes_on_where_another_was(options: dict[str, bool]) -> None:
    first = sampler(**options)
    stream = iter(first)
    for number in range(9):
        next(stream)
        if number == 4 and not options.get("passes"):
            first.set_neighbours(np.roll(np.arange(12), 1)[:, None])
    kept = json.loads(json.dumps(first.state()))
    second = sampler(**options)
    second.restore(kept)
    for _, one, other in zip(range(30), stream, second, strict=False):
        np.testing.assert_array_equal(one, other)
