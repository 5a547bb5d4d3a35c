from pathlib import Path

import numpy as np
import pytest

from skyreid.bundle.detector import open_detector
from skyreid.edge.altitude import Camera, shipped
from skyreid.synth.rig import model_of
from skyreid.train.evaluate import altitude

EXAMPLES = Path(__file__).parents[3] / "examples" / "bundle"


def test_a_drone_of_the_grid_sees_a_metre_as_its_cell_says():
    looks = altitude.grid()
    assert len(looks) == len(altitude.PITCHES_DEG) * len(altitude.PIXELS_A_METRE)
    for pitch, height in looks:
        model = model_of(altitude.over(pitch, height, yaw_deg=30.0), *altitude.SIZE_PX)
        yaw = np.radians(30.0)
        across = np.array([np.sin(yaw), -np.cos(yaw), 0.0]) / 2
        ends, _ = model.project(np.stack([-across, across]))
        wide = float(np.linalg.norm(ends[0] - ends[1]))
        told = altitude.pixels_a_metre(height, pitch, altitude.FOV_DEG, altitude.SIZE_PX[0])
        assert wide == pytest.approx(told, rel=1e-3)


def test_a_miss_is_below_what_one_stranger_in_a_hundred_reaches_or_behind_somebody_else():
    people = np.repeat(np.arange(100), 2)
    stranger = np.linspace(0.0, 0.5, 200, dtype=np.float32)
    all_found, _ = altitude._fnir(np.full(200, 0.9, np.float32), stranger, people)
    none_found, _ = altitude._fnir(np.full(200, 0.4, np.float32), stranger, people)
    assert (all_found, none_found) == (0.0, 1.0)
    half = np.where(np.arange(200) % 4 < 2, 0.9, 0.4).astype(np.float32)
    rate, (low, high) = altitude._fnir(half, stranger, people)
    assert rate == 0.5
    # Over these people .4 to .6; wider, for it has to hold for others.
    assert 0.2 < low < 0.3 < 0.7 < high < 0.8


def test_the_shipped_detector_finds_at_another_height_what_the_shipped_table_expects():
    """A short version of `bench/altitude.py`: one height between the table's, few boxes."""
    pitch, height, few = 60.0, 26.0, altitude.Amount(boxes=60, frames=3, seed=8101)
    detector = open_detector(EXAMPLES / "detector")
    [(boxes, recall)] = altitude._recalls(detector, [(pitch, height)], few)
    camera = Camera(pitch, altitude.FOV_DEG, altitude.SIZE_PX[0])
    expected = shipped().expected(camera, height).recall
    assert boxes >= 60
    assert expected is not None
    assert recall >= expected - 0.15
