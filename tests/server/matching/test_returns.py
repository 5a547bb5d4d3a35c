"""Returns in the fold: links that join nothing, go with their tracklets, and stay undone."""

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import Match, Return, ReturnState, TrackKey, encode_event
from skyreid.server.matching.identity import Decision, State, apply, replay


def key(number: int) -> TrackKey:
    return TrackKey("dev", "1-a", "cam1", number)


def name(number: int) -> str:
    return key(number).identity_id()


def assign(number: int, identity: str | None = None) -> Decision:
    match = None if identity is None else Match("accepted", 0.9, key(0), ())
    return Decision("assign", number, identity or name(number), (key(number),), match=match)


def link(later: int, earlier: int, state: ReturnState = "accepted", sure: float = 0.9) -> Return:
    return Return(state, sure, key(later), key(earlier), 3600.0, 40, 0.5, ("ground", "aerial"))


def returned(
    state: State, later: int, earlier: int, said: ReturnState = "accepted", sure: float = 0.9
) -> Decision:
    homes = state.tracks[key(later)], state.tracks[key(earlier)]
    of = link(later, earlier, said, sure)
    return Decision("return", state.at_ns, homes[0], (key(later),), homes[1], link=of)


def after(state: State, *decisions: Decision) -> State:
    return replay(decisions, state)


THREE = replay([assign(1), assign(2), assign(3)])


def test_a_return_joins_nothing_and_gives_the_person_the_earliest_id() -> None:
    state, events = apply(THREE, returned(THREE, 2, 1))
    assert set(state.identities) == {name(1), name(2), name(3)}
    assert [state.person(name(n)) for n in (1, 2, 3)] == [name(1), name(1), name(3)]
    (event,) = events
    assert (event.type, event.identity, event.other) == ("returned", name(2), name(1))
    assert event.to_json()["person"] == name(1)
    assert event.to_json()["return"]["told_from"] == 40
    assert event.to_json()["return"]["with"]["track"] == 1
    said = encode_event(event, site="s", decision=4, number=0, decided_at_ns=10**18)
    assert '"type":"skyreid.v1.identity.returned"' in said
    state = after(state, returned(state, 3, 2))
    assert [state.person(name(n)) for n in (1, 2, 3)] == [name(1)] * 3


def test_a_tentative_return_names_nobody_anew_and_a_better_one_takes_its_place() -> None:
    state = after(THREE, returned(THREE, 3, 1, "tentative", 0.6))
    assert state.person(name(3)) == name(3)
    state = after(state, returned(state, 3, 2))
    assert (state.person(name(3)), state.identities[name(1)].links) == (name(2), ())


def test_what_was_undone_cannot_be_linked_again_and_says_so_to_the_world() -> None:
    state = after(THREE, returned(THREE, 2, 1))
    state, (event,) = apply(state, returned(state, 2, 1, "undone"))
    assert event.link is not None
    assert (event.type, event.link.state, event.person) == ("returned", "undone", name(2))
    assert state.person(name(2)) == name(2)
    assert state.identities[name(2)].link is None
    with pytest.raises(InputError, match="it was undone"):
        apply(state, returned(state, 2, 1))
    with pytest.raises(InputError, match="it was undone"):  # the other way round it is the same
        apply(state, returned(state, 1, 2))
    state = after(state, returned(state, 2, 3), returned(state, 2, 1, "undone"))
    assert state.person(name(2)) == name(3)


def test_erasing_one_of_two_linked_identities_takes_the_link_and_nothing_of_the_other() -> None:
    state = after(THREE, returned(THREE, 2, 1), returned(THREE, 3, 2))
    state, events = apply(state, Decision("erase", 9, name(1)))
    assert [e.type for e in events] == ["erased"]
    assert set(state.tracks) == {key(2), key(3)}
    assert state.identities[name(2)].links == (link(3, 2),)
    assert state.person(name(3)) == name(2)
    state = after(state, Decision("forget", 10, "", (key(3),)))
    assert state.identities[name(2)].links == ()


def test_a_link_is_gone_with_its_tracklet_and_what_was_undone_with_its_identity() -> None:
    state = after(THREE, assign(4, name(1)), returned(THREE, 2, 1))
    state = after(state, Decision("erase", 9, name(1), (key(1),)))
    assert (state.identities[name(1)].links, state.identities[name(2)].links) == ((), ())
    state = after(THREE, assign(4, name(1)), returned(THREE, 2, 1, "undone"))
    state = after(state, Decision("forget", 9, "", (key(1),)))
    (left,) = state.identities[name(2)].links
    assert (left.state, left.other, left.similarity) == ("undone", key(4), None)
    state = after(state, Decision("forget", 10, "", (key(4),)))
    assert state.identities[name(2)].links == ()


def test_links_go_with_their_tracklets_when_identities_merge_and_part() -> None:
    why = Match("accepted", 0.9, key(1), ())
    state = after(THREE, returned(THREE, 2, 1), returned(THREE, 3, 2, "undone"))
    state = after(state, Decision("merge", 9, name(3), (), name(2), why))
    assert state.identities[name(3)].links == (link(2, 1),)  # nobody is undone from itself
    assert state.person(name(3)) == name(1)
    fresh = state.mint(key(2))
    state = after(state, Decision("split", 10, fresh, (key(2),), name(3)))
    assert (state.person(fresh), state.person(name(3))) == (name(1), name(3))
    state = after(state, Decision("merge", 11, name(1), (), fresh, why))
    assert state.identities[name(1)].links == ()


def test_of_two_links_that_a_merge_brings_together_the_surer_stays() -> None:
    state = replay([assign(n) for n in range(1, 5)])
    state = after(state, returned(state, 3, 1, sure=0.7), returned(state, 4, 2, sure=0.8))
    why = Match("accepted", 0.9, key(1), ())
    state = after(state, Decision("merge", 9, name(3), (), name(4), why))
    assert state.person(name(3)) == name(2)
    assert state.identities[name(1)].links == ()


def test_a_ring_that_merges_have_closed_is_one_person() -> None:
    state = replay([assign(n) for n in range(1, 5)])
    state = after(state, returned(state, 2, 1), returned(state, 4, 3))
    why = Match("accepted", 0.9, key(1), ())
    state = after(state, Decision("merge", 9, name(2), (), name(3), why))
    state = after(state, Decision("merge", 10, name(1), (), name(4), why))
    assert {state.person(n) for n in state.identities} == {name(1)}


@pytest.mark.parametrize(
    ("later", "earlier", "of"),
    [(2, 2, link(2, 2)), (2, 1, link(3, 1)), (2, 1, link(2, 3)), (2, 1, None), (2, 9, link(2, 9))],
)
def test_a_return_that_fits_nobody_is_refused(later: int, earlier: int, of: Return | None) -> None:
    decision = Decision("return", 9, name(later), (key(later),), name(earlier), link=of)
    with pytest.raises(InputError, match="decision return"):
        apply(THREE, decision)
