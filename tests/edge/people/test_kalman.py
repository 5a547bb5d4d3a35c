import numpy as np
import pytest

from skyreid.edge.people import kalman
from skyreid.edge.people.kalman import Noise

NOISE = Noise(centre=0.1, width=0.1, height=0.1, speed=1.0, acceleration=0.5, growth=0.0)
BOX = np.array([[90.0, 50.0, 110.0, 150.0]])  # centre (100, 100), 20 x 100


def test_the_first_box_is_taken_as_it_is() -> None:
    state = kalman.start(BOX, NOISE)
    np.testing.assert_allclose(state.boxes, BOX)
    np.testing.assert_allclose(
        state.cov[0, 0], [[100.0, 0.0], [0.0, 10000.0]]
    )  # (10 px)², (100 px/s)²


def test_prediction_and_update_follow_the_hand_calculation() -> None:
    state = kalman.predict(kalman.start(BOX, NOISE), 0.1, NOISE)
    # P = [[100 + .1² * 10⁴, .1 * 10⁴], [., 10⁴]] + 50² * [[.1³/3, .1²/2], [., .1]]
    expected = np.array([[200 + 2500 / 3000, 1000 + 12.5], [1012.5, 10250.0]])
    np.testing.assert_allclose(state.cov[0, 0], expected)
    moved = BOX + np.array([30.0, 0.0, 30.0, 0.0])
    after = kalman.update(state, moved, NOISE)
    gain = expected[:, 0] / (expected[0, 0] + 100.0)
    np.testing.assert_allclose(after.mean[0, 0], [100 + gain[0] * 30, gain[1] * 30])
    np.testing.assert_allclose(after.cov[0, 0, 0, 0], expected[0, 0] * (1 - gain[0]))
    assert after.mean[0, 1] == pytest.approx([100.0, 0.0])


def test_a_steady_walk_is_predicted_whatever_the_frame_rate() -> None:
    for step_s in (0.04, 0.125, 0.5):
        state = kalman.start(BOX, NOISE)
        for index in range(1, int(4 / step_s)):
            box = BOX + np.array([80.0, 0.0, 80.0, 0.0]) * index * step_s  # 80 px/s to the right
            state = kalman.update(kalman.predict(state, step_s, NOISE), box, NOISE)
        assert state.mean[0, 0, 1] == pytest.approx(80.0, abs=2.0)


def test_two_short_predictions_are_one_long_one() -> None:
    state = kalman.start(BOX, NOISE)
    noise = NOISE
    twice = kalman.predict(kalman.predict(state, 0.1, noise), 0.3, noise)
    once = kalman.predict(state, 0.4, noise)
    np.testing.assert_allclose(twice.mean, once.mean)
    np.testing.assert_allclose(twice.cov, once.cov)


def test_the_picture_s_own_motion_moves_and_turns_the_state() -> None:
    state = kalman.start(BOX, NOISE)
    state.mean[0, 0, 1] = 10.0
    quarter = np.array([[0.0, -1, 300], [1, 0, 0], [0, 0, 1]])  # (x, y) -> (300 - y, x)
    after = kalman.move(state, quarter)
    np.testing.assert_allclose(after.mean[0, :2], [[200.0, 0.0], [100.0, 10.0]])


def test_distance_is_squared_and_in_standard_deviations() -> None:
    state = kalman.start(BOX, NOISE)
    shifted = BOX + np.array([20.0, 0.0, 20.0, 0.0])
    # Estimate and measurement have (10 px)² each: 20² / 200.
    assert kalman.distance(state, shifted, NOISE)[0, 0] == pytest.approx(2.0)
    assert kalman.distance(state, BOX, NOISE)[0, 0] == 0.0
    assert kalman.distance(kalman.nothing(), BOX, NOISE).shape == (0, 1)
