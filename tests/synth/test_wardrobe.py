from __future__ import annotations

from itertools import combinations

from skyreid.synth.wardrobe import (
    AIR_CUES,
    COMMON_CUES,
    GROUND_CUES,
    Person,
    look_from_above,
    look_from_street,
    person_as_json,
    population,
)


def families(people: list[Person]) -> list[list[Person]]:
    numbers = sorted({person.family for person in people})
    return [[person for person in people if person.family == number] for number in numbers]


def test_the_same_seed_gives_the_same_people_and_another_seed_gives_others():
    assert population(12, seed=5) == population(12, seed=5)
    assert population(12, seed=5) != population(12, seed=6)


def test_more_people_do_not_change_the_first_ones():
    assert population(30, seed=5)[:12] == population(12, seed=5)


def test_people_are_numbered_from_one_in_families_of_four():
    people = population(10, seed=1)
    assert [person.pid for person in people] == list(range(1, 11))
    assert [len(family) for family in families(people)] == [4, 4, 2]


def test_siblings_share_their_top_but_never_look_alike_from_above_nor_from_the_street():
    for family in families(population(200, seed=2)):
        assert len({person.top for person in family}) == 1
        for one, other in combinations(family, 2):
            assert look_from_above(one) != look_from_above(other)
            assert look_from_street(one) != look_from_street(other)


def test_a_sibling_tells_which_cues_were_drawn_for_it():
    eldest, *siblings = population(4, seed=9)
    assert eldest.cues == ()
    for sibling in siblings:
        for kind in (AIR_CUES, GROUND_CUES, COMMON_CUES):
            assert sum(cue in kind for cue in sibling.cues) == 2
        fixed = {"top", "hem", "belly", "sock", *AIR_CUES, *GROUND_CUES, *COMMON_CUES}
        for cue in fixed - set(sibling.cues):
            assert getattr(sibling, cue) == getattr(eldest, cue)


def test_a_hat_hides_short_hair_from_above():
    person = next(p for p in population(200, seed=0) if p.headgear == "cap")
    table = person_as_json(person)
    one = Person(**{**table, "hairstyle": "short", "hair": 1})
    other = Person(**{**table, "hairstyle": "short", "hair": 3})
    assert look_from_above(one) == look_from_above(other)
