from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.camera import Pose, read_poses
from skyreid.contract.recording import read_mot
from skyreid.contract.sighting import View
from skyreid.edge.people.ground import locate


@pytest.mark.parametrize("camera", [1, 3, 6, 8, 12])
def test_true_boxes_give_the_place_within_a_quarter_of_a_metre(shared: Path, camera: int) -> None:
    clip = shared / "data" / "plaza"
    table = np.loadtxt(clip / "world.csv", delimiter=",", skiprows=1)
    place = {(int(row[0]), int(row[1])): row[2:4] for row in table}
    poses = read_poses(clip / "calib.json", f"cam{camera}")
    truth = read_mot(clip / "gt" / f"cam{camera}.txt", truth=True)
    errors = []
    for index in range(0, len(truth.frame), 20):
        if truth.visibility[index] < 0.5:
            continue
        frame = int(truth.frame[index])
        model = poses.at((frame - 1) / poses.fps)
        found = locate(Pose(model), truth.box_xyxy[index], poses.view)
        if found is not None:
            true = place[frame, int(truth.identity[index])]
            errors.append(np.hypot(found.east_m - true[0], found.north_m - true[1]))
    assert len(errors) > 50
    assert np.percentile(errors, 90) < 0.25


def test_a_person_whose_feet_are_out_of_the_frame_has_no_place(shared: Path) -> None:
    poses = read_poses(shared / "data" / "plaza" / "calib.json", "cam6")
    model = Pose(poses.at(0.0))
    assert locate(model, (600, 300, 640, 420), View.GROUND) is not None
    assert locate(model, (600, 600, 640, 720), View.GROUND) is None
