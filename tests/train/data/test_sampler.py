from itertools import islice

import numpy as np
import pytest

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
