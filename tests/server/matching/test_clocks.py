"""Videos whose clocks are unrelated: their times and places say nothing of each other."""

from dataclasses import fields, replace

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import CLOCK_UNKNOWN_MS
from skyreid.server.matching.likelihood import NONE, PLACE, TIME, Tables
from skyreid.server.matching.looks import RARE
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.tracklets import Window, begin


def with_clock(world, error_ms: int, boots: str = ""):
    told = [
        (device, boot + boots, model, replace(sighting, clock_error_ms=error_ms))
        for device, boot, model, sighting in world.told
    ]
    return replace(world, told=told)


def links(matcher: Matcher):
    """(one tracklet, the other, match) of every link."""
    return [
        (key, match.other, match)
        for identity in matcher.state.identities.values()
        for key, match in identity.members.items()
        if match is not None
    ]


def tables_of(world):
    window, last = Window(overlap_tolerance_s=0.3), {}
    for device, boot, model, sighting in world.told:
        key = TrackKey(device, boot, sighting.camera, sighting.track)
        last[key] = begin(key, model, sighting)
    for tracklet in last.values():
        window.put(tracklet)
    keys = sorted(last)
    rows = np.array([window.rows[key] for key in keys])
    a, b = np.repeat(rows, len(rows)), np.tile(rows, len(rows))
    found = window.between(a, b)
    square = {
        field.name: getattr(found, field.name).reshape(len(rows), len(rows))
        for field in fields(found)
    }
    return keys, Tables(**square)


def cameras(keys):
    names = np.array([f"{k.device}/{k.boot}" for k in keys])
    return names[:, None] != names[None]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_replays_with_unrelated_clocks_are_linked_by_looks_alone_and_never_surely(
    seed, world, plaza, matched
):
    unrelated = with_clock(world(seed, plaza, noise=0.3), CLOCK_UNKNOWN_MS)
    across = [
        match for key, other, match in links(matched(unrelated)) if key.camera != other.camera
    ]
    assert across, "nobody was even thought alike: the test shows nothing"
    for match in across:
        assert {e.kind for e in match.evidence} == {"appearance", "clock", "prior"}
        assert match.state == "tentative"
        assert next(e for e in match.evidence if e.kind == "clock").value is None
    known = [m for k, o, m in links(matched(world(seed, plaza, noise=0.3))) if k.camera != o.camera]
    assert any(match.state == "accepted" for match in known), "with clocks some are sure"


def test_an_unknown_clock_gives_neither_place_nor_time_nor_a_veto(world, plaza):
    keys, tables = tables_of(with_clock(world(1, plaza, people=6), CLOCK_UNKNOWN_MS))
    across = cameras(keys)
    assert (tables.kind[across] == NONE).all()
    assert not tables.llr[across].any()
    assert not tables.forbidden[across].any()
    assert np.isinf(tables.clock_s[across]).all()
    assert not tables.clock_s[~across].any()
    assert tables.forbidden[~across].any(), "within one video people are still told apart"


def test_one_file_played_twice_does_not_veto_itself(world, plaza):
    """Each replay of a file without a start begins at another time; they may overlap."""
    first = world(1, plaza[:1], people=4)
    again = with_clock(first, CLOCK_UNKNOWN_MS, boots="-again")
    both = replace(first, told=with_clock(first, CLOCK_UNKNOWN_MS).told + again.told)
    keys, tables = tables_of(both)
    assert not tables.forbidden[cameras(keys)].any()


def test_the_further_two_clocks_may_be_apart_the_less_place_says(world, plaza):
    said = []
    for error_ms in (0, 200, 2_000, 10_000, 16_000):
        keys, tables = tables_of(with_clock(world(1, plaza, people=6), error_ms))
        said.append(np.abs(tables.llr[cameras(keys)]).sum())
        kinds = {int(kind) for kind in tables.kind[cameras(keys)]}
        assert kinds <= ({NONE} if error_ms > 15_000 else {NONE, PLACE, TIME})
    assert said == sorted(said, reverse=True)
    assert said[0] > 2 * said[3] > said[4] == 0


@pytest.mark.parametrize("seed", range(4))
def test_no_number_of_pairs_makes_looks_alone_surer_than_one(seed, world, blind, matched):
    """A tracker that loses everybody every second or two: many tracklets that look alike."""
    broken = world(seed, blind, people=4, seconds=30, noise=0.05, view_gap=0.05, breaks=0.5)
    made = links(matched(broken))
    assert len(made) > 20
    for _, _, match in made:
        of = {e.kind: e for e in match.evidence}
        most = np.log(1 / RARE + (of["appearance"].strangers or 0)) + of["prior"].llr
        assert np.log(match.probability / (1 - match.probability)) < most + 0.7
