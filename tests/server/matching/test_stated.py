"""Nothing is stated more surely than what it hangs on: rivals who came, doubtful links, looks."""

from dataclasses import replace

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Kind
from skyreid.server.matching.likelihood import (
    FORGET_S,
    GAPS_S,
    SURE_MAX,
    accept_from,
    arrivals_per_s,
    by_gap,
)
from skyreid.server.matching.looks import ODD_LOOKS, RARE, Looks
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.odds import Scores
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals
from skyreid.server.matching.tracklets import Window, begin

START_NS = 1_790_000_000_000_000_000
NORMALS = Normals(0.6, 0.15, 0.0, 0.15)


def later(told, seconds, number=1):
    """The same once more, as other tracklets."""
    ns = round(seconds * 1e9)
    return [
        (
            device,
            boot,
            model,
            replace(
                s,
                track=s.track + 100 * number,
                seq=s.seq + 10_000 * number,
                first_seen_ns=s.first_seen_ns + ns,
                captured_at_ns=s.captured_at_ns + ns,
            ),
        )
        for device, boot, model, s in told
    ]


@pytest.mark.parametrize("gap_s", [40.0, 150.0])
def test_who_is_linked_by_way_of_a_doubtful_link_is_as_doubtful(gap_s, world, plaza, matched):
    """Somebody leaves, and one who looks the same comes: each is seen by several cameras at once.

    Nothing but looks joins the two; that the second one's tracklets are of one person is no news of
    the first.
    """
    made = world(1, plaza, people=1, seconds=6, breaks=0.0)
    both = replace(made, told=made.told + later(made.told, gap_s))
    state = matched(both).state
    (identity,) = state.identities.values()
    after = [m for key, m in identity.members.items() if key.track > 100]
    before = [m for key, m in identity.members.items() if key.track < 100 and m is not None]
    assert len(after) > 2
    assert any(e.kind == "place" and e.llr > 2 for m in after for e in m.evidence)
    assert {m.state for m in after} == {"tentative"}
    assert max(m.probability for m in after) < accept_from(MatchingOptions().fpir)
    if gap_s > 120:  # the first ones are settled by then
        assert "accepted" in {m.state for m in before}


def test_the_bridge_holds_when_somebody_is_told_of_before_any_look_at_the_whole(
    world, plaza, matched
):
    made = world(1, plaza, people=1, seconds=6, breaks=0.0)
    matcher = Matcher(MatchingOptions())
    for row in made.told:
        matcher.add(*row)
    matcher.advance(None)
    for row in later(made.told, 150.0):
        matcher.add(*row)
    made_first = matcher.advance(START_NS + 151 * 10**9)  # two micro-batches after they came
    links = [a.decision.match for a in made_first if a.decision.kind == "assign"]
    assert sum(match is not None for match in links) > 2
    across = [match for match in links if match is not None and match.other.track < 100]
    assert {match.state for match in across} <= {"tentative"}
    known = {name for key, name in matcher.state.tracks.items() if key.track < 100}
    joined = known & {name for key, name in matcher.state.tracks.items() if key.track > 100}
    # Somebody new, or the one who had left: then all of them are in doubt.
    assert not joined or {match.state for match in links if match} == {"tentative"}


def test_new_people_a_second_are_those_who_were_not_there_at_the_beginning():
    person = np.array([0, 0, 1, 2, 3, 4])
    first_s = np.array([0, 300, 5, 100, 200, 400])
    last_s = first_s + 10
    rate = arrivals_per_s(person, first_s * 10**9, last_s * 10**9)
    assert rate == pytest.approx(3 / (410 - FORGET_S))
    assert arrivals_per_s(person[:0], first_s[:0], last_s[:0]) == 0.0
    # In a short time nobody can tell how often: two in three seconds are not forty a minute.
    assert arrivals_per_s(person[:3], first_s[:3] * 10**9, last_s[:3] * 10**9) < 0.02


def test_a_link_over_a_gap_counts_who_came_meanwhile(make):
    """One camera, somebody new every ten seconds; the first one comes back after five minutes."""
    matcher = Matcher(MatchingOptions())

    def see(track, at_s, person):
        for revision in range(3):
            one = make.sighting(
                10 * track + revision, track=track, person=person, at_s=at_s + revision
            )
            kind = Kind.UPDATE if revision else Kind.NEW
            first_ns = make.start_ns + round((at_s - 0.5) * 1e9)
            told = replace(one, revision=revision, kind=kind, first_seen_ns=first_ns, ground=None)
            nobody_else = np.eye(32, dtype=np.float32)[person]
            matcher.add("uav1", "1-a", "model0", replace(told, embedding=nobody_else))
        matcher.advance(make.start_ns + round((at_s + 5) * 1e9))

    for k in range(30):
        see(k + 1, 10.0 * k, person=k)
    see(50, 310.0, person=0)
    name = matcher.state.tracks[TrackKey("uav1", "1-a", "cam1", 50)]
    assert name == matcher.state.tracks[TrackKey("uav1", "1-a", "cam1", 1)]
    match = matcher.state.identities[name].members[TrackKey("uav1", "1-a", "cam1", 50)]
    assert match is not None
    prior = next(e.llr for e in match.evidence if e.kind == "prior")
    assert prior < -np.log(25)  # nobody is ever there beside them


def test_without_poses_looks_are_enough_where_many_strangers_were_seen(world, blind):
    """Three hundred people come and go, some ten at a time, and all look different."""
    made = world(
        3, blind, people=300, seconds=220, stay_s=(6, 9), noise=0.3, view_gap=0.2, breaks=0.0
    )
    last = {TrackKey(d, b, s.camera, s.track): (m, s) for d, b, m, s in made.told}
    window = Window(overlap_tolerance_s=0.3)
    rows = {window.put(begin(key, m, s)): made.truth[key] for key, (m, s) in sorted(last.items())}
    of = {who: np.array([r for r, w in rows.items() if w == who]) for who in set(rows.values())}
    sure = {}
    for known in (False, True):
        scores = Scores(window, {})
        owner = {row: str(who) for row, who in rows.items() if known}
        scores.refresh(owner, whole=True)
        asked = [(row, who, other) for row, who in rows.items() for other in (who, who % 299 + 1)]
        asked = [(row, who, other) for row, who, other in asked if other in of]
        odds, part = scores.links([row for row, _, _ in asked], [of[o] for _, _, o in asked])
        pairs = [part(k) for k in range(len(asked))]
        sure[known] = [
            who == other
            for (_, who, other), one, several in zip(asked, odds, pairs, strict=True)
            if len(several.b)
            and scores.reason(float(one), several, np.full(len(several.b), np.inf), 0.01).state
            == "accepted"
        ]
    for told in sure.values():
        assert len(told) > 0.5 * len(rows)
        assert np.mean(told) >= 0.98
    some = next(several for several in pairs if len(several.b))
    looks = scores.reason(0.0, some, np.full(len(some.b), np.inf), 0.01).evidence[0]
    assert looks.strangers is not None
    assert looks.strangers > 1000
    assert looks.as_alike is not None


def test_no_link_is_stated_surer_than_checked_ones_could_show(world, plaza, matched):
    made = world(1, plaza, people=3, seconds=8, noise=0.2, view_gap=0.2, breaks=0.0)
    identities = matched(made).state.identities.values()
    stated = [m.probability for i in identities for m in i.members.values() if m is not None]
    assert max(stated) == SURE_MAX
    assert 1 / (1 - SURE_MAX) <= 3000


def strangers(count, *, alike=0):
    values = np.random.default_rng(0).normal(0.0, 0.15, count)
    values[:alike] = 0.7
    return np.sort(values)


def test_looks_that_nothing_was_held_against_say_what_is_believed():
    cosines = np.linspace(-1, 1, 21)
    unchecked = Looks(NORMALS, np.zeros(0), 0.0)
    llr, most = unchecked.says(cosines)
    assert (llr >= np.log(ODD_LOOKS)).all()
    assert (llr <= most).all()
    assert most.max() == pytest.approx(np.log(1 / RARE))
    assert (np.diff(llr) > -1e-9).all()


def test_looks_say_more_where_many_strangers_were_seen_and_none_so_alike():
    many = Looks(NORMALS, strangers(4000), 4000.0)
    few = Looks(NORMALS, strangers(4000), 100.0)  # as many pairs, of fifteen people
    nobody = Looks(NORMALS, np.zeros(0), 0.0)
    assert many.llr(np.array(0.9)) > few.llr(np.array(0.9)) > nobody.llr(np.array(0.9))
    assert many.says(np.array(1.0))[1] == pytest.approx(np.log(4000 + 1 / RARE))


def test_two_strangers_who_look_alike_among_few_take_nearly_all_that_is_believed():
    nobody = Looks(NORMALS, np.zeros(0), 0.0)
    one_pair = Looks(NORMALS, strangers(15, alike=1), 15.0)
    assert one_pair.llr(np.array(0.65)) < 4.2
    assert one_pair.llr(np.array(0.65)) < nobody.llr(np.array(0.65)) - 2


def test_the_prior_of_a_gap_is_how_many_come_back_after_it():
    """A thousand pairs a class; nobody comes back after a minute, and looks can tell."""
    rng = np.random.default_rng(5)
    gap = np.repeat(np.arange(len(GAPS_S)), 1000)
    same = rng.random(len(gap)) < np.where(gap < 3, 0.1, 0.0)
    llr = np.where(same, 5.0, -2.5) + rng.normal(0, 0.5, len(gap))
    added = by_gap(llr, np.full(len(gap), np.log(0.05)), gap)
    assert added[:3] == pytest.approx(np.log(2), abs=0.35)
    assert (added[3:] < -1.5).all()
    # Looks that say nothing, and nobody there: nothing is known of gaps.
    np.testing.assert_allclose(by_gap(0 * llr, np.full(len(gap), -3.0), gap), 0.0)
    np.testing.assert_array_equal(by_gap(llr[:0], llr[:0], gap[:0]), 0.0)


@pytest.mark.parametrize("telling", [True, False])
def test_a_site_where_looks_cannot_tell_says_so_and_goes_by_place(telling, world, plaza, matched):
    """Embeddings that say nothing: drawn anew for every sighting."""
    made = world(4, plaza, people=14, seconds=14, noise=0.3, view_gap=0.3)
    rng = np.random.default_rng(0)
    told = []
    for device, boot, model, s in made.told:
        drawn = rng.normal(size=len(s.embedding)).astype(np.float32)
        seen = s if telling else replace(s, embedding=drawn / np.linalg.norm(drawn))
        told.append((device, boot, model, seen))
    matcher = matched(replace(made, told=told))
    assert ("aerial-ground" in matcher.scores.looks.uninformative) is not telling
    looks = [
        e.llr
        for identity in matcher.state.identities.values()
        for match in identity.members.values()
        if match is not None
        for e in match.evidence
        if e.kind == "appearance" and e.llr
    ]
    assert bool(looks) or not telling


def test_looks_say_no_more_than_strangers_who_look_so_alike_allow():
    alike = Looks(NORMALS, strangers(4000, alike=200), 4000.0)
    assert alike.llr(np.array(0.65)) < np.log(1 / 0.045)
    beyond = alike.llr(np.array(0.75))
    assert beyond > alike.llr(np.array(0.65))  # those were not so alike
