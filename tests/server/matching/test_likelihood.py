import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from skyreid.server.matching.clustering import SETTLED_FROM, Edges, cluster
from skyreid.server.matching.likelihood import (
    ACCUMULATION,
    OUTLIERS,
    PLACE_MAX,
    accept_from,
    odds,
    place_llr,
    time_llr,
)
from skyreid.server.matching.looks import ODD_LOOKS, RARE, Looks, calibrate, shifts
from skyreid.server.matching.odds import assign
from skyreid.server.matching.priors import DEFAULT, Normals, prior_of

PRIOR = Normals(0.5, 0.2, 0.0, 0.2)
NOBODY = np.zeros(0)


def appearance_llr(similarity, normals):
    """What cosines say where nothing was checked."""
    return Looks(normals, NOBODY, 0.0).llr(similarity)


metres = st.floats(-1e4, 1e4)


@given(metres, metres, st.floats(0.001, 100.0), st.floats(1.0, 1e6))
def test_place_is_bounded_both_ways_whatever_is_reported(east, north, variance, area):
    llr = float(place_llr(np.array([east, north]), np.array([variance, 0.0, variance]), area))
    assert np.log(OUTLIERS) - 1e-9 <= llr <= PLACE_MAX


def test_a_wrong_pose_neither_vetoes_overwhelming_looks_nor_decides_against_them():
    far = float(place_llr(np.array([500.0, 0.0]), np.array([0.1, 0.0, 0.1]), 400.0))
    assert np.log(1 / RARE) + far > 0
    near = float(place_llr(np.zeros(2), np.array([0.01, 0.0, 0.01]), 400.0))
    assert near + np.log(ODD_LOOKS) < np.log(1 / 0.01)  # not accepted, even with nobody else around


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


def centred(raw, cameras):
    none = np.zeros(len(raw), int)
    shift = shifts(raw.astype(np.float32), none, none, cameras, 5.0)
    out = raw - np.stack([shift[0, 0, int(camera)] for camera in cameras])
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_centring_takes_a_cameras_look_away():
    rng = np.random.default_rng(2)
    people, tint = rng.normal(size=(20, 32)), rng.normal(size=(2, 32)) * 2
    raw = np.concatenate([people + tint[0], people + tint[1]])
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    cameras = np.repeat([0, 1], 20)
    before = raw @ raw.T
    unit = centred(raw, cameras)
    after = unit @ unit.T
    strangers = ~np.eye(20, dtype=bool)
    gap = [s[:20, 20:].diagonal().mean() - s[:20, 20:][strangers].mean() for s in (before, after)]
    assert gap[1] > 2 * gap[0]


def test_one_lone_tracklet_keeps_its_direction_when_centred():
    vector = np.array([[0.6, 0.8]])
    assert np.allclose(centred(vector, np.zeros(1, int)), vector)


def test_assignment_is_one_to_one_and_new_where_nothing_fits():
    asked = [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert assign(3, asked, np.array([3.0, 2.0, 2.9, -1.0, -2.0, -np.inf])) == [1, 2, None]
    assert assign(2, [], np.zeros(0)) == [None, None]
    assert assign(0, [], np.zeros(0)) == []


@given(st.integers(0, 1000))
def test_assignment_in_parts_is_the_assignment_of_all(seed):
    rng = np.random.default_rng(seed)
    score = np.where(rng.random((6, 7)) < 0.3, rng.normal(0.5, 2, (6, 7)), -np.inf)
    asked = [(i, str(j)) for i, j in np.argwhere(np.isfinite(score)).tolist()]
    odds_of = np.array([score[i, int(name)] for i, name in asked])
    chosen = [k for k in assign(6, asked, odds_of) if k is not None]
    full = np.concatenate([np.where(np.isfinite(score), score, -1e6), np.zeros((6, 6))], 1)
    best = full[linear_sum_assignment(full, maximize=True)].sum()
    assert sum(odds_of[k] for k in chosen) == pytest.approx(best)
    assert len({asked[k][1] for k in chosen}) == len({asked[k][0] for k in chosen}) == len(chosen)


def grouped(score, prior, weight, forbidden, pairs, most=None):
    """``cluster`` with some of the pairs as edges."""
    most = np.full(score.shape, np.inf) if most is None else most

    def edges(a, b):
        columns = (score, prior, weight, most, forbidden)
        return Edges(a, b, *(column[a, b] for column in columns))

    count = len(score)
    return cluster(np.arange(count), np.zeros(count, np.bool_), edges(*pairs), edges).tolist()


def test_clusters_keep_forbidden_pairs_apart_however_alike():
    score, prior = np.full((3, 3), 5.0), np.zeros((3, 3))
    forbidden = np.zeros((3, 3), np.bool_)
    forbidden[0, 2] = forbidden[2, 0] = True
    score[1, 2] = score[2, 1] = 6.0
    weight = np.ones((3, 3))
    assert grouped(score, prior, weight, forbidden, np.triu_indices(3, 1)) == [0, 1, 1]
    score[1, 2] = score[2, 1] = 4.0
    # The pair that forbids it is no edge: it is looked at before the groups join.
    edges = (np.array([0, 1]), np.array([1, 2]))
    assert grouped(score, prior, weight, forbidden, edges) == [0, 0, 2]


def test_settled_groups_are_joined_and_never_join_each_other():
    score, none = np.full((4, 4), 5.0), np.zeros((4, 4), np.bool_)

    def edges(a, b):
        zero = 0 * score[a, b]
        return Edges(a, b, score[a, b], zero, zero + 1, zero + np.inf, none[a, b])

    pairs = edges(*np.triu_indices(4, 1))
    settled = np.array([True, True, True, False])
    assert cluster(np.array([0, 0, 2, 3]), settled, pairs, edges).tolist() in (
        [0, 0, 2, 0],
        [0, 0, 2, 2],
    )


def test_a_settled_group_is_joined_by_who_is_sure_of_it_and_by_nobody_else():
    """Once it is settled nobody takes out again who joined it wrongly."""
    none = np.zeros((3, 3), np.bool_)

    def joined(odds_of, settled):
        def edges(a, b):
            zero = np.zeros(len(a))
            return Edges(a, b, zero + odds_of, zero, zero + 1, zero + np.inf, none[a, b])

        pairs = (np.array([0, 1]), np.array([2, 2]))
        old = np.array([settled, settled, False])
        return cluster(np.array([0, 0, 2]), old, edges(*pairs), edges).tolist() == [0, 0, 0]

    pair = 2**ACCUMULATION  # two pairs count so much more than one
    assert not joined((SETTLED_FROM - 0.1) / pair, settled=True)
    assert joined((SETTLED_FROM - 0.1) / pair, settled=False)
    assert joined((SETTLED_FROM + 0.1) / pair, settled=True)


def test_groups_join_by_what_is_stated_of_it_and_many_pairs_of_looks_are_one():
    """Two people of four tracklets each: 16 pairs of some likeness, and a prior against it."""
    score = np.full((8, 8), 9.0)
    score[:4, 4:] = score[4:, :4] = 3.0
    prior = np.where(score == 3.0, -4.5, 0.0)
    none, one = np.zeros((8, 8), np.bool_), np.ones((8, 8))
    pairs = np.triu_indices(8, 1)
    assert grouped(score, prior, one, none, pairs, np.full((8, 8), 4.0)) == [0] * 4 + [4] * 4
    some = np.ones(16)
    assert odds(3 * some, -4.5 * some, some, 4 * some) == pytest.approx(-0.5)
    assert odds(3 * some, -4.5 * some, some, np.inf * some) == pytest.approx(1.5)


def test_a_right_join_is_not_behind_a_wrong_one_for_the_pairs_that_are_known():
    """Of the right group the best pair and the poorest are edges: their mean is not the group's."""
    score = np.full((5, 5), 9.0)  # 0, 1 and 2 are one person, and so is 4
    score[4, :3] = score[:3, 4] = (7.0, -4.0, 6.0)
    score[3] = score[:, 3] = -9.0
    score[3, 4] = score[4, 3] = 2.0
    none, one = np.zeros((5, 5)), np.ones((5, 5))
    known = (np.array([0, 0, 1, 0, 1, 3]), np.array([1, 2, 2, 4, 4, 4]))
    assert grouped(score, none, one, none > 0, known) == [0, 0, 0, 3, 0]
    assert grouped(score, none, one, none > 0, np.triu_indices(5, 1)) == [0, 0, 0, 3, 0]


def test_a_chain_of_pairs_that_are_alike_does_not_join_its_ends():
    """Only neighbours are edges; all pairs between two groups count before they join."""
    n = 12
    score = np.full((n, n), -4.0)
    for k in range(n - 1):
        score[k, k + 1] = score[k + 1, k] = 4.0 - 0.1 * k
    edges = (np.arange(n - 1), np.arange(1, n))
    got = grouped(score, np.zeros((n, n)), np.ones((n, n)), np.zeros((n, n), np.bool_), edges)
    assert max(np.bincount(got)) == 2


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
    most = score + rng.exponential(1.0, (n, n))
    most = np.minimum(most, most.T)
    groups = [[i] for i in range(n)]
    while True:
        best, pair = 0.0, None
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                grid = np.ix_(groups[a], groups[b])
                if forbidden[grid].any():
                    continue
                of = (column[grid].ravel() for column in (score, prior, weight, most))
                gain = odds(*of)
                if gain > best:
                    best, pair = gain, (a, b)
        if pair is None:
            break
        groups[pair[0]] += groups.pop(pair[1])
    want = np.zeros(n, int)
    for group in groups:
        want[group] = min(group)
    pairs = np.triu_indices(n, 1)
    assert grouped(score, prior, weight, forbidden, pairs, most) == want.tolist()
