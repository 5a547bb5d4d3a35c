"""The camera model: pixel to ground and back, and an honest covariance."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.camera import CameraModel, CameraPoses, Plane, read_poses, write_poses
from skyreid.contract.errors import InputError
from skyreid.contract.sighting import View


def looking_down(
    pitch_deg: float = -40.0, yaw_deg: float = 30.0, up_m: float = 12.0
) -> CameraModel:
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.array([[900.0, 0, 640], [0, 900.0, 360], [0, 0, 1]])
    return CameraModel(matrix, rotation, -rotation @ np.array([3.0, -5.0, up_m]), 1280, 720)


@given(st.floats(0, 1280), st.floats(0, 720), st.floats(0, 2))
def test_a_ground_point_projects_back_to_its_pixel(x: float, y: float, height_m: float) -> None:
    camera = looking_down()
    point = camera.ground_point(x, y, Plane(height_m))
    assert point is not None
    pixel, depth = camera.project(np.array([[*point, height_m]]))
    np.testing.assert_allclose(pixel[0], [x, y], atol=1e-6)
    assert depth[0] > 0


def test_the_position_is_where_the_camera_stands() -> None:
    np.testing.assert_allclose(looking_down().position, [3.0, -5.0, 12.0], atol=1e-9)


def test_a_pixel_above_the_horizon_has_no_ground() -> None:
    assert looking_down(pitch_deg=5.0).ground_point(640, 100) is None


def test_a_camera_below_the_ground_sees_none_of_it() -> None:
    """A drone that has landed, by a height that is a little low: people were put behind it."""
    assert looking_down(up_m=-0.5).ground_point(640, 360) is None
    assert looking_down(up_m=0.5).ground_point(640, 360, Plane(0.85)) is None


def test_beyond_the_range_there_is_no_position() -> None:
    camera = looking_down(pitch_deg=-10.0)
    assert camera.ground(640, 360, sigma_px=2, sigma_m=0.1, range_max_m=200) is not None
    assert camera.ground(640, 360, sigma_px=2, sigma_m=0.1, range_max_m=20) is None


def test_the_covariance_is_what_many_noisy_foot_points_show() -> None:
    camera, rng = looking_down(), np.random.default_rng(0)
    ground = camera.ground(700, 500, sigma_px=2.0, sigma_m=0.2, range_max_m=100)
    assert ground is not None
    noisy = [camera.ground_point(700 + a, 500 + b) for a, b in rng.normal(0, 2.0, (4000, 2))]
    spread = np.cov(np.array([p for p in noisy if p is not None]).T) + np.eye(2) * 0.04
    stated = np.array([[ground.cov_ee_m2, ground.cov_en_m2], [ground.cov_en_m2, ground.cov_nn_m2]])
    np.testing.assert_allclose(stated, spread, rtol=0.1, atol=0.002)


def test_poses_survive_their_file(tmp_path: Path) -> None:
    models = (looking_down(), looking_down(yaw_deg=31.0))
    write_poses(tmp_path / "calib.json", {"cam1": CameraPoses(View.AERIAL, 8.0, (1, 2), models)})
    poses = read_poses(tmp_path / "calib.json", "cam1")
    assert (poses.view, poses.fps, poses.frames) == (View.AERIAL, 8.0, (1, 2))
    np.testing.assert_array_equal(poses.models[1].rotation, models[1].rotation)


def test_the_pose_in_force_is_the_frames_own() -> None:
    models = tuple(looking_down(yaw_deg=float(i)) for i in range(10))
    poses = CameraPoses(View.AERIAL, 8.0, tuple(range(1, 11)), models)
    for frame in range(10):
        assert poses.at(frame / 8.0) is models[frame]
        assert poses.at(frame / 8.0 + 0.001) is models[frame]
    assert poses.at(99.0) is models[9]
    assert CameraPoses(View.GROUND, 8.0, (1,), models[:1]).at(5.0) is models[0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "camera poses"),
        ("{}", "no camera 'cam1'"),
        (json.dumps({"1": {"width": 3}}), "camera cam1"),
        (
            json.dumps({"1": {"width": 3, "height": 3, "fps": 1, "kind": "aerial", "frames": []}}),
            "no frames",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "calib.json").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_poses(tmp_path / "calib.json", "cam1")


def test_truth_positions_project_into_the_truth_boxes(shared: Path) -> None:
    """Pins the axes, the pixel convention and the frame numbering to the evaluation clip."""
    clip = shared / "data" / "plaza"
    world = np.loadtxt(clip / "world.csv", delimiter=",", skiprows=1)
    for camera in ("cam1", "cam8"):
        poses = read_poses(clip / "calib.json", camera)
        truth = np.loadtxt(clip / "gt" / f"{camera}.txt", delimiter=",")
        inside = []
        for row in truth[::37]:
            who = world[(world[:, 0] == row[0]) & (world[:, 1] == row[1])][0]
            model = poses.at((row[0] - 1) / poses.fps)
            feet, _ = model.project(np.array([[who[2], who[3], 0.0]]))
            x, y, w, h = row[2:6]
            if x > 2 and y > 2 and x + w < 1278 and y + h < 718:
                inside.append(
                    x - 2 <= feet[0, 0] <= x + w + 2 and y + h * 0.5 <= feet[0, 1] <= y + h + 3
                )
        assert len(inside) > 10
        assert np.mean(inside) > 0.95


def test_a_substream_of_a_camera_sees_the_same_ground_in_fewer_pixels() -> None:
    camera = looking_down()
    small = camera.scaled(640, 360)
    assert small is not None
    here, there = camera.ground_point(900, 500), small.ground_point(450, 250)
    assert here is not None
    assert there is not None
    np.testing.assert_allclose(here, there)
    assert (small.width_px, small.height_px) == (640, 360)
    assert camera.scaled(1280, 720) is camera


def test_a_picture_of_another_shape_is_no_scaled_one() -> None:
    assert looking_down().scaled(640, 480) is None
    assert looking_down().scaled(704, 392) is not None  # sides are multiples of 8
