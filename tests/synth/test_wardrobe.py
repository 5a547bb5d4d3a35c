from __future__ import annotations

from itertools import combinations

from skyreid.synth.closets import EVERYDAY, VIVID
from skyreid.synth.wardrobe import (
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
        for kind in (VIVID.air_cues, VIVID.ground_cues, VIVID.common_cues):
            assert sum(cue in kind for cue in sibling.cues) == 2
        fixed = {"top", "hem", "belly", "sock"}
        fixed |= {*VIVID.air_cues, *VIVID.ground_cues, *VIVID.common_cues}
        for cue in fixed - set(sibling.cues):
            assert getattr(sibling, cue) == getattr(eldest, cue)


def test_a_hat_hides_short_hair_from_above():
    person = next(p for p in population(200, seed=0) if p.headgear == "cap")
    table = person_as_json(person)
    one = Person(**{**table, "hairstyle": "short", "hair": 1})
    other = Person(**{**table, "hairstyle": "short", "hair": 3})
    assert look_from_above(one) == look_from_above(other)


def test_everyday_look_alikes_share_every_colour_and_differ_all_the_same():
    people = population(200, seed=2, closet=EVERYDAY)
    colours = ("top", "top2", "bottom", "shoe", "hair", "head_col", "bag_col", "tone")
    for family in families(people):
        for colour in colours:
            assert len({getattr(person, colour) for person in family}) == 1
        for one, other in combinations(family, 2):
            assert look_from_above(one) != look_from_above(other)
            assert look_from_street(one) != look_from_street(other)


def test_everyday_is_mostly_black_grey_navy_denim_and_white():
    muted = {"black", "charcoal", "grey", "navy", "white", "jeans", "jeans_dark", "jeans_light"}
    shares = [
        sum(person.top in muted and person.bottom in muted for person in people) / len(people)
        for people in (
            population(800, seed=3, family_size=1, closet=closet) for closet in (VIVID, EVERYDAY)
        )
    ]
    assert shares[0] < 0.35 < 0.55 < shares[1]


def test_the_vivid_closet_leaves_every_cut_as_it_was():
    for person in population(40, seed=5):
        assert (person.loose, person.trouser, person.bag_size, person.tone) == (1, 1, 1, 1)
        assert (person.coat_m, person.texture) == (0.52, "smooth")
