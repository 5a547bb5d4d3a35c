"""Cameras switch to infrared midway: nobody becomes somebody else by that alone."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from skyreid.server.matching.options import MatchingOptions

SWITCH_S = 15


@pytest.fixture(scope="module")
def before_and_after(world, matched):
    """Whose tracklets are one identity: at the switch, and at the end."""

    def run(seed, cameras, **more):
        made = world(seed, cameras, infrared_from_s=SWITCH_S, **more)
        end_ns = min(s.captured_at_ns for *_, s in made.told) + SWITCH_S * 10**9
        early = [row for row in made.told if row[3].captured_at_ns < end_ns]
        return made, matched(replace(made, told=early)).state, matched(made).state

    return run


def joined(state, keys):
    return {
        pair for pair in combinations(sorted(keys), 2) if len({*map(state.tracks.get, pair)}) == 1
    }


def test_the_made_up_infrared_is_as_far_from_colour_as_the_shipped_embedders(world, plaza):
    made = world(0, plaza[:1], people=300, seconds=4, breaks=0.0, noise=0.0, infrared_from_s=0)
    plain = world(0, plaza[:1], people=300, seconds=4, breaks=0.0, noise=0.0)
    one, other = (
        np.array([s.embedding for *_, s in of.told if s.revision == 0]) for of in (made, plain)
    )
    one, other = (v - v.mean(0) for v in (one, other))
    one, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (one, other))
    cosines = one @ other.T
    own, strangers = cosines.diagonal(), cosines[~np.eye(len(cosines), dtype=bool)]
    assert own.mean() == pytest.approx(0.39, abs=0.04)
    assert own.std() == pytest.approx(0.15, abs=0.04)
    assert strangers.mean() == pytest.approx(0.0, abs=0.03)
    assert strangers.std() == pytest.approx(0.13, abs=0.02)


@pytest.mark.parametrize("seed", range(2))
def test_with_poses_nobody_gets_a_new_identity_by_the_switch(seed, before_and_after, plaza):
    made, early, late = before_and_after(seed, plaza, seconds=30)
    assert joined(early, early.tracks) <= joined(late, early.tracks)
    people = {who: {late.tracks[k] for k, w in made.truth.items() if w == who} for who in range(8)}
    assert all(len(names) == 1 for names in people.values())
    assert len(late.identities) == 8


def test_with_poses_strangers_are_joined_no_more_often_than_twice_the_rate(before_and_after, plaza):
    """People come and go all the time; half of them come after the switch."""
    made, early, late = before_and_after(5, plaza, people=40, seconds=30, stay_s=(6, 10))
    assert joined(early, early.tracks) <= joined(late, early.tracks)
    accepted = [
        made.truth[key] == made.truth[match.other]
        for identity in late.identities.values()
        for key, match in identity.members.items()
        if match is not None and match.state == "accepted"
    ]
    assert len(accepted) > 100
    assert accepted.count(False) <= 2 * MatchingOptions().fpir * len(accepted)
