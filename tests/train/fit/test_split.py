from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.train.data import cargo
from skyreid.train.fit.split import hold_out, labels, some_people


def test_a_first_stage_takes_the_same_few_people_every_time(tiny_tree: Path) -> None:
    records = cargo.read(tiny_tree, "train").records
    everybody = {r.person for r in records}
    few = some_people(records, 3, seed=1)
    chosen = {r.person for r in few}
    assert len(chosen) == 3
    assert chosen < everybody
    assert few == [r for r in records if r.person in chosen]
    assert few == some_people(records, 3, seed=1)
    assert some_people(records, None, seed=1) == list(records)
    with pytest.raises(InputError, match=f"run.people is 99, but only {len(everybody)} people"):
        some_people(records, 99, seed=1)


def test_held_out_people_are_never_trained_on(tiny_tree: Path) -> None:
    records = cargo.read(tiny_tree, "train").records
    kept, held_out = hold_out(records, 2, seed=4)
    assert len(kept) + len(held_out) == len(records)
    assert not {r.person for r in kept} & {r.person for r in held_out}
    people, views = labels(kept)
    assert sorted(set(people.tolist())) == [0, 1, 2, 3]
    assert views.mean() == 0.5


def test_too_few_people_to_hold_some_out_is_said(tiny_tree: Path) -> None:
    with pytest.raises(InputError, match="6 people"):
        hold_out(cargo.read(tiny_tree, "train").records, 5, seed=0)
