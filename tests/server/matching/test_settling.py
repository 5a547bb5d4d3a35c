"""What is final does not depend on how it came: order, portions, lives."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.settling import (
    BLOCK_S,
    Blocks,
    block_of,
)

OPTIONS = MatchingOptions(window_s=60.0)
BLOCK_NS = round(BLOCK_S * 1e9)


def over_minutes(world, cameras, seed, *, minutes=4, people=3):
    """Some people in every minute; at whole seconds, so that some are told of at a border."""
    told, truth = [], {}
    for minute in range(minutes):
        made = world(seed + 100 * minute, cameras, people=people, seconds=6, breaks=0.2)
        for device, boot, model, sighting in made.told:
            later_ns = minute * BLOCK_NS
            number = sighting.track + 1000 * minute
            key = TrackKey(device, boot, sighting.camera, number)
            truth[key] = made.truth[replace_track(key, sighting.track)] + 1000 * minute
            moved = replace(
                sighting,
                track=number,
                seq=sighting.seq + 10_000 * minute,
                first_seen_ns=sighting.first_seen_ns + later_ns,
                captured_at_ns=sighting.captured_at_ns + later_ns,
            )
            told.append((device, boot, model, moved))
    told.sort(key=lambda row: (row[3].captured_at_ns, row[0], row[3].track))
    return told, truth


def replace_track(key, track):
    return TrackKey(key.device, key.boot, key.camera, track)


def partition(matcher):
    groups = defaultdict(set)
    for key, name in matcher.state.tracks.items():
        groups[name].add(key)
    return {frozenset(group) for group in groups.values()}


def in_order(told):
    matcher = Matcher(OPTIONS)
    for row in told:
        matcher.add(*row)
    matcher.advance(None)
    return matcher


def next_life(old, stored, *, snapshot):
    """What a start does: with what was held, or with what is stored."""
    new = Matcher(OPTIONS, old.state)
    if snapshot:
        new.restore(old.held())
        waiting = set(old.waiting())
        again = [row for row in stored if (row[0], row[1], row[3].seq) in waiting]
    else:
        since_ns = old.state.at_ns - round(old.shown_s * 1e9)
        keys = [TrackKey(device, boot, s.camera, s.track) for device, boot, _, s in stored]
        again = [
            row
            for row, key in zip(stored, keys, strict=True)
            if row[3].captured_at_ns >= since_ns or key not in old.state.tracks
        ]
    for row in again:
        new.add(*row)
    return new


@pytest.mark.parametrize("seed", range(6))
def test_final_identities_are_equal_whatever_the_order_the_portions_and_the_lives(
    seed, world, plaza
):
    rng = np.random.default_rng(seed)
    told, _ = over_minutes(world, plaza, seed)
    want = partition(in_order(told))
    assert any(len({key.device for key in group}) > 1 for group in want)
    rows = list(told)
    if seed % 2:
        rng.shuffle(rows)  # minutes out of order: nearly all of it is late
    else:
        late = rng.choice(["dev-cam1", "dev-cam6", "dev-cam8"])
        rows = [r for r in told if r[0] != late] + [r for r in told if r[0] == late]
    stored: list[Any] = []

    def recall(since_ns, until_ns):
        return [row for row in stored if since_ns <= row[3].captured_at_ns < until_ns]

    matcher, at = Matcher(OPTIONS), 0
    matcher.recall = recall
    while at < len(rows):
        portion = rows[at : at + int(rng.integers(1, 60))]
        at += len(portion)
        stored += portion
        for row in portion:
            matcher.add(*row)
        matcher.advance(max(row[3].captured_at_ns for row in stored))
        if rng.random() < 0.15:  # the end of a life, with work undone
            matcher = next_life(matcher, stored, snapshot=rng.random() < 0.5)
            matcher.recall = recall
    matcher.advance(None)
    assert partition(matcher) == want


def test_a_backfill_of_two_hours_ago_is_matched_with_who_was_there_then(world, plaza, pairs_right):
    """The drone lost its link, kept everything and sends it when it is back."""
    made = world(31, plaza, people=10, seconds=8, breaks=0.0)
    away = [row for row in made.told if row[0] == "dev-cam3"]
    there = [row for row in made.told if row[0] != "dev-cam3"]
    hours_ns = 2 * 3600 * 10**9
    now = [
        (d, b, m, replace(s, track=s.track + 5000, **at(s, hours_ns)))
        for d, b, m, s in world(77, plaza, people=4, seconds=3).told
    ]
    stored = [*there, *now]

    def recall(since_ns, until_ns):
        return [row for row in stored if since_ns <= row[3].captured_at_ns < until_ns]

    matcher = Matcher(MatchingOptions())
    matcher.recall = recall
    for row in stored:
        matcher.add(*row)
    matcher.advance(None)
    told_before = dict(matcher.state.tracks)
    stored += away
    for row in away:
        matcher.add(*row)
    matcher.advance(None)
    live = Matcher(MatchingOptions())
    for row in made.told:
        live.add(*row)
    live.advance(None)

    def joined(matcher):
        keys = {TrackKey(d, b, s.camera, s.track) for d, b, _, s in away}
        others = [key for key in made.truth if key.camera != "cam3"]
        return {
            (key, other)
            for key in keys
            for other in others
            if matcher.state.tracks[key] == matcher.state.tracks[other]
        }

    assert len(joined(live)) >= 10
    assert len(joined(matcher) & joined(live)) >= 0.8 * len(joined(live))
    assert all(matcher.state.resolve(name) for name in told_before.values())
    late = {TrackKey(d, b, s.camera, s.track) for d, b, _, s in away}
    today = {TrackKey(d, b, s.camera, s.track) for d, b, _, s in now}
    names = {matcher.state.tracks[key] for key in late}
    assert not names & {matcher.state.tracks[key] for key in today}


def at(sighting, later_ns):
    return {
        "first_seen_ns": sighting.first_seen_ns + later_ns,
        "captured_at_ns": sighting.captured_at_ns + later_ns,
    }


def test_a_block_knows_a_tracklet_as_it_was_at_its_end_in_whatever_order_it_is_told(make):
    key = TrackKey("d", "1-a", "cam1", 1)
    told = [make.sighting(1, revision=n, at_s=n * BLOCK_S / 2) for n in range(6)]
    scenes = []
    for order in (told, told[::-1], [told[k] for k in (3, 0, 5, 1, 4, 2)]):
        blocks = Blocks()
        for sighting in order:
            latest = blocks.take(key, "m", sighting)
        assert latest.sighting.revision == 5 or order is not told
        now = block_of(told[-1].captured_at_ns)
        scenes.append(
            [
                [
                    (a.tracklet.sighting.revision, len(a.tracklet.path), a.told, a.settled)
                    for a in blocks.scene(b, 4)
                ]
                for b in range(now - 3, now + 1)
            ]
        )
    assert scenes[0] == scenes[1] == scenes[2]
    assert [len(scene) for scene in scenes[0]][-1] == 1


def test_what_is_dropped_is_in_no_block_any_more(world, plaza):
    told, _ = over_minutes(world, plaza, 5, minutes=2)
    matcher = in_order(told)
    keys = sorted(matcher.state.tracks)[:3]
    assert matcher.drop(keys) == 3
    assert all(matcher._settling.blocks.began(key) is None for key in keys)
    assert matcher.drop(keys) == 0
