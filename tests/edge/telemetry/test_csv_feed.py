from pathlib import Path

import numpy as np
import pytest
from flights import FPS, SIZE, START_NS, frame_at, model_at

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.geodesy import to_earth
from skyreid.contract.telemetry import packet_of
from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry import feeds
from skyreid.edge.telemetry.csv_feed import HEIGHTS
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.synth.telemetry import ORIGIN


def table(path: Path, height: str, *, takeoff_m: float = 0.0) -> Path:
    lines = [
        f"time_ns,latitude_deg,longitude_deg,{height},yaw_deg,pitch_deg,roll_deg,fov_deg,battery"
    ]
    for index in range(2 * FPS):
        model = model_at(index / FPS)
        latitude, longitude, up = to_earth(ORIGIN, model.position)
        if height == "height_msl_m":
            up -= geoid_height(latitude, longitude)
        elif height == "height_takeoff_m":
            up -= takeoff_m
        said = packet_of(model, ORIGIN, 0)  # of a platform that is level and looks north
        looks = f"{said.sensor_azimuth_deg},{said.sensor_elevation_deg},{said.sensor_roll_deg}"
        time_ns = START_NS + index * 10**9 // FPS
        lines.append(
            f"{time_ns},{latitude:.9f},{longitude:.9f},{up:.4f},{looks},{said.horizontal_fov_deg},9"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def poses_of(path: Path, **options: object) -> TelemetryPoses:
    chosen = TelemetryOptions.model_validate({"source": str(path), "quality": "exact", **options})
    poses = feeds.poses_from(chosen, ORIGIN, plane_m=MIDDLE_M)
    assert poses is not None
    return poses


@pytest.mark.parametrize("height", HEIGHTS)
def test_a_table_says_where_the_camera_is_whatever_its_heights_are_above(
    height: str, tmp_path: Path
) -> None:
    path = table(tmp_path / "flight.csv", height, takeoff_m=498.0)
    poses = poses_of(path, takeoff_height_m=498.0)
    for index in range(2 * FPS):
        pose = poses.at(frame_at(index / FPS))
        assert pose is not None
        off = model_at(index / FPS).displacement(pose.model)
        assert np.abs(off).max() < 1e-3
        assert (pose.model.width_px, pose.model.height_px) == SIZE


def test_heights_above_a_take_off_that_nobody_has_placed_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "flight.csv", "height_takeoff_m")
    with pytest.raises(SettingsError, match=r"set telemetry\.takeoff_height_m"):
        poses_of(path)
    for head in ("height_m", "height_msl_m,height_takeoff_m"):  # above what, or which of them
        path.write_text(
            f"time_ns,latitude_deg,longitude_deg,{head},yaw_deg,pitch_deg\n1,2,3,4,5,6,7\n"
        )
        with pytest.raises(InputError, match="one of height_ellipsoid_m, height_msl_m"):
            poses_of(path)


def test_a_row_that_cannot_be_read_loses_itself_alone(tmp_path: Path) -> None:
    path = table(tmp_path / "flight.csv", "height_msl_m")
    lines = path.read_text().splitlines()
    lines[3] = lines[3].split(",")[0] + ",nan,8,,north,0,0,60,9"
    path.write_text("\n".join(lines) + "\n")
    poses = poses_of(path)
    faults = []
    for index in range(6):
        assert poses.at(frame_at(index / FPS)) is not None
        faults.append(poses.fault)
    assert [bool(fault) for fault in faults] == [False, False, True, False, False, False]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "flight.csv", "height_msl_m")
    path.write_text(path.read_text().replace("battery", "yaw_deg"))
    with pytest.raises(InputError, match="the column yaw_deg twice"):
        poses_of(path)


def test_a_boresight_turns_the_camera_up_right_and_clockwise(tmp_path: Path) -> None:
    path = table(tmp_path / "flight.csv", "height_ellipsoid_m")
    plain = poses_of(path).at(frame_at(0))
    assert plain is not None
    right, down, forward = plain.model.rotation
    for angles, axis, toward in (
        ((5.0, 0.0, 0.0), 2, -down), ((0.0, 5.0, 0.0), 2, right), ((0.0, 0.0, 5.0), 0, down),
    ):  # fmt: skip
        turned = poses_of(path, boresight_deg=angles).at(frame_at(0))
        assert turned is not None
        assert turned.model.rotation[axis] @ toward == pytest.approx(np.sin(np.radians(5)))
        np.testing.assert_allclose(turned.model.position, plain.model.position, atol=1e-9)
    assert forward[2] < 0
