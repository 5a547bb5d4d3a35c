from __future__ import annotations

import numpy as np
import pytest

from skyreid.synth.options import ALTITUDES
from skyreid.synth.rig import AERIAL as LEVELS
from skyreid.synth.rig import flown, model_of, place_in_air, station

AERIAL = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("camera", AERIAL)
def test_an_orbit_keeps_its_height_and_what_it_looks_at(camera: int):
    base = station(camera)
    looked_at = model_of(base, 640, 360).ground_point(320, 180)
    assert looked_at is not None
    yaws = []
    for time_s in np.linspace(0, 20, 41):
        at = flown(base, camera, 3, float(time_s), "orbit")
        here = model_of(at, 640, 360).ground_point(320, 180)
        assert here is not None
        # Half a metre and a degree of drift; a degree is the more metres the flatter the view.
        slack = 0.8 + np.radians(1.5) * at.position[2] / np.sin(np.radians(-at.pitch_deg)) ** 2
        assert float(np.hypot(*(here - looked_at))) < slack
        assert abs(at.position[2] - base.position[2]) < 0.3
        yaws.append(at.yaw_deg)
    assert np.ptp(yaws) > 150  # it goes round, and does not just drift


@pytest.mark.parametrize("camera", AERIAL)
def test_a_transit_goes_straight_over_the_place_and_turns_round_before_the_houses(camera: int):
    base = station(camera)
    places = np.array(
        [flown(base, camera, 3, float(t), "transit").position for t in np.arange(0, 60, 0.25)]
    )
    assert np.abs(places[:, :2]).max() < 31
    steps = np.linalg.norm(np.diff(places[:, :2], axis=0), axis=1) / 0.25
    assert np.median(steps) == pytest.approx(4.0, abs=0.5)
    # All on one line, but for the drift.
    centred = places[:, :2] - places[:, :2].mean(0)
    assert np.linalg.svd(centred, compute_uv=False)[1] / np.sqrt(len(centred)) < 0.6


@pytest.mark.parametrize("path", ["hover", "orbit", "transit"])
def test_a_street_camera_stays_whatever_the_drones_do(path: str):
    assert flown(station(8), 8, 3, 12.0, path) == station(8)  # type: ignore[arg-type]


def test_the_same_seed_flies_the_same_way():
    base = station(2)
    one, two = (flown(base, 2, seed, 5.0, "transit") for seed in (3, 3))
    assert one == two != flown(base, 2, 4, 5.0, "transit")


@pytest.mark.parametrize("altitude", ALTITUDES)
def test_a_drone_of_every_level_is_where_the_table_says_and_inside_the_place(altitude: str):
    for camera in AERIAL:
        model = model_of(station(camera, altitude=altitude), 640, 360)  # type: ignore[arg-type]
        height_m, pitch_deg = LEVELS[altitude][camera]  # type: ignore[index]
        assert place_in_air(model) == {"altitude_m": height_m, "pitch_deg": pitch_deg}
        assert np.abs(model.position[:2]).max() < 36
        assert model.ground_point(320, 180) is not None


def test_a_level_is_higher_and_steeper_than_the_one_before():
    for camera in AERIAL:
        levels = [level for level in ALTITUDES if level != "overhead"]
        heights, pitches = zip(*(LEVELS[level][camera] for level in levels), strict=True)
        assert list(heights) == sorted(set(heights))
        assert list(pitches) == sorted(set(pitches), reverse=True)
        assert LEVELS["overhead"][camera][0] < heights[0]
        assert LEVELS["overhead"][camera][1] < pitches[0]
