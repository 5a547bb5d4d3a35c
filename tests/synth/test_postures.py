from __future__ import annotations

import numpy as np
import pytest

from skyreid.synth.figure import clothed
from skyreid.synth.gait import SIDES
from skyreid.synth.postures import BAR, SADDLE_M, SEAT_M, riding, seated
from skyreid.synth.wardrobe import population

PEOPLE = population(8, seed=4)


@pytest.mark.parametrize("posture", [seated, riding])
@pytest.mark.parametrize("phase", [0.0, 1.1, 2.9, 4.4])
def test_bones_keep_their_lengths(posture, phase: float):
    for person in PEOPLE:
        posed = posture(person, phase)
        for side in SIDES:
            leg, arm = posed.legs[side], posed.arms[side]
            assert np.linalg.norm(leg.knee - leg.hip) == pytest.approx(0.43, abs=0.01)
            assert np.linalg.norm(leg.ankle - leg.knee) == pytest.approx(0.41, abs=0.01)
            assert np.linalg.norm(arm.elbow - arm.shoulder) == pytest.approx(0.30, abs=0.01)
            assert np.linalg.norm(arm.wrist - arm.elbow) == pytest.approx(0.27, abs=0.01)


def test_who_sits_is_lower_and_bends_the_knees_forward():
    for person in PEOPLE:
        posed = seated(person, 0.5)
        for side in SIDES:
            leg = posed.legs[side]
            assert leg.hip[2] == pytest.approx(SEAT_M + 0.08)
            assert leg.knee[0] > leg.hip[0] + 0.3
        mesh = clothed(person, posed)
        assert mesh.vertices[:, 2].max() < 0.85 * person.height
        assert abs(mesh.vertices[:, 2].min()) < 0.1


def test_who_rides_pedals_with_one_foot_up_and_holds_the_bar():
    posed = riding(PEOPLE[0], np.pi / 2)
    left, right = (posed.legs[side].ankle[2] for side in SIDES)
    assert left - right == pytest.approx(0.32, abs=0.02)
    assert posed.legs[1].hip[2] == pytest.approx(SADDLE_M + 0.02)
    for side in SIDES:
        reach = np.linalg.norm(posed.arms[side].wrist - np.array(BAR) * [1, side, 1])
        assert reach < 0.12
