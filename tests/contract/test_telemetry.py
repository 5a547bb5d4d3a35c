import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError
from skyreid.contract.klv import KlvPacket, decode, encode
from skyreid.contract.rotation import turn, turned_by
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import camera_of, packet_of

ORIGIN = Origin(latitude_deg=47.37, longitude_deg=8.54, ellipsoid_height_m=450.0)
AT_ORIGIN = dict(sensor_latitude_deg=47.37, sensor_longitude_deg=8.54, sensor_ellipsoid_m=470.0)


def looking(
    heading: float = 0, pitch: float = 0, roll: float = 0, azimuth: float = 0,
    elevation: float = 0, sensor_roll: float = 0,
) -> CameraModel:  # fmt: skip
    packet = KlvPacket(
        time_ns=0,
        platform_heading_deg=heading,
        platform_pitch_deg=pitch,
        platform_roll_deg=roll,
        horizontal_fov_deg=90,
        sensor_azimuth_deg=azimuth,
        sensor_elevation_deg=elevation,
        sensor_roll_deg=sensor_roll,
        **AT_ORIGIN,
    )
    return camera_of(packet, ORIGIN, 1280, 720)


@pytest.mark.parametrize(
    ("camera", "forward", "right"),
    [
        (looking(), [0, 1, 0], [1, 0, 0]),  # nose to the north, level: east is to the right
        (looking(heading=90), [1, 0, 0], [0, -1, 0]),
        (looking(heading=90, azimuth=90), [0, -1, 0], [-1, 0, 0]),
        (looking(pitch=90), [0, 0, 1], [1, 0, 0]),  # nose up
        (looking(roll=90), [0, 1, 0], [0, 0, -1]),  # right wing down
        (looking(elevation=-90), [0, 0, -1], [1, 0, 0]),  # the gimbal looks straight down
        (looking(elevation=-45), [0, 0.5**0.5, -(0.5**0.5)], [1, 0, 0]),
        (looking(sensor_roll=90), [0, 1, 0], [0, 0, -1]),
    ],
)
def test_each_angle_turns_the_camera_the_way_the_standard_says(
    camera: CameraModel, forward: list[float], right: list[float]
) -> None:
    np.testing.assert_allclose(camera.rotation[2], forward, atol=1e-12)
    np.testing.assert_allclose(camera.rotation[0], right, atol=1e-12)
    np.testing.assert_allclose(camera.position, [0, 0, 20], atol=1e-6)
    assert camera.matrix[0, 0] == pytest.approx(640)
    assert np.linalg.det(camera.rotation) == pytest.approx(1)


@given(
    st.floats(-180, 180), st.floats(-90, 0), st.floats(-30, 30), st.floats(0, 359),
    st.floats(-25, 25), st.floats(-40, 40),
)  # fmt: skip
def test_a_cameras_telemetry_gives_the_camera_back(
    yaw: float, elevation: float, roll: float, heading: float, pitch: float, bank: float
) -> None:
    """Through real bytes, on a platform of any attitude, within what the packet can resolve."""
    turned = looking(heading=yaw % 360, elevation=elevation, sensor_roll=roll % 360)
    place = np.array([12.0, -7.0, 31.0])
    camera = CameraModel(turned.matrix, turned.rotation, -turned.rotation @ place, 1280, 720)
    packet = packet_of(camera, ORIGIN, 10**18, heading_deg=heading, pitch_deg=pitch, roll_deg=bank)
    found = camera_of(decode(encode(packet)), ORIGIN, 1280, 720)
    # A step of the heading is .0055 degrees, half of it 5e-5 radians.
    np.testing.assert_allclose(found.rotation, camera.rotation, atol=1.5e-4)
    np.testing.assert_allclose(found.position[:2], place[:2], atol=0.01)
    assert abs(found.position[2] - 31) <= 0.16  # a step of the height is .30 m
    assert found.matrix[0, 0] == pytest.approx(640, rel=2e-4)


def test_the_frame_centre_is_the_ground_point_in_the_middle() -> None:
    camera = looking(elevation=-45)
    packet = packet_of(camera, ORIGIN, 0)
    assert packet.frame_latitude_deg == pytest.approx(47.37 + 20 / 111_180, abs=2e-7)
    assert packet.frame_longitude_deg == pytest.approx(8.54, abs=1e-9)
    assert packet_of(looking(elevation=10), ORIGIN, 0).frame_latitude_deg is None


def test_a_height_above_mean_sea_level_is_not_taken_for_an_ellipsoid_height() -> None:
    packet = KlvPacket(
        time_ns=0,
        platform_heading_deg=0,
        sensor_latitude_deg=47.37,
        sensor_longitude_deg=8.54,
        sensor_msl_m=470,
        horizontal_fov_deg=60,
        sensor_azimuth_deg=0,
        sensor_elevation_deg=-30,
        sensor_roll_deg=0,
    )
    with pytest.raises(InputError, match=r"sensor_ellipsoid_m.*mean sea level"):
        camera_of(packet, ORIGIN, 1280, 720)


def test_with_a_geoid_a_height_above_the_sea_is_a_height() -> None:
    """Most drones send tag 15 alone, and many no roll of a gimbal that keeps it at nought."""
    packet = KlvPacket(
        time_ns=0,
        platform_heading_deg=0,
        sensor_latitude_deg=47.37,
        sensor_longitude_deg=8.54,
        sensor_msl_m=430,
        sensor_azimuth_deg=0,
        sensor_elevation_deg=-30,
    )
    camera = camera_of(packet, ORIGIN, 1280, 720, geoid=lambda *_: 48.0, fov_deg=90)
    assert camera.position[2] == pytest.approx(28, abs=1e-6)
    assert camera.matrix[0, 0] == pytest.approx(640)
    with pytest.raises(InputError, match="does not say horizontal_fov_deg"):
        camera_of(packet, ORIGIN, 1280, 720, geoid=lambda *_: 48.0)


@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3))
def test_a_rotation_vector_comes_back(vector: list[float]) -> None:
    np.testing.assert_allclose(turned_by(turn(np.array(vector))), vector, atol=1e-7)
