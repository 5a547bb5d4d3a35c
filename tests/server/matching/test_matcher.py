import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Ground, Kind
from skyreid.server.matching import identity as identity_module
from skyreid.server.matching import regroup
from skyreid.server.matching.checked import NOTHING_CHECKED, Checked
from skyreid.server.matching.identity import Applied, Decision, State, apply, replay
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions

START_NS = 1_790_000_000_000_000_000


def feed(matcher, world, rows=None):
    for device, boot, model, sighting in world.told if rows is None else rows:
        matcher.add(device, boot, model, sighting)


def test_people_are_found_again_across_views_with_poses(world, plaza, matched, pairs_right):
    made = world(1, plaza)
    precision, recall = pairs_right(matched(made), made.truth)
    assert precision >= 0.95
    assert recall >= 0.85


def test_looks_alone_join_few_but_right_pairs(world, blind, matched, pairs_right):
    made = world(2, blind)
    precision, recall = pairs_right(matched(made), made.truth)
    assert precision >= 0.8
    assert recall >= 0.3


def test_people_whom_only_one_camera_saw_stay_alone(world, plaza, matched):
    """Two cameras that share nobody: every link between them is wrong."""
    strangers = wrong = 0
    for seed in range(3):
        one = world(10 + seed, plaza[:1], people=10, breaks=0.0)
        other = world(50 + seed, plaza[2:3], people=10, breaks=0.0)
        made = dataclasses.replace(one, told=one.told + other.told)
        made.told.sort(key=lambda row: row[3].captured_at_ns)
        blind = [(d, b, m, dataclasses.replace(s, ground=None)) for d, b, m, s in made.told]
        state = matched(dataclasses.replace(made, told=blind), MatchingOptions(fpir=0.05)).state
        strangers += len(state.tracks)
        for identity in state.identities.values():
            links = [m for m in identity.members.values() if m and m.state == "accepted"]
            wrong += len(links)
    assert strangers >= 50
    assert wrong <= 0.05 * strangers


def test_tracklets_of_one_camera_that_overlap_in_time_are_never_one_person(world, plaza, matched):
    made = world(3, plaza, noise=0.0, view_gap=0.0)
    twin = [
        (d, b, m, dataclasses.replace(s, track=s.track + 1000, seq=s.seq + 1000))
        for d, b, m, s in made.told
    ]
    made = dataclasses.replace(
        made, told=sorted(made.told + twin, key=lambda r: r[3].captured_at_ns)
    )
    state = matched(made).state
    for identity in state.identities.values():
        spans = [
            (s.camera, s.track, s.first_seen_ns, s.captured_at_ns)
            for d, b, _, s in made.told
            if TrackKey(d, b, s.camera, s.track) in identity.members
        ]
        last: dict[Any, tuple[int, int]] = {}
        for camera, track, first, end in spans:
            last[camera, track] = (first, max(end, last.get((camera, track), (0, 0))[1]))
        for (camera, track), (first, end) in last.items():
            for (camera2, track2), (first2, end2) in last.items():
                if camera == camera2 and track < track2:
                    assert min(end, end2) - max(first, first2) <= 0.3e9


def test_the_order_in_which_devices_arrive_changes_nothing(world, plaza):
    made = world(4, plaza, people=5)
    horizon = made.told[len(made.told) // 2][3].captured_at_ns
    logs = []
    for seed in range(3):
        rows = list(made.told)
        np.random.default_rng(seed).shuffle(rows)
        matcher = Matcher(MatchingOptions())
        feed(matcher, made, rows)
        logs.append([*matcher.advance(horizon), *matcher.advance(None)])
    assert logs[0] == logs[1] == logs[2]
    assert logs[0]


def test_the_log_alone_gives_the_matchers_state(world, plaza):
    made = world(5, plaza, people=5)
    matcher = Matcher(MatchingOptions())
    feed(matcher, made)
    log = [*matcher.advance(made.told[40][3].captured_at_ns), *matcher.advance(None)]
    told = [Decision.from_json(a.decision.to_json()) for a in log]
    assert replay(told) == matcher.state
    state = State()
    for decision, applied in zip(told, log, strict=True):
        state, events = apply(state, decision)
        assert events == applied.events


def test_every_decision_is_folded_once(world, plaza, monkeypatch):
    """Also those that a look at the whole window makes, each of which builds on the last."""
    folded = []
    step = identity_module._Draft.step
    monkeypatch.setattr(
        identity_module._Draft, "step", lambda d, s: (folded.append(s), step(d, s))[1]
    )
    wrong = [
        dataclasses.replace(camera, shift_m=(2.0 * n, -1.5 * n)) for n, camera in enumerate(plaza)
    ]
    made = world(1, wrong, people=5, seconds=15, noise=1.5, breaks=0.15)
    matcher, log = Matcher(MatchingOptions(fpir=0.2)), []
    for place, row in enumerate(made.told):
        matcher.add(*row)
        if place % 10 == 0:
            log += matcher.advance(row[3].captured_at_ns)
    log += matcher.advance(None)
    assert folded == [a.decision for a in log]
    assert {d.kind for d in folded} == {"assign", "merge", "move", "split", "revise", "check"}
    checks = [Checked.read(d.other or "") for d in folded if d.kind == "check"]
    assert sum(checks, NOTHING_CHECKED) == matcher.state.checked
    assert any(c.wrong == c.told and sum(c.wrong) for c in checks), "some were taken back"


def test_a_rebuilt_matcher_goes_on_as_the_old_one(world, plaza):
    made = world(6, plaza, people=5)
    half = made.told[len(made.told) // 2][3].captured_at_ns // 10**9 * 10**9
    old = Matcher(MatchingOptions())
    feed(old, made, [r for r in made.told if r[3].captured_at_ns <= half])
    old.advance(half)
    new = Matcher(MatchingOptions(), old.state)
    feed(new, made, [r for r in made.told if r[3].captured_at_ns <= half])
    for matcher in (old, new):
        feed(matcher, made, [r for r in made.told if r[3].captured_at_ns > half])
        matcher.advance(None)
    assert old.state.tracks == new.state.tracks


def test_repeated_sightings_change_nothing(world, plaza):
    made = world(7, plaza, people=4, seconds=8)
    once, thrice = Matcher(MatchingOptions()), Matcher(MatchingOptions())
    feed(once, made)
    for _ in range(3):
        feed(thrice, made)
    assert once.advance(None) == thrice.advance(None)
    feed(thrice, made)
    before = thrice.state.tracks
    thrice.advance(None)
    assert thrice.state.tracks == before


def test_late_sightings_are_matched_too(world, plaza, pairs_right):
    made = world(8, plaza)
    late = [r for r in made.told if r[0] == "dev-cam6"]
    matcher = Matcher(MatchingOptions())
    feed(matcher, made, [r for r in made.told if r[0] != "dev-cam6"])
    matcher.advance(made.told[-1][3].captured_at_ns)
    feed(matcher, made, late)
    matcher.advance(made.told[-1][3].captured_at_ns + 10**9)
    matcher.advance(None)
    assert set(matcher.state.tracks) == set(made.truth)
    precision, recall = pairs_right(matcher, made.truth)
    assert precision >= 0.95
    assert recall >= 0.8


def test_nothing_is_decided_beyond_the_horizon(world, plaza):
    made = world(9, plaza)
    matcher = Matcher(MatchingOptions())
    feed(matcher, made)
    horizon = made.told[len(made.told) // 3][3].captured_at_ns
    log = matcher.advance(horizon)
    assert log
    assert all(a.decision.at_ns <= horizon for a in log)
    first = {TrackKey(d, b, s.camera, s.track): s.captured_at_ns for d, b, _, s in made.told[::-1]}
    assert all(first[key] <= horizon for key in matcher.state.tracks)


def test_looks_alone_are_told_once_they_say_enough_or_two_seconds_are_over(make):
    def seen(track, at_s, **more):
        at_ns = START_NS + round(at_s * 1e9)
        told = make.sighting(track * 100 + more.get("revision", 0), track=track)
        fields: dict[str, Any] = {
            "captured_at_ns": at_ns,
            "kind": Kind.NEW,
            "crops": 2,
            "ground": None,
        } | more
        matcher.add("uav1", "1-a", "model0", dataclasses.replace(told, **fields))

    def known():
        return {key.track for key in matcher.state.tracks}

    matcher = Matcher(MatchingOptions())
    place = Ground(1.0, 2.0, 0.1, 0.0, 0.1)
    cases: list[dict[str, Any]]
    cases = [{}, {}, {"kind": Kind.END}, {"ground": place}, {"crops": 5}]
    for track, more in enumerate(cases, 1):
        seen(track, 0.0, first_seen_ns=START_NS, **more)
    matcher.advance(START_NS + 500_000_000)
    assert known() == {3, 4, 5}
    seen(2, 1.0, first_seen_ns=START_NS, crops=5, revision=1)
    matcher.advance(START_NS + 1_500_000_000)
    assert known() == {2, 3, 4, 5}
    assert matcher.due(START_NS + 2_000_000_000)  # though nothing more comes
    matcher.advance(START_NS + 3_000_000_000)
    assert known() == {1, 2, 3, 4, 5}


def test_two_models_of_one_site_meet_by_place_and_time_and_never_by_looks(
    world, plaza, blind, matched, pairs_right
):
    """While a new model is rolled out, one camera after the other."""

    def rolled(made):
        told = [(d, b, "other" if d == "dev-cam3" else m, s) for d, b, m, s in made.told]
        return dataclasses.replace(made, told=told)

    made = rolled(world(10, plaza, people=6))
    matcher = matched(made)
    precision, recall = pairs_right(matcher, made.truth)
    assert precision >= 0.95
    assert recall >= 0.7
    across = [
        match
        for identity in matcher.state.identities.values()
        for key, match in identity.members.items()
        if match is not None and (key.camera == "cam3") != (match.other.camera == "cam3")
    ]
    assert across
    for match in across:
        looks = next(e for e in match.evidence if e.kind == "appearance")
        assert (looks.llr, looks.value) == (0.0, 0.0)
    nowhere = matched(rolled(world(10, blind, people=3, noise=0.0, view_gap=0.0, breaks=0.0)))
    for identity in nowhere.state.identities.values():
        assert len({key.camera == "cam3" for key in identity.members}) == 1


def test_an_erased_person_is_forgotten_and_later_revisions_do_not_bring_them_back(world, plaza):
    made = world(11, plaza, people=3)
    half = len(made.told) // 2
    matcher = Matcher(MatchingOptions())
    feed(matcher, made, made.told[:half])
    matcher.advance(None)
    victim = min(matcher.state.identities)
    gone = set(matcher.state.identities[victim].members)
    matcher.apply(Decision("erase", matcher.state.at_ns, victim))
    feed(matcher, made, made.told)
    matcher.advance(None)
    assert not gone & set(matcher.state.tracks)
    assert victim not in matcher.state.identities


def test_a_matcher_keeps_nothing_of_tracklets_that_are_dropped(world, plaza):
    made = world(11, plaza, people=3)
    half = len(made.told) // 2
    matcher = Matcher(MatchingOptions())
    feed(matcher, made, made.told[:half])
    matcher.advance(None)
    feed(matcher, made, made.told[half:])
    keys = {TrackKey(d, b, s.camera, s.track) for d, b, _, s in made.told}
    some = set(sorted(keys)[::2])
    assert matcher.drop(some) == len(some)
    assert matcher.drop(some) == 0
    matcher.advance(None)
    waiting = {entry[1] for entry in matcher._arrived}
    assert not some & (waiting | {t.key for t in matcher._window.tracklets()})


def test_a_link_gives_its_evidence_and_its_sum_is_where_the_odds_come_from(world, plaza, matched):
    state = matched(world(12, plaza)).state
    links = [m for i in state.identities.values() for m in i.members.values() if m]
    assert links
    for link in links:
        kinds = [e.kind for e in link.evidence]
        assert kinds[0] == "appearance"
        assert kinds[-1] == "prior"
        assert Counter(kinds).most_common(1)[0][1] == 1
        assert 0.0 <= link.probability <= 1.0
        assert (link.state == "accepted") == (link.probability >= 1 / 1.01 - 1e-4)
        assert all(e.llr < 0 for e in link.evidence if e.kind == "prior")


@pytest.mark.parametrize("shift", [(3.0, 0.0), (8.0, -8.0)])
def test_a_wrong_pose_costs_recall_but_does_not_join_strangers(
    world, plaza, matched, pairs_right, shift
):
    shifted = [dataclasses.replace(plaza[0], shift_m=shift), *plaza[1:]]
    made = world(13, shifted)
    precision, _ = pairs_right(matched(made), made.truth)
    assert precision >= 0.85


def joined(world, plaza, *, ahead_s=0.0):
    """Pairs that join, of people whom both views see a second apart; a clock was ahead before."""
    made = world(9, plaza, people=12, seconds=12, breaks=0.0)
    matcher = Matcher(MatchingOptions())
    if ahead_s:
        device, boot, model, sighting = made.told[0]
        at_ns = sighting.captured_at_ns + round(ahead_s * 1e9)
        early = dataclasses.replace(sighting, track=900, captured_at_ns=at_ns, first_seen_ns=at_ns)
        matcher.add(device, boot, model, early)
        matcher.advance(None)
        assert matcher.decided_ns >= at_ns
    for row in made.told:
        matcher.add(*row)
        matcher.advance(row[3].captured_at_ns - 10**9)
    matcher.advance(None)
    return matcher, made


@pytest.mark.parametrize("ahead_s", [3600.0, 365 * 86_400.0])
def test_a_clock_that_was_ahead_once_harms_nothing_afterwards(world, plaza, pairs_right, ahead_s):
    good, made = joined(world, plaza)
    after, _ = joined(world, plaza, ahead_s=ahead_s)
    (_, found), (_, before) = (pairs_right(m, made.truth) for m in (after, good))
    assert found >= before - 0.02
    assert len(after.state.tracks) == len(good.state.tracks) + 1
    assert after.decided_ns == good.decided_ns


def test_what_a_wrong_clock_dated_leaves_the_window_as_anything_else(world, plaza):
    made = world(9, plaza, people=2, seconds=4, breaks=0.0)
    options = MatchingOptions(window_s=30.0)
    matcher = Matcher(options)
    device, boot, model, first = made.told[0]

    def see(track, at_s):
        at_ns = START_NS + round(at_s * 1e9)
        one = dataclasses.replace(first, track=track, captured_at_ns=at_ns, first_seen_ns=at_ns)
        matcher.add(device, boot, model, one)
        matcher.advance(at_ns)

    see(900, 3600.0)
    for second in range(40):
        see(second, float(second))
    assert matcher.decided_ns == START_NS + 39 * 10**9
    kept = {t.key.track for t in matcher._window.tracklets()}
    assert 900 not in kept
    assert {10, 20, 38} <= kept


def test_a_log_whose_clock_was_ahead_is_gone_on_from_where_time_is(world, plaza):
    ahead, _ = joined(world, plaza, ahead_s=3600.0)
    again = Matcher(MatchingOptions(), ahead.state)
    assert START_NS <= again.decided_ns <= ahead.decided_ns < START_NS + 60 * 10**9


def test_new_tracklets_are_told_before_others_are_grouped_again(world, plaza, monkeypatch):
    """And what is decided is the same, in the same order."""
    made, again, waited = world(3, plaza), regroup.again, []
    logs = []
    for early in (False, True):
        matcher, log = Matcher(MatchingOptions()), list[Applied]()

        def grouped_again(*args, matcher=matcher, log=log):
            waited.append(len(matcher.state.tracks) - sum(a.decision.kind == "assign" for a in log))
            again(*args)

        monkeypatch.setattr(regroup, "again", grouped_again)
        horizon_ns, tell = START_NS, (log.extend,) if early else ()
        waited.clear()
        for row in made.told:
            while row[3].captured_at_ns > horizon_ns:
                log += matcher.advance(horizon_ns, *tell)
                horizon_ns += 500_000_000
            matcher.add(*row)
        log += matcher.advance(None, *tell)
        logs.append([applied.decision for applied in log])
        assert len(waited) > 5
        assert any(waited) is not early
    assert logs[0] == logs[1]
