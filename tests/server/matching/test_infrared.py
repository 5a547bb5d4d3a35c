"""Cameras switch to infrared midway: nobody becomes somebody else by that alone."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Box, Clock, Kind, Modality, Sighting, View
from skyreid.server.matching.looks import Appearance, Looks
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals, lacking, priors_of, seen_as
from skyreid.server.matching.tracklets import Window, begin, revised

SWITCH_S = 15
START_NS = 1_790_000_000_000_000_000
KEY = TrackKey("dev", "1-a", "cam1", 1)
PRIORS = {
    f"{views}/colour-grey": Normals(0.39, 0.15, 0.0, 0.13)
    for views in ("aerial-aerial", "aerial-ground", "ground-ground")
}
"""As a bundle says it whose embedder is as the made-up one."""


@pytest.fixture(scope="module")
def before_and_after(world, matched):
    """Whose tracklets are one identity: at the switch, and at the end."""

    def run(seed, cameras, **more):
        made = world(seed, cameras, infrared_from_s=SWITCH_S, **more)
        end_ns = min(s.captured_at_ns for *_, s in made.told) + SWITCH_S * 10**9
        early = [row for row in made.told if row[3].captured_at_ns < end_ns]
        before = matched(replace(made, told=early), priors=PRIORS)
        return made, before.state, matched(made, priors=PRIORS).state

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


@pytest.mark.parametrize("poses", ["poses", "no poses"])
@pytest.mark.parametrize("seed", range(3))
def test_nobody_gets_a_new_identity_by_the_switch(seed, poses, before_and_after, plaza, blind):
    cameras = plaza if poses == "poses" else blind
    made, early, late = before_and_after(seed, cameras, seconds=30)
    assert joined(early, early.tracks) <= joined(late, early.tracks)
    people = {who: {late.tracks[k] for k, w in made.truth.items() if w == who} for who in range(8)}
    assert all(len(names) == 1 for names in people.values())
    assert len(late.identities) == 8


def test_with_poses_a_device_that_does_not_say_that_it_sees_grey_splits_nobody(
    before_and_after, plaza
):
    _, early, late = before_and_after(0, plaza, seconds=30, noticed=False)
    assert joined(early, early.tracks) <= joined(late, early.tracks)
    assert len(late.identities) == 8


@pytest.mark.parametrize("poses", ["poses", "no poses"])
def test_strangers_are_joined_no_more_often_than_twice_the_rate(
    poses, before_and_after, plaza, blind
):
    """People come and go all the time; half of them come after the switch."""
    cameras = plaza if poses == "poses" else blind
    made, early, late = before_and_after(5, cameras, people=40, seconds=30, stay_s=(6, 10))
    assert joined(early, early.tracks) <= joined(late, early.tracks)
    accepted = [
        made.truth[key] == made.truth[match.other]
        for identity in late.identities.values()
        for key, match in identity.members.items()
        if match is not None and match.state == "accepted"
    ]
    assert len(accepted) > 100
    assert accepted.count(False) <= 2 * MatchingOptions().fpir * len(accepted)


def told(revision, modality, look, *, camera="cam1", at_s=0):
    at_ns = START_NS + round(at_s * 1e9)
    vector = np.asarray(look, np.float32) / np.linalg.norm(look)
    return Sighting(
        revision, camera, View.GROUND, 1, revision, Kind.UPDATE, START_NS, at_ns, Clock.NTP, 1,
        Box(10, 10, 40, 90, 640, 360), 0.9, 3, vector.astype(np.float32), 0.9,
        modality=modality,
    )  # fmt: skip


COLOUR, GREY, INFRARED = Modality.COLOUR, Modality.GREY, Modality.INFRARED


def test_a_tracklet_keeps_what_it_looked_like_before_the_switch_in_whatever_order_it_is_told():
    said = [
        told(1, Modality.UNKNOWN, [1, 0]),
        told(2, COLOUR, [1, 1]),
        told(3, INFRARED, [0, 1]),
        told(4, GREY, [0, -1]),
    ]
    for order in permutations(said):
        tracklet = begin(KEY, "m", order[0])
        for sighting in order[1:]:
            tracklet = revised(tracklet, "m", sighting)
        assert tracklet.sighting is said[3]
        assert tracklet.otherwise is said[1]


def test_colours_are_compared_with_colours_and_else_grey_with_grey():
    window = Window(overlap_tolerance_s=0.3)
    old = begin(KEY._replace(camera="old"), "m", told(1, COLOUR, [1, 0, 0], camera="old"))
    both = revised(begin(KEY, "m", told(1, COLOUR, [1, 1, 0])), "m", told(2, GREY, [0, 0, 1]))
    new = begin(KEY._replace(camera="new"), "m", told(1, INFRARED, [0, 1, 1], camera="new"))
    rows = np.array([window.put(t) for t in (old, both, new)])
    looks = Appearance(window, {})
    looks.fit()
    looks.take(rows)  # nothing is known of cameras: they are as they were told
    cosines = looks.similarity(rows[[0, 1, 0]], rows[[1, 2, 2]])
    assert cosines == pytest.approx([0.5**0.5, 0.5**0.5, 0.0], abs=1e-3)
    assert looks.alike(rows, rows)[[0, 1, 0], [1, 2, 2]] == pytest.approx(cosines)


def test_what_colour_says_of_grey_is_not_learned_from_pairs_in_colour(world, blind, matched):
    """Half a minute in colour teaches nothing of the two seconds in grey after it."""
    made = world(0, blind, people=20, seconds=30, infrared_from_s=28)
    known = matched(made, priors=PRIORS).scores.looks._curves
    alone = matched(world(0, blind, people=20, seconds=30), priors=PRIORS).scores.looks._curves
    for one, two in alone:
        assert known[one, two].worth > 0
        assert known[one, two].normals.same_mean == pytest.approx(
            alone[one, two].normals.same_mean, abs=0.05
        )
    mixed = [curve for (one, two), curve in known.items() if one % 2 != two % 2]
    assert len(mixed) == 4
    for curve in mixed:
        assert curve.worth < min(known[pair].worth for pair in alone)
        assert curve.normals.same_mean == pytest.approx(0.39, abs=0.1)


def test_a_bundle_of_before_says_little_of_colour_beside_grey():
    older = {"aerial-ground": Normals(0.6, 0.14, 0.05, 0.16)}
    assert lacking({}) == ()
    assert lacking(older) == ("aerial-ground/colour-grey", "aerial-ground/grey-grey")
    assert lacking(older | {name: older["aerial-ground"] for name in lacking(older)}) == ()
    curves = priors_of(older)
    air, ground = (seen_as(view, 0) for view in (View.AERIAL, View.GROUND))
    assert curves[air, ground] == curves[air + 1, ground + 1]
    for pair in ((air, ground + 1), (air + 1, ground)):
        says = Looks(curves[pair], np.zeros(0), 0.0).llr(np.array([0.0, 0.4, 0.8]))
        assert np.abs(says).max() < 3.0
        assert says[0] < 0 < says[1]
