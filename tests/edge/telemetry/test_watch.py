"""Telemetry held against its own picture: how late it is, and whether it is that camera's."""

import re
import socket
from collections.abc import Callable

import numpy as np
import pytest
from autopilot import EARTH, Autopilot
from flights import FPS, SIZE, START_NS, model_at
from ground_pictures import seen, spots

from skyreid.contract.camera import CameraModel
from skyreid.contract.klv import encode
from skyreid.contract.rotation import turn
from skyreid.contract.sighting import Clock
from skyreid.contract.telemetry import packet_of
from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry.agreement import _said_path
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.mavlink_feed import MavlinkFeed
from skyreid.edge.telemetry.mavlink_link import UdpLink
from skyreid.edge.telemetry.options import QUALITIES, TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.motion import PictureMotion
from skyreid.synth.options import FlightPath
from skyreid.synth.telemetry import LEVELS, ORIGIN

LATE_S = 0.3
SECONDS = 23


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """What a drone sees that crosses a place."""
    ground = spots()
    return [seen(ground, model_at(index / FPS, "transit")) for index in range(SECONDS * FPS)]


def frame_of(index: int, picture: np.ndarray, *said: bytes) -> Frame:
    at_ns = index * 10**9 // FPS
    came = tuple((START_NS + at_ns, data) for data in said)
    width, height = SIZE
    return Frame(
        index + 1, START_NS + at_ns, Clock.FILE, 0, width, height,
        picture=picture, telemetry=came, media_ns=at_ns,
    )  # fmt: skip


def klv(model: CameraModel, index: int) -> bytes:
    return encode(packet_of(model, ORIGIN, START_NS + index * 10**9 // FPS))


def flown(
    pictures: list[np.ndarray], said: Callable[[float], CameraModel], **options: object
) -> TelemetryPoses:
    chosen = TelemetryOptions.model_validate({"source": "klv", **options})
    poses = TelemetryPoses(KlvFeed(ORIGIN), chosen, plane_m=MIDDLE_M)
    for index, picture in enumerate(pictures):
        poses.at(frame_of(index, picture, klv(said(index / FPS), index)))
    return poses


def test_the_picture_s_own_motion_is_that_of_its_camera(pictures: list[np.ndarray]) -> None:
    motion, path = PictureMotion(), []
    for index, picture in enumerate(pictures[:60]):
        if index % 3 == 0:  # somebody large walks through
            picture = picture.copy()
            picture[100:260, 4 * index : 4 * index + 60] = 230
        found = motion.step(frame_of(index, picture))
        assert found is not None
        assert found[1] == (index == 0)
        path.append(found[0])
    times = [round(index * 1e9 / FPS) for index in range(60)]
    models = [model_at(index / FPS, "transit") for index in range(60)]
    truth = _said_path(times, models, 0.0, 60.0)[1]
    assert np.linalg.norm(truth[-1]) > 0.3, "it was not moving: the test shows nothing"
    np.testing.assert_allclose(np.array(path), truth, atol=0.01)


def test_a_lag_that_nobody_said_is_seen_and_the_pose_of_a_frame_is_that_of_its_moment(
    pictures: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    poses = flown(pictures, lambda time_s: model_at(time_s - LATE_S, "transit"), quality="poor",
                  lag_sigma_ms=200, lag_ms="auto")  # fmt: skip
    told = poses.condition
    assert told.lag_seen
    assert told.lag_ms == pytest.approx(1000 * LATE_S, abs=20)
    assert told.lag_error_ms < 25
    assert told.fault is None
    assert "by the picture" in caplog.text
    time_s = SECONDS - 1 / FPS
    pose = poses.at(frame_of(len(pictures), pictures[-1]))  # no packet: a step ahead
    assert pose is not None
    truth = model_at(time_s + 1 / FPS, "transit")
    assert np.linalg.norm((pose.model.position - truth.position)[:2]) < 0.15


def test_over_mavlink_late_and_uneven_the_pose_of_a_frame_is_that_of_its_moment_to_20_ms(
    pictures: list[np.ndarray],
) -> None:
    """Poses 300 ms older than their time stamps, on a link of 300 ms and up to 120 more."""
    rng, late_ms = np.random.default_rng(5), []
    drone, sent = Autopilot(ORIGIN, flags=EARTH, path="transit", late_s=LATE_S), []
    for number in range(SECONDS * 10):
        time_s = number / 10
        what = [drone.position(time_s), drone.gimbal(time_s + 0.02)]
        if number % 10 == 0:
            what.insert(0, drone.system_time(time_s))
        sent += [(time_s + 0.3 + rng.uniform(0, 0.12), data) for data in what]
    sent.sort(key=lambda each: each[0])
    port = UdpLink("127.0.0.1", 0)
    options = TelemetryOptions(source="udp://127.0.0.1:0", fov_deg=55, lag_sigma_ms=300)
    feed = MavlinkFeed(port, ORIGIN, options)
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for index, picture in enumerate(pictures):
            time_s = index / FPS
            while sent and sent[0][0] <= time_s:
                link.sendto(sent.pop(0)[1], ("127.0.0.1", port.port))
            pose = poses.at(frame_of(index, picture))
            if not poses.condition.lag_seen:
                continue
            assert pose is not None
            ahead = model_at(time_s + 0.01, "transit").position
            speed = (ahead - model_at(time_s - 0.01, "transit").position) / 0.02
            off = pose.model.position - model_at(time_s, "transit").position
            late_ms.append(1000 * float(off @ speed / (speed @ speed)))
    feed.close()
    assert poses.condition.lag_ms == pytest.approx(1000 * LATE_S, abs=20)
    assert len(late_ms) > 10
    assert abs(float(np.median(late_ms))) < 20


def test_a_lag_that_was_set_is_kept(pictures: list[np.ndarray]) -> None:
    poses = flown(pictures, lambda time_s: model_at(time_s - LATE_S, "transit"), lag_ms=120)
    assert poses.condition.lag_ms == 120
    assert not poses.condition.lag_seen


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda model, time_s: rolled(model, 180), "-1.0 times the yaw"),
        (lambda model, time_s: headed(model, 25 * np.sin(0.8 * time_s)), "(yaw|roll)"),
    ],
    ids=["upside down", "the nose's yaw added to one that is counted from north"],
)
def test_telemetry_that_moves_otherwise_than_the_picture_is_said(
    pictures: list[np.ndarray],
    wrong: Callable[[CameraModel, float], CameraModel],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    poses = flown(pictures, lambda time_s: wrong(model_at(time_s, "transit"), time_s))
    assert "see telemetry.yaw_frame" in poses.fault
    assert poses.condition.fault is not None
    assert not poses.condition.lag_seen
    (warning,) = [r.message for r in caplog.records if "telemetry says" in r.message]
    assert re.search(name, warning)


def rolled(model: CameraModel, by_deg: float) -> CameraModel:
    return model.displaced(np.radians([0, 0, 0, 0, 0, by_deg]))


def headed(model: CameraModel, by_deg: float) -> CameraModel:
    rotation = model.rotation @ turn(np.radians([0, 0, by_deg]))
    size = model.width_px, model.height_px
    return CameraModel(model.matrix, rotation, -rotation @ model.position, *size)


def test_pictures_of_nothing_say_nothing(pictures: list[np.ndarray]) -> None:
    blank = [np.full_like(pictures[0], 90)] * 60
    poses = flown(blank, lambda time_s: model_at(time_s, "transit"))
    assert not poses.condition.lag_seen
    assert poses.fault == ""


def test_of_a_drone_that_hovers_the_quality_s_lag_is_taken_and_said_not_to_be_seen() -> None:
    """Noise of packets is more than a hovering drone moves: whatever is seen in it is no lag."""
    ground, rng = spots(), np.random.default_rng(8)
    path: FlightPath = "hover"
    errors, sigmas = LEVELS["poor"], QUALITIES["poor"]

    def said(time_s: float) -> CameraModel:
        sizes = [errors.position_noise_m] * 3 + [float(np.radians(errors.attitude_noise_deg))] * 3
        noise = rng.normal(size=6) * sizes
        return model_at(time_s - LATE_S, path).displaced(noise)

    poses = TelemetryPoses(
        KlvFeed(ORIGIN), TelemetryOptions(source="klv", quality="poor"), plane_m=MIDDLE_M
    )
    pose = None
    for index in range(SECONDS * FPS):
        picture = seen(ground, model_at(index / FPS, path))
        pose = poses.at(frame_of(index, picture, klv(said(index / FPS), index)))
    told = poses.condition
    assert not told.lag_seen
    assert (told.lag_ms, told.lag_error_ms) == (sigmas.lag_ms, sigmas.lag_sigma_ms)
    assert told.fault is None
    assert pose is not None
    assert pose.cov is not None
    # Somebody who stands still for the camera moves on the ground by what the drone does meanwhile.
    late = pose.cov - np.diag(np.diag(pose.cov))
    assert np.abs(late).max() > 0, "the lag's own error is in no covariance"
