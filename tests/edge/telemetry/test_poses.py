"""What the device makes of a transport stream: where the camera is, and who stands where."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flights import FPS, SIZE, away, flight, model_at, untimed, write_stream

from skyreid.bundle.detections import Detections
from skyreid.contract.camera import CameraModel, CameraPoses, Pose
from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.klv import KlvPacket, encode
from skyreid.contract.sighting import Clock, Modality, ModelRef, View
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.contract.site import Site, SiteCamera
from skyreid.edge.delivery.rows import Row
from skyreid.edge.people.collector import Collector
from skyreid.edge.people.ground import MIDDLE_M, locate
from skyreid.edge.people.options import CollectorOptions
from skyreid.edge.people.quality import QualityOptions
from skyreid.edge.people.tracker import Tracker
from skyreid.edge.sighter import Identity, Sighter
from skyreid.edge.telemetry import feeds
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.options import QUALITIES, Quality, TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.clock import FileClock
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.klv_pad import KlvPad
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource
from skyreid.synth.rig import model_of, station
from skyreid.synth.telemetry import LEVELS, ORIGIN, draw_packets

SECONDS = 4.0
START_NS = 1_800_000_000_000_000_000
"""Of the file, by its settings: another clock than the drone's."""


def source_of(path: Path) -> GstSource:
    source = parse_source(str(path))
    return GstSource(build(source, probe()), source, FileClock(START_NS))


def poses_of(path: Path, **options: object) -> list[Pose | None]:
    chosen = TelemetryOptions.model_validate({"source": "klv", **options})
    poses = TelemetryPoses(KlvFeed(ORIGIN), chosen, plane_m=MIDDLE_M)
    said = []
    for frame in source_of(path).frames(threading.Event()):
        said.append(poses.at(frame))
        frame.release()
    return said


def frame_with(
    *said: tuple[int, bytes], media_ns: int = 0, size: tuple[int, int] = (64, 36)
) -> Frame:
    came = tuple((START_NS + at_ns, data) for at_ns, data in said)
    at_ns = START_NS + media_ns
    return Frame(1, at_ns, Clock.FILE, 0, *size, telemetry=came, media_ns=media_ns)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """A flight of four seconds with errors of a level, drawn by a seed."""
    folder = tmp_path_factory.mktemp("flight")
    poses = flight(SECONDS)
    return lambda level, seed: write_stream(folder, poses, level, seed)


def test_each_frame_of_a_stream_has_the_pose_that_its_klv_says(
    stream: Callable[[str, int], Path],
) -> None:
    said = poses_of(stream("exact", 1), quality="exact")
    assert len(said) == SECONDS * FPS
    for index, pose in enumerate(said):
        assert pose is not None
        truth = model_at(index / FPS)
        off = truth.displacement(pose.model)
        assert np.abs(off[:2]).max() < 0.02
        assert abs(off[2]) < 0.16  # a step of KLV's height is .30 m
        assert np.abs(off[3:]).max() < 2e-4
        assert (pose.model.width_px, pose.model.height_px) == SIZE


def test_a_file_gives_the_same_poses_at_every_run(stream: Callable[[str, int], Path]) -> None:
    path = stream("gnss", 3)
    first, second = poses_of(path), poses_of(path)
    for one, other in zip(first, second, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.model.rotation, other.model.rotation)
            np.testing.assert_array_equal(one.model.translation, other.model.translation)


def turning(seconds: float) -> CameraPoses:
    """A drone that hovers, and turns to and fro by 40 degrees a second at most."""
    models = []
    for index in range(round(seconds * FPS)):
        yaw_deg = 20 * np.sin(2 * index / FPS)
        models.append(model_of(replace(station(2), yaw_deg=70 + yaw_deg), *SIZE))
    return CameraPoses(View.AERIAL, FPS, tuple(range(1, len(models) + 1)), tuple(models))


def motions_of(truth: CameraPoses, quality: Quality) -> list[np.ndarray | None]:
    options = TelemetryOptions(source="klv", quality=quality)
    poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
    _, packets = draw_packets(truth, quality, [5])
    said = []
    for index in range(len(truth.frames)):
        at_ns = index * 10**9 // FPS
        came = [(at_ns, packets[index])] if index in packets else []
        pose = poses.at(frame_with(*came, media_ns=at_ns, size=SIZE))
        said.append(None if pose is None else pose.motion)
    return said


def test_people_are_followed_while_the_drone_turns_because_the_tracker_is_told() -> None:
    """People stand in a row, the picture runs: without its motion each takes another's place."""
    truth = turning(5.0)
    places = [(1.2 * k - 3, 0.5 * k) for k in range(6)]
    changes = {}
    for told in (True, False):
        tracker, names = Tracker(), [dict[int, int]() for _ in places]
        motions = motions_of(truth, "exact")
        for index, model in enumerate(truth.models):
            ends = [np.array([[*p, 0.0], [*p, 2 * MIDDLE_M]]) for p in places]
            pixels = [model.project(each)[0] for each in ends]
            boxes = np.array(
                [[min(f[0], h[0]) - 5, h[1], max(f[0], h[0]) + 5, f[1]] for f, h in pixels]
            )
            found = Detections(boxes.astype(np.float32), np.full(len(boxes), 0.9, np.float32))
            tracks = tracker.update(found, index / FPS, motions[index] if told else None)
            for who, box in enumerate(boxes):
                for track in tracks:
                    if track.detected and np.abs(track.box_xyxy - box).max() < 8:
                        names[who][track.number] = index
        changes[told] = sum(len(each) - 1 for each in names)
    assert changes[True] < changes[False] / 2
    assert changes[False] > 6, "it was easy without: the test shows nothing"


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_tracker_is_not_told_of_a_motion_that_is_mostly_the_telemetry_s_noise(
    quality: Quality,
) -> None:
    assert [m for m in motions_of(flight(4.0, "hover"), quality) if m is not None] == []


def test_telemetry_behind_a_gap_of_the_link_belongs_to_the_frames_behind_it(
    stream: Callable[[str, int], Path], tmp_path: Path
) -> None:
    """GStreamer folds the gap; both sides of the stream are to be given it back."""
    whole, cut = stream("exact", 1), tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes())
    away(cut, 2.0, 30)
    frames, said = [], []
    for path in (whole, cut):
        got = list(source_of(path).frames(threading.Event()))
        frames.append([(f.captured_at_ns - START_NS) / 1e9 for f in got])
        said.append([(at - f.captured_at_ns) / 1e9 for f in got for at, _ in f.telemetry])
        for frame in got:
            frame.release()
    assert frames[1][-1] == pytest.approx(frames[0][-1] + 30, abs=0.01)
    ages = [age for age in said[1] if age > -1]
    assert len(ages) >= len(said[0]) - 3
    assert max(said[1]) <= 0
    assert len([age for age in said[1] if age <= -1]) <= 3  # those that came before the gap


def test_asynchronous_klv_which_has_no_time_in_the_stream_is_read(
    stream: Callable[[str, int], Path], tmp_path: Path
) -> None:
    """All of it was passed over, without a word."""
    path = tmp_path / "untimed.ts"
    path.write_bytes(stream("exact", 1).read_bytes())
    untimed(path)
    said = poses_of(path, quality="exact")
    assert len(said) == SECONDS * FPS
    for index, pose in enumerate(said):
        if index < 3:  # of the first picture nobody knows where the first packet belongs
            continue
        assert pose is not None
        # To a frame: that is all that a place in the stream says. What is left is lag.
        off = min(
            float(np.linalg.norm((model_at(time_s).position - pose.model.position)[:2]))
            for time_s in np.arange(index - 1.5, index + 1.6, 0.25) / FPS
        )
        assert off < 0.1


def test_one_packet_of_the_far_future_does_not_hold_up_those_behind_it() -> None:
    waiting = KlvPad(None, live=True)
    for at_ns in (5, 3_600_000_000_000, 6, 7):
        waiting._waiting.append((at_ns, b"x" * at_ns.bit_length()))
    assert [at for at, _ in waiting.take(6)] == [5, 6]
    assert [at for at, _ in waiting.take(8)] == [7]


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_ellipse_holds_the_truth_as_often_as_it_says(quality: Quality) -> None:
    """A short version of ``bench/ground.py``, with boxes as far off as is assumed of them."""
    rng = np.random.default_rng(11)
    truth, options = flight(1.0), TelemetryOptions(source="klv", quality=quality, terrain_sigma_m=0)
    inside = []
    for seed in range(80):
        poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
        _, packets = draw_packets(truth, quality, [1000 + seed])
        said = [(index * 10**9 // FPS, packet) for index, packet in packets.items()]
        last_ns = (len(truth.frames) - 1) * 10**9 // FPS
        pose = poses.at(frame_with(*said, media_ns=last_ns, size=SIZE))
        assert pose is not None
        for place in rng.uniform(-6, 6, (4, 2)):
            box = box_of(truth.models[-1], place, rng)
            found = locate(pose, box, View.AERIAL)
            assert found is not None
            away = np.array([found.east_m, found.north_m]) - place - rng.normal(0, 0.07, 2)
            cov = [[found.cov_ee_m2, found.cov_en_m2], [found.cov_en_m2, found.cov_nn_m2]]
            inside.append(away @ np.linalg.solve(cov, away) <= 4.605)
    assert 0.8 <= np.mean(inside) <= 0.98  # 80 draws: .9, give or take three standard errors


def box_of(
    model: CameraModel, place: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Of somebody who stands there, as far off as is assumed of a box."""
    ends = np.array([[*place, 0.0], [*place, 2 * MIDDLE_M]])
    foot, head = model.project(ends)[0]
    half = float(np.linalg.norm(foot - head)) / 2
    x, y = (foot + head) / 2 + rng.normal(0, np.hypot(1, 0.07 * half), 2)
    return x - half / 2, y - half, x + half / 2, y + half


def test_what_is_assumed_of_telemetry_is_what_a_rendered_drone_errs() -> None:
    for name, errors in LEVELS.items():
        if name == "exact":  # what is left is KLV's own steps
            continue
        s = QUALITIES[name]  # type: ignore[index]
        assert s.position_m == pytest.approx(
            np.hypot(errors.position_bias_m, errors.position_noise_m), rel=0.15
        )
        height = np.linalg.norm([errors.height_bias_m, errors.position_noise_m, 0.088])
        assert s.height_m == pytest.approx(float(height), rel=0.05)
        attitude = np.hypot(errors.attitude_bias_deg, errors.attitude_noise_deg)
        assert s.attitude_deg == pytest.approx(attitude, rel=0.05)
        low, high = errors.lag_ms
        assert s.lag_ms == (low + high) / 2
        assert s.lag_sigma_ms == pytest.approx((high - low) / 12**0.5, rel=0.05)


class OneStands:
    """A detector of somebody who stands at a place."""

    def __init__(self, place: tuple[float, float]) -> None:
        self.place = place

    def detect(self, frame: Frame) -> Detections:
        model = model_at((frame.captured_at_ns - START_NS) / 1e9)
        ends = np.array([[*self.place, 0.0], [*self.place, 2 * MIDDLE_M]])
        (x0, y0), (x1, y1) = model.project(ends)[0]
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        box = np.array([[x - 10, y - 20, x + 10, y + 20]], np.float32)
        return Detections(box, np.array([0.9], np.float32))


def test_every_sighting_of_a_drone_with_telemetry_says_where(
    stream: Callable[[str, int], Path],
) -> None:
    who = Identity(
        "s", "d", "1-aa", "cam2", View.AERIAL, ModelRef("k" * 16, 4, "b" * 64, "t"), Modality.COLOUR
    )
    options = TelemetryOptions(source="klv", quality="exact")

    def embed(crops: np.ndarray) -> np.ndarray:
        return np.full((len(crops), 4), 0.5, np.float32)

    def follow() -> tuple[Tracker, Collector]:
        few = CollectorOptions(crops_min=1, quality_min=0, crop_every_s=0, update_every_s=0.5)
        collector = Collector(
            embed,
            InputSpec(height=8, width=4),
            camera="cam2",
            view=View.AERIAL,
            options=few,
            quality_options=QualityOptions(height_min_px=8, sharpness_good=1e-6),
        )
        return Tracker(), collector

    poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
    sighter = Sighter(who, OneStands((1.5, -2.0)), follow, poses=poses)
    said: list[Row] = []
    for frame in source_of(stream("exact", 1)).frames(threading.Event()):
        looked = sighter.look(frame)
        assert looked.placed
        said += looked.rows
        frame.release()
    said += sighter.finish().rows
    assert len(said) > 3
    for row in said:
        ground = decode_sighting(row.data, 4).ground
        assert ground is not None
        assert np.hypot(ground.east_m - 1.5, ground.north_m + 2) < 0.25
        assert 0.01 < ground.cov_ee_m2 < 0.25


WHOLE = KlvPacket(
    time_ns=0,
    platform_heading_deg=0,
    sensor_latitude_deg=46.5,
    sensor_longitude_deg=8.0,
    sensor_msl_m=470,
    horizontal_fov_deg=60,
    sensor_azimuth_deg=0,
    sensor_elevation_deg=-60,
)


def test_a_drone_that_says_only_its_height_above_the_sea_has_a_place() -> None:
    poses = TelemetryPoses(KlvFeed(ORIGIN), TelemetryOptions(source="klv"), plane_m=MIDDLE_M)
    pose = poses.at(frame_with((0, encode(WHOLE))))
    assert pose is not None
    assert geoid_height(46.5, 8.0) == pytest.approx(50.8, abs=0.3)
    assert pose.model.position[2] == pytest.approx(470 + geoid_height(46.5, 8.0) - 500, abs=0.16)


def test_what_cannot_be_used_is_said_once_and_nobody_is_placed_by_it() -> None:
    poses = TelemetryPoses(KlvFeed(ORIGIN), TelemetryOptions(source="klv"), plane_m=MIDDLE_M)
    good = encode(WHOLE)
    assert poses.at(frame_with((0, good[:-1] + bytes([good[-1] ^ 1])))) is None
    assert "checksum" in poses.fault
    assert poses.at(frame_with((0, encode(replace(WHOLE, sensor_msl_m=None))))) is None
    assert "sensor_ellipsoid_m" in poses.fault
    assert poses.at(frame_with((0, good))) is not None
    assert poses.fault == ""
    # Nothing more comes: after gap_max_s nobody knows where the drone is.
    assert poses.at(frame_with(media_ns=900_000_000)) is not None
    assert poses.at(frame_with(media_ns=1_900_000_000)) is None


def test_a_stream_without_klv_is_said() -> None:
    poses = TelemetryPoses(KlvFeed(ORIGIN), TelemetryOptions(source="klv"), plane_m=MIDDLE_M)
    for second in range(8):
        assert poses.at(frame_with(media_ns=second * 1_000_000_000)) is None
        assert ("no packet of MISB ST 0601 comes" in poses.fault) == (second > 5)
    assert poses.at(frame_with((8_000_000_000, encode(WHOLE)), media_ns=8_000_000_000)) is not None
    assert poses.fault == ""


def test_a_clock_of_the_drone_that_is_put_right_moves_nobody() -> None:
    poses = TelemetryPoses(KlvFeed(ORIGIN), TelemetryOptions(source="klv"), plane_m=MIDDLE_M)
    for index in range(20):
        at_ns = index * 100_000_000
        drone_ns = at_ns + (3_600_000_000_000 if index >= 10 else 0)
        place = replace(WHOLE, time_ns=drone_ns, sensor_latitude_deg=46.5 + index * 9e-6)
        pose = poses.at(frame_with((at_ns, encode(place)), media_ns=at_ns))
        assert pose is not None
        if index > 1:  # ten metres a second to the north; the lag of `gnss` is made up for
            assert pose.model.position[1] == pytest.approx(index + 1.75, abs=0.05)


def test_a_clock_of_the_camera_that_is_put_right_moves_nobody() -> None:
    """Poses of before the correction lay among those of after it, and were mixed with them."""
    poses = TelemetryPoses(KlvFeed(ORIGIN), TelemetryOptions(source="klv"), plane_m=MIDDLE_M)
    for index in range(40):
        at_ns = index * 100_000_000
        captured_ns = START_NS + at_ns - (1_500_000_000 if index >= 20 else 0)
        place = replace(WHOLE, time_ns=at_ns, sensor_latitude_deg=46.5 + index * 9e-6)
        said = ((captured_ns, encode(place)),)
        frame = Frame(
            1, captured_ns, Clock.RTCP, 0, 64, 36, telemetry=said, media_ns=7_000_000_000 + at_ns
        )
        pose = poses.at(frame)
        assert pose is not None
        if index > 2:
            assert pose.model.position[1] == pytest.approx(index + 1.75, abs=0.05)


def test_telemetry_needs_a_place_on_the_earth_and_no_other_poses() -> None:
    options = TelemetryOptions(source="klv")
    camera = SiteCamera(id="cam2", view="aerial")
    with pytest.raises(SettingsError, match=r"telemetry.source 'klv' .* needs an \[origin\]"):
        feeds.check(options, Site(id="s", camera=(camera,)), camera)
    placed = camera.model_copy(update={"poses": Path("calib.json")})
    with pytest.raises(SettingsError, match="camera 'cam2' has poses in the site file"):
        feeds.check(options, Site(id="s", origin=ORIGIN), placed)
    tied = Site(id="s", origin=ORIGIN)
    feeds.check(options, tied, camera)
    for key, path in (("source", "/no/flight.csv"), ("lens", Path("/no/lens.csv"))):
        with pytest.raises(InputError, match=str(path)):
            feeds.check(options.model_copy(update={key: path}), tied, camera)
    assert feeds.poses_from(TelemetryOptions(), ORIGIN, plane_m=MIDDLE_M) is None
    assert "telemetry klv, quality gnss, on flat ground" in feeds.described(options)
