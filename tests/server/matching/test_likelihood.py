import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.server.matching.clustering import cluster, odds
from skyreid.server.matching.likelihood import (
    APPEARANCE_MAX,
    DEFAULT,
    OUTLIERS,
    PLACE_MAX,
    Normals,
    appearance_llr,
    calibrate,
    centred,
    place_llr,
    prior_of,
    time_llr,
)
from skyreid.server.matching.matcher import assign
from skyreid.server.matching.odds import accept_from

PRIOR = Normals(0.5, 0.2, 0.0, 0.2)
NOBODY = np.zeros(0)
metres = st.floats(-1e4, 1e4)


@given(metres, metres, st.floats(0.001, 100.0), st.floats(1.0, 1e6))
def test_place_is_bounded_both_ways_whatever_is_reported(east, north, variance, area):
    llr = float(place_llr(np.array([east, north]), np.array([variance, 0.0, variance]), area))
    assert np.log(OUTLIERS) - 1e-9 <= llr <= PLACE_MAX


def test_a_wrong_pose_neither_vetoes_overwhelming_looks_nor_decides_against_them():
    far = float(place_llr(np.array([500.0, 0.0]), np.array([0.1, 0.0, 0.1]), 400.0))
    assert APPEARANCE_MAX + far > 0
    near = float(place_llr(np.zeros(2), np.array([0.01, 0.0, 0.01]), 400.0))
    assert near - APPEARANCE_MAX < np.log(1 / 0.01)  # not accepted, even with nobody else around


def test_place_speaks_for_a_pair_near_by_and_against_one_far_off():
    near, mid, far = place_llr(
        np.array([[0.3, 0.0], [1.5, 0.0], [6.0, 0.0]]), np.full((3, 3), [0.1, 0.0, 0.1]), 400.0
    )
    assert near > 3 > mid > far
    assert far < -3


def test_the_longer_nobody_looked_the_less_place_says():
    offset = np.array([[2.0, 0.0]] * 4)
    covariance = np.full((4, 3), [0.1, 0.0, 0.1])
    at = time_llr(offset, covariance, np.array([0.0, 2.0, 10.0, 1000.0]), 400.0)
    assert at[1] > 1 > at[2] > -0.5
    assert abs(at[3]) < 1e-3
    assert at[1] > at[0]  # at once, two metres are too far


@pytest.mark.parametrize("separation", [1.0, 2.0, 3.0])
def test_strangers_are_accepted_no_more_often_than_configured(separation):
    """Four people known, a stranger comes: the largest of four ratios, against the rate."""
    rng = np.random.default_rng(0)
    normals = Normals(separation, 1.0, 0.0, 1.0)
    strangers = appearance_llr(rng.normal(size=(20000, 4)), normals)
    known = appearance_llr(rng.normal(separation, 1.0, 20000), normals)
    for fpir in (0.01, 0.1):
        odds = np.log(accept_from(fpir) / (1 - accept_from(fpir)))
        rate = float((strangers.max(1) - np.log(4) >= odds).mean())
        assert rate <= fpir
        if separation == 3.0 and fpir == 0.1:
            assert rate > 0  # the threshold is not simply out of reach
            assert float((known - np.log(4) >= odds).mean()) > 0.3


def test_calibration_follows_the_pairs_and_stays_at_the_prior_without_any():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.1, 0.1, 3000), rng.normal(0.6, 0.1, 600)])
    different = np.arange(3600) < 3000
    learned = calibrate(values, different, ~different, NOBODY, PRIOR, pairs=30.0)
    assert learned.different_mean == pytest.approx(0.1, abs=0.02)
    assert learned.same_mean == pytest.approx(0.6, abs=0.03)
    none = np.zeros(3600, np.bool_)
    unmoved = calibrate(values, none, none, NOBODY, PRIOR, pairs=30.0)
    assert unmoved.same_mean == pytest.approx(PRIOR.same_mean)
    assert unmoved.different_mean == pytest.approx(PRIOR.different_mean)
    assert unmoved.same_std == pytest.approx(PRIOR.same_std)


def test_without_poses_strangers_inside_a_camera_stand_for_those_across_views():
    values, none = np.zeros(100), np.zeros(100, np.bool_)
    strangers = np.random.default_rng(3).normal(-0.05, 0.32, 2000)
    learned = calibrate(values, none, none, strangers, PRIOR, pairs=30.0)
    assert learned.different_mean == pytest.approx(-0.05, abs=0.02)
    assert learned.different_std > 0.25


def test_a_manifests_prior_is_told_in_centred_cosines():
    prior = prior_of({"aerial-ground": Normals(0.6, 0.1, 0.2, 0.16)}, "aerial-ground")
    assert prior.same_mean == pytest.approx(0.5)
    assert prior.different_mean == pytest.approx(0.0)
    assert prior.different_std == pytest.approx(0.2)
    assert prior_of({}, "aerial-ground") == DEFAULT


def test_positives_that_look_worse_than_strangers_never_turn_the_ratio_round():
    """Place may name the wrong people, with a bad pose; looks must not count backwards."""
    values = np.array([0.5] * 500 + [-0.5] * 500)
    different = np.arange(1000) < 500
    learned = calibrate(values, different, ~different, NOBODY, PRIOR, pairs=30.0)
    assert learned.same_mean > learned.different_mean
    low, high = appearance_llr(np.array([0.0, 0.9]), learned)
    assert high > low


def test_centring_takes_a_cameras_look_away():
    rng = np.random.default_rng(2)
    people, tint = rng.normal(size=(20, 32)), rng.normal(size=(2, 32)) * 2
    raw = np.concatenate([people + tint[0], people + tint[1]])
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    cameras = np.repeat([0, 1], 20)
    before = raw @ raw.T
    unit = centred(raw, cameras, np.zeros(40, int), 5.0)
    after = unit @ unit.T
    strangers = ~np.eye(20, dtype=bool)
    gap = [s[:20, 20:].diagonal().mean() - s[:20, 20:][strangers].mean() for s in (before, after)]
    assert gap[1] > 2 * gap[0]


def test_one_lone_tracklet_keeps_its_direction_when_centred():
    vector = np.array([[0.6, 0.8]])
    assert np.allclose(centred(vector, np.zeros(1, int), np.zeros(1, int), 5.0), vector)


def test_assignment_is_one_to_one_and_new_where_nothing_fits():
    score = np.array([[3.0, 2.0], [2.9, -1.0], [-2.0, -np.inf]])
    assert assign(score) == [1, 0, None]
    assert assign(np.zeros((2, 0))) == [None, None]
    assert assign(np.zeros((0, 2))) == []


def test_clusters_keep_forbidden_pairs_apart_however_alike():
    score, prior = np.full((3, 3), 5.0), np.zeros((3, 3))
    forbidden = np.zeros((3, 3), np.bool_)
    forbidden[0, 2] = forbidden[2, 0] = True
    score[1, 2] = score[2, 1] = 6.0
    assert cluster(score, prior, np.ones((3, 3)), forbidden).tolist() == [0, 1, 1]


@given(st.integers(0, 1000))
def test_clusters_do_what_a_plain_loop_does(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    score, weight, prior = (
        rng.normal(0.5, 2, (n, n)),
        rng.uniform(0.1, 1, (n, n)),
        rng.uniform(-1, 0, (n, n)),
    )
    score, weight, prior = score + score.T, weight + weight.T, prior + prior.T
    forbidden = rng.random((n, n)) < 0.1
    forbidden |= forbidden.T
    groups = [[i] for i in range(n)]
    while True:
        best, pair = 0.0, None
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                grid = np.ix_(groups[a], groups[b])
                if forbidden[grid].any():
                    continue
                gain = odds(score[grid].ravel(), prior[grid].ravel(), weight[grid].ravel())
                if gain > best:
                    best, pair = gain, (a, b)
        if pair is None:
            break
        groups[pair[0]] += groups.pop(pair[1])
    want = np.zeros(n, int)
    for group in groups:
        want[group] = min(group)
    assert cluster(score, prior, weight, forbidden).tolist() == want.tolist()
