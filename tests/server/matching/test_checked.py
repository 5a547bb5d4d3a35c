"""What became of links: those taken back and those still there are counted, each once."""

from dataclasses import replace

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import Match, Return, TrackKey
from skyreid.server.matching.checked import NOTHING_CHECKED, Checked, count, parted, within
from skyreid.server.matching.identity import Decision, State, apply, replay
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions

OPTIONS = MatchingOptions(window_s=60.0)


def key(number: int) -> TrackKey:
    return TrackKey("dev", "1-a", "cam1", number)


def link(other: int, probability: float) -> Match:
    return Match("accepted", probability, key(other), ())


def test_counts_add_up_by_how_sure_the_links_were_told_and_survive_the_log() -> None:
    told = [link(0, p) for p in (0.2, 0.5, 0.89, 0.9, 0.989, 0.99, 0.999)]
    one = count(told, told[-2:], block=7)
    assert one == Checked((1, 2, 2, 2), (0, 0, 0, 2), 7)
    assert Checked.read(one.text) == one
    log = [Decision("check", 5, "", other=one.text)] * 2
    log.append(Decision("check", 6, "", other=count([], []).text))
    assert replay(log).checked == Checked((2, 4, 4, 4), (0, 0, 0, 4), 7)
    for text in ("", "1 2 3", "1 2 3 4 5 6 7 x", "1 2 3 4 5 6 7 8 9 10"):
        with pytest.raises(InputError, match="no counts of links"):
            apply(State(), Decision("check", 6, "", other=text))


def test_a_link_is_taken_back_where_its_two_tracklets_are_in_two_identities() -> None:
    one = key(0).identity_id()
    log = [Decision("assign", 1, one, (key(0),))]
    log += [
        Decision("assign", 2, one, (key(n),), match=link(other, 0.95))
        for n, other in [(1, 0), (2, 1), (3, 9)]
    ]
    state = replay(log)
    links = within(state.identities, [one])
    assert links == {key(1): link(0, 0.95), key(2): link(1, 0.95)}, "9 is nobody"
    split = Decision("split", 3, key(1).identity_id(), (key(1), key(2)), one)
    after, _ = apply(state, split)
    assert list(parted(links, after.tracks)) == [key(1)], "1 and 2 went together"
    gone, _ = apply(state, Decision("erase", 3, one, (key(0),)))
    assert not parted(links, gone.tracks), "who is erased proves nobody wrong"


def test_a_return_counts_once_as_sure_as_it_was_told_last_and_as_wrong_where_undone() -> None:
    said = Return("accepted", 0.95, key(1), key(0), 3600.0, 9, 0.5, ("ground", "aerial"))
    names = key(1).identity_id(), key(0).identity_id()

    def told(anew: Return) -> Decision:
        return Decision("return", 9, names[0], (key(1),), names[1], link=anew)

    log = [Decision("assign", n, key(n).identity_id(), (key(n),)) for n in range(2)]
    log += [told(said), told(replace(said, probability=0.6, state="tentative"))]
    assert replay(log).checked_returns == Checked((0, 1, 0, 0))
    undone = replace(said, probability=0.6, state="undone")
    log += [told(undone), told(undone)]
    assert replay(log).checked_returns == Checked((0, 1, 0, 0), (0, 1, 0, 0))
    anew = replay([*log[:2], told(undone)])  # a log made anew, in which it had not been told
    assert anew.checked_returns == Checked((0, 1, 0, 0), (0, 1, 0, 0))


def test_the_stream_counts_links_when_they_are_settled_and_a_step_done_twice_counts_none(
    world, plaza
):
    made = world(4, plaza, people=6, seconds=8, breaks=0.2)
    matcher = Matcher(OPTIONS)
    assert matcher.state.checked == NOTHING_CHECKED
    for row in made.told:
        matcher.add(*row)
        matcher.advance(row[3].captured_at_ns)
    matcher.advance(None)
    later = [(d, b, m, moved(s, 130)) for d, b, m, s in made.told[:40]]
    for row in later:
        matcher.add(*row)
        matcher.advance(row[3].captured_at_ns)
    matcher.advance(None)
    first = matcher.state.checked
    links = sum(
        m is not None for i in matcher.state.identities.values() for m in i.members.values()
    )
    assert 0 < sum(first.told) - sum(first.wrong) <= links  # each that still is counts once
    assert all(wrong <= told for wrong, told in zip(first.wrong, first.told, strict=True))
    again = Matcher(OPTIONS, matcher.state)
    for row in [*made.told, *later]:
        again.add(*row)
    again.advance(None)
    assert again.state.checked == first


def moved(sighting, seconds):
    ns = seconds * 10**9
    return replace(
        sighting,
        track=sighting.track + 5000,
        seq=sighting.seq + 5000,
        first_seen_ns=sighting.first_seen_ns + ns,
        captured_at_ns=sighting.captured_at_ns + ns,
    )
