"""An autopilot that speaks MAVLink 2 over UDP on loopback, late and out of step."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autopilot import BOOT_NS, EARTH, LOCK, VEHICLE, Autopilot, mavutil
from flights import FPS, START_NS, frame_at, model_at

from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry.lens import Lens
from skyreid.edge.telemetry.mavlink_feed import MavlinkFeed
from skyreid.edge.telemetry.mavlink_link import UdpLink
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.synth.telemetry import ORIGIN


@pytest.fixture
def port() -> UdpLink:
    return UdpLink("127.0.0.1", 0)


@pytest.fixture
def feed(port: UdpLink) -> Iterator[MavlinkFeed]:
    options = TelemetryOptions(source="udp://127.0.0.1:0", fov_deg=55)
    feed = MavlinkFeed(port, ORIGIN, options)
    yield feed
    feed.close()


@pytest.mark.parametrize("flags", [EARTH, VEHICLE, 0], ids=["earth", "vehicle", "neither"])
def test_a_pose_is_that_of_its_frame_though_the_link_is_late_and_uneven(
    feed: MavlinkFeed, port: UdpLink, flags: int
) -> None:
    """300 ms late, up to 120 ms more by chance: what is known at a frame is as old as that."""
    rng = np.random.default_rng(3)
    drone, sent = Autopilot(ORIGIN, flags=flags), []
    for number in range(60):
        time_s = number / 10
        what = [drone.position(time_s), drone.attitude(time_s + 0.013), drone.gimbal(time_s + 0.02)]
        if number % 10 == 0:
            what.insert(0, drone.system_time(time_s))
        sent += [(time_s + 0.3 + rng.uniform(0, 0.12), data) for data in what]
    sent.sort(key=lambda each: each[0])
    options = TelemetryOptions(source="udp://127.0.0.1:0", quality="exact")
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    late_ms, aside = [], []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for index in range(5 * FPS):
            time_s = index / FPS
            while sent and sent[0][0] <= time_s:
                link.sendto(sent.pop(0)[1], ("127.0.0.1", port.port))
            pose = poses.at(frame_at(time_s))
            assert poses.fault == ""
            if time_s < 1.5:
                continue
            assert pose is not None
            truth = model_at(time_s)
            ahead = (model_at(time_s + 0.01).position - model_at(time_s - 0.01).position) / 0.02
            off = (pose.model.position - truth.position)[:2]
            speed = float(np.linalg.norm(ahead[:2]))
            along = float(off @ ahead[:2]) / speed
            late_ms.append(1e3 * along / speed)
            aside.append(float(np.sqrt(max(off @ off - along**2, 0))))
            turned = np.degrees(np.linalg.norm(truth.displacement(pose.model)[3:]))
            assert turned < 0.5
    assert np.median(np.abs(late_ms)) < 10
    assert np.max(np.abs(late_ms)) < 20
    assert np.max(aside) < 0.3  # the drone flies a circle: straight on is beside it


def test_an_old_gimbal_s_lock_says_which_frame_its_yaw_is_of(feed: MavlinkFeed) -> None:
    for flags, frame in ((LOCK, "earth"), (0, "vehicle"), (LOCK | VEHICLE, "vehicle")):
        assert feed._yaw_frame(flags) == frame
    options = TelemetryOptions(source="udp://127.0.0.1:0", yaw_frame="vehicle")
    forced = MavlinkFeed(UdpLink("127.0.0.1", 0), ORIGIN, options)
    assert forced._yaw_frame(LOCK | EARTH) == "vehicle"
    forced.close()


def test_noise_on_the_link_and_half_a_drone_are_no_pose(feed: MavlinkFeed, port: UdpLink) -> None:
    drone = Autopilot(ORIGIN, flags=EARTH)
    poses = TelemetryPoses(feed, TelemetryOptions(source="udp://127.0.0.1:0"), plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for data in (b"", b"\xfd\x09noise", b"\x00" * 300, drone.gimbal(0), drone.position(0)[:-1]):
            link.sendto(data, ("127.0.0.1", port.port))
        assert poses.at(frame_at(0)) is None
        for data in (drone.system_time(0), drone.position(0), drone.gimbal(0)):
            link.sendto(data, ("127.0.0.1", port.port))
        assert poses.at(frame_at(0)) is not None


def test_one_message_of_the_far_future_does_not_drive_out_what_is_said_of_now(
    feed: MavlinkFeed,
    port: UdpLink,
) -> None:
    drone, hour = Autopilot(ORIGIN, flags=EARTH), 3600
    poses = TelemetryPoses(feed, TelemetryOptions(source="udp://127.0.0.1:0"), plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for data in (drone.system_time(0), drone.position(hour), drone.gimbal(hour)):
            link.sendto(data, ("127.0.0.1", port.port))
        assert poses.at(frame_at(0)) is None
        assert "ahead of the picture" in poses.fault
        for data in (drone.position(0), drone.gimbal(0)):
            link.sendto(data, ("127.0.0.1", port.port))
        assert poses.at(frame_at(0)) is not None
        assert poses.fault == ""


def test_a_heading_that_is_no_number_is_no_pose(feed: MavlinkFeed, port: UdpLink) -> None:
    drone = Autopilot(ORIGIN, flags=VEHICLE, yaw_rad=float("nan"))
    poses = TelemetryPoses(feed, TelemetryOptions(source="udp://127.0.0.1:0"), plane_m=MIDDLE_M)
    gimbal = Autopilot(ORIGIN, flags=VEHICLE).gimbal(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for data in (drone.system_time(0), drone.position(0), drone.attitude(0), gimbal):
            link.sendto(data, ("127.0.0.1", port.port))
        assert poses.at(frame_at(0)) is None
        assert "not a number" in poses.fault


def test_an_autopilot_that_was_started_anew_is_right_with_its_first_time_of_the_day(
    feed: MavlinkFeed,
    port: UdpLink,
) -> None:
    """The start that its last 15 times had told stayed in force, half a minute long."""
    before = Autopilot(ORIGIN, flags=EARTH)
    after = Autopilot(ORIGIN, flags=EARTH, boot_ns=START_NS + 25_000_000_000)
    options = TelemetryOptions(source="udp://127.0.0.1:0", quality="exact")
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for drone, first_s in ((before, 0.0), (after, 30.0)):
            placed = []
            for number in range(20):
                time_s = first_s + number / 10
                what = [drone.position(time_s), drone.gimbal(time_s)]
                if number % 10 == 0:
                    what.insert(0, drone.system_time(time_s))
                for data in what:
                    link.sendto(data, ("127.0.0.1", port.port))
                pose = poses.at(frame_at(time_s))
                placed.append(pose is not None)
                if pose is not None and number > 10:
                    off = pose.model.position - model_at(time_s).position
                    assert np.linalg.norm(off[:2]) < 0.1
            assert all(placed[11:])


def test_a_flood_of_large_datagrams_does_not_stop_the_pictures(
    feed: MavlinkFeed, port: UdpLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyreid.edge.telemetry.mavlink_feed._BYTES_MAX", 4000)
    drone = Autopilot(ORIGIN, flags=EARTH)
    poses = TelemetryPoses(feed, TelemetryOptions(source="udp://127.0.0.1:0"), plane_m=MIDDLE_M)
    read: list[int] = []
    make = feed._make_parser

    def counting(*given: object, **more: object) -> object:
        parser = make(*given, **more)
        parse = parser.parse_buffer
        parser.parse_buffer = lambda data: (read.append(len(data)), parse(data))[1]
        return parser

    feed._make_parser = counting
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for data in (drone.system_time(0), drone.position(0), drone.gimbal(0), *[b"x" * 3000] * 9):
            link.sendto(data, ("127.0.0.1", port.port))
        assert poses.at(frame_at(0)) is not None
        assert "bytes of MAVLink for one frame" in poses.fault
        assert sum(read) <= 4000
        assert poses.at(frame_at(0.1)) is not None  # what was too much is gone
        assert poses.fault == ""


def test_of_two_drones_on_one_port_one_is_listened_to_and_it_is_said(
    feed: MavlinkFeed, port: UdpLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their places were mixed, and a gimbal's attitude taken for the other's."""
    ours = Autopilot(ORIGIN, flags=EARTH)
    other = Autopilot(ORIGIN, flags=EARTH, path="transit", late_s=-9.0, system=2)
    options = TelemetryOptions(source="udp://127.0.0.1:0", quality="exact")
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:

        def say(time_s: float, *drones: Autopilot) -> None:
            for drone in drones:
                for data in (drone.system_time(time_s), drone.position(time_s)):
                    link.sendto(data, ("127.0.0.1", port.port))
            for drone in drones:
                link.sendto(drone.gimbal(time_s), ("127.0.0.1", port.port))

        for number in range(10):
            say(number / 10, ours, other)
            pose = poses.at(frame_at(number / 10))
            assert pose is not None
            assert np.linalg.norm(pose.model.position - model_at(number / 10).position) < 0.1
            assert "systems 1 and 2" in poses.fault
        monkeypatch.setattr("skyreid.edge.telemetry.mavlink_feed._SILENT_NS", 0)
        for number in range(10, 24):  # the first has landed
            say(number / 10, other)
            pose = poses.at(frame_at(number / 10))
        assert pose is not None
        assert poses.fault == ""
        there = model_at(2.3 + 9.0, "transit").position
        assert np.linalg.norm((pose.model.position - there)[:2]) < 0.1


def test_a_gimbal_that_counts_from_its_own_start_is_that_drone_s(
    feed: MavlinkFeed, port: UdpLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for one that had just been switched on, for ever."""
    drone = Autopilot(ORIGIN, flags=EARTH, gimbal_boot_ms=7_000)
    options = TelemetryOptions(source="udp://127.0.0.1:0", quality="exact")
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    rng, came = np.random.default_rng(8), list[tuple[int, bytes]]()
    monkeypatch.setattr(port, "read", lambda: [came.pop(0) for _ in range(len(came))])
    off = []
    for number in range(60):
        time_s = number / 10
        for data in (drone.system_time(time_s), drone.position(time_s), drone.gimbal(time_s)):
            late_s = 0.3 + rng.uniform(0, 0.1)
            came.append((START_NS + round((time_s + late_s) * 1e9), data))
        pose = poses.at(frame_at(time_s))
        if number > 30:
            assert pose is not None, poses.fault
            ahead = model_at(time_s + 0.1).position - model_at(time_s - 0.1).position
            away = pose.model.position - model_at(time_s).position
            off.append(200 * float(away[:2] @ ahead[:2] / (ahead[:2] @ ahead[:2])))
    assert np.abs(off).max() < 20  # milliseconds of the flight


def test_a_ground_station_s_time_on_the_same_port_is_not_the_drone_s(
    feed: MavlinkFeed, port: UdpLink
) -> None:
    drone = Autopilot(ORIGIN, flags=EARTH)
    station = Autopilot(ORIGIN, flags=EARTH, boot_ns=BOOT_NS - 10**12, system=255)
    options = TelemetryOptions(source="udp://127.0.0.1:0", quality="exact")
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(station.system_time(0), ("127.0.0.1", port.port))
        for number in range(10):
            time_s = number / 10
            for data in (station.system_time(time_s), drone.position(time_s)):
                link.sendto(data, ("127.0.0.1", port.port))
            for data in (drone.system_time(time_s), drone.gimbal(time_s)):
                link.sendto(data, ("127.0.0.1", port.port))
            pose = poses.at(frame_at(time_s))
            assert poses.fault == ""
            assert pose is not None
            assert np.linalg.norm((pose.model.position - model_at(time_s).position)[:2]) < 0.1


def test_what_does_not_come_is_said_by_its_name(feed: MavlinkFeed, port: UdpLink) -> None:
    """Nobody had a place, and nobody was told what was missing."""
    drone = Autopilot(ORIGIN, flags=VEHICLE)
    options = TelemetryOptions(source="udp://127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:

        def missed(*says: str) -> str:
            poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
            for number in range(7):
                assert poses.fault == ""
                for name in says:
                    data = getattr(drone, name)(number)
                    link.sendto(data, ("127.0.0.1", port.port))
                placed = poses.at(frame_at(number)) is not None
            assert placed == (poses.fault == "")
            assert (poses.condition.fault or "") == poses.fault
            return poses.fault

        assert missed().endswith("no GLOBAL_POSITION_INT comes, nor anything else")
        assert missed("gimbal").endswith("no GLOBAL_POSITION_INT comes")
        assert missed("position", "attitude", "system_time", "gimbal") == ""


def test_a_gimbal_or_a_heading_that_does_not_come_is_said(feed: MavlinkFeed, port: UdpLink) -> None:
    drone = Autopilot(ORIGIN, flags=VEHICLE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(drone.position(0), ("127.0.0.1", port.port))
        feed.take(frame_at(0))
        assert "no GIMBAL_DEVICE_ATTITUDE_STATUS" in feed.lacks
        link.sendto(drone.gimbal(0), ("127.0.0.1", port.port))
        feed.take(frame_at(0))
        assert "no ATTITUDE comes" in feed.lacks


def test_a_zoom_is_looked_up_in_the_lens_table_unless_the_camera_says_its_angle(
    tmp_path: Path,
) -> None:
    (tmp_path / "lens.csv").write_text("zoom,fov_deg\n0,60\n100,6\n")
    options = TelemetryOptions(source="udp://127.0.0.1:0")
    port = UdpLink("127.0.0.1", 0)
    feed = MavlinkFeed(port, ORIGIN, options, Lens(tmp_path / "lens.csv"))
    drone, mav = Autopilot(ORIGIN, flags=EARTH), mavutil.MAVLink(None, srcSystem=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:

        def field_of_view(*messages: object) -> float | None:
            said = [message.pack(mav) for message in messages]  # type: ignore[attr-defined]
            for data in (*said, drone.system_time(0), drone.position(0), drone.gimbal(0)):
                link.sendto(data, ("127.0.0.1", port.port))
            for _, model in feed.take(frame_at(0)):
                return float(2 * np.degrees(np.arctan(model.width_px / 2 / model.matrix[0, 0])))
            return None

        assert field_of_view() is None
        assert "telemetry.lens" in feed.fault
        assert field_of_view(mav.camera_settings_encode(0, 0, 0.0)) == pytest.approx(60)
        nothing = mav.camera_settings_encode(0, 0, float("nan"))
        assert field_of_view(nothing) == pytest.approx(60)
        assert field_of_view(mav.camera_settings_encode(0, 0, 100.0)) == pytest.approx(6)
        angle = mav.camera_fov_status_encode(0, 0, 0, 0, 0, 0, 0, [1, 0, 0, 0], 42, 24)
        assert field_of_view(angle) == pytest.approx(42)
        assert field_of_view(mav.camera_settings_encode(0, 0, 0.0)) == pytest.approx(42)
    feed.close()
