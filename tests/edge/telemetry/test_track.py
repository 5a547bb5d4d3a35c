import numpy as np
import pytest
from flights import model_at

from skyreid.edge.telemetry.track import KEPT_S, PoseTrack


def track_of(times_s: np.ndarray) -> PoseTrack:
    track = PoseTrack()
    for time_s in times_s:
        track.add(round(time_s * 1e9), model_at(time_s))
    return track


def test_between_two_moments_a_pose_is_where_the_drone_was() -> None:
    track = track_of(np.arange(0, 4, 0.2))
    for time_s in (0.05, 1.1, 2.37, 3.79):
        found = track.at(round(time_s * 1e9), gap_max_s=0.5)
        assert found is not None
        off = model_at(time_s).displacement(found.model)
        assert np.linalg.norm(off[:3]) < 0.01
        assert np.linalg.norm(off[3:]) < 1e-3
        assert found.away_s <= 0.1 + 1e-9
        real = model_at(time_s - 0.01).displacement(model_at(time_s + 0.01)) / 0.02
        np.testing.assert_allclose(found.velocity, real, atol=0.25)


def test_after_the_latest_moment_it_goes_on_and_then_nobody_knows() -> None:
    track = track_of(np.arange(0, 4, 0.2))
    soon = track.at(4_100_000_000, gap_max_s=1.0)
    assert soon is not None
    assert np.linalg.norm(model_at(4.1).displacement(soon.model)[:3]) < 0.15
    held = np.linalg.norm(model_at(4.1).displacement(model_at(3.8))[:3])
    assert held > 0.5, "the drone was not moving: the test shows nothing"
    assert soon.away_s == pytest.approx(0.3)
    assert track.at(4_900_000_000, gap_max_s=1.0) is None
    assert PoseTrack().at(0, gap_max_s=1.0) is None


def test_a_hole_in_the_telemetry_is_not_bridged() -> None:
    track = track_of(np.array([0.0, 0.2, 0.4, 5.0, 5.2]))
    assert track.at(2_700_000_000, gap_max_s=1.0) is None
    before, after = track.at(600_000_000, gap_max_s=1.0), track.at(4_800_000_000, gap_max_s=1.0)
    assert before is not None
    assert after is not None
    assert np.linalg.norm(model_at(0.6).displacement(before.model)[:3]) < 0.2
    assert np.linalg.norm(model_at(4.8).displacement(after.model)[:3]) < 0.2


def test_moments_that_overtook_each_other_are_put_in_order_and_old_ones_forgotten() -> None:
    rng = np.random.default_rng(2)
    mixed = track_of(rng.permutation(np.arange(0, 4, 0.2)))
    found, same = mixed.at(1_130_000_000, gap_max_s=1.0), track_of(np.arange(0, 4, 0.2))
    again = same.at(1_130_000_000, gap_max_s=1.0)
    assert found is not None
    assert again is not None
    np.testing.assert_array_equal(found.model.rotation, again.model.rotation)
    long = track_of(np.arange(0, 3 * KEPT_S, 0.5))
    assert len(long) <= 2 * KEPT_S + 2
