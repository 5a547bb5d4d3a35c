from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections
from skyreid.contract.camera import CameraModel, CameraPoses, Pose
from skyreid.contract.errors import InputError
from skyreid.contract.recording import (
    Recorder,
    RunInfo,
    read_mot,
    read_said_poses,
    read_sightings,
)
from skyreid.contract.sighting import Box, Clock, Kind, Modality, ModelRef, Sighting, View
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.edge.people.collector import Statement
from skyreid.edge.people.ground import KnownPoses
from skyreid.edge.people.quality import Judged
from skyreid.edge.people.tracker import Track
from skyreid.edge.recorded import record_said
from skyreid.edge.sighter import Identity, Sighter
from skyreid.edge.video.frame import Frame

MODEL = ModelRef("0123456789abcdef", 4, "b" * 64, "test")
WHO = Identity("square", "dev1", "1-aa", "cam1", View.GROUND, MODEL, Modality.GREY)
PICTURE = np.zeros((8, 4, 3), np.uint8)


class OneBox:
    def detect(self, frame: Frame) -> Detections:
        return Detections(np.array([[1, 2, 5, 10]], np.float32), np.array([0.9], np.float32))


class OneTrack:
    """Confirmed from the second frame on."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def update(
        self, detections: Detections, time_s: float, motion: NDArray[np.float64] | None = None
    ) -> list[Track]:
        self.times.append(time_s)
        return [Track(1, detections.boxes[0], 0.9, 1, 0.0, len(self.times) > 1, True)]

    def begin_anew(self, number: int) -> int:
        raise AssertionError(number)

    def go_on_as(self, number: int, as_number: int) -> None:
        raise AssertionError(number)


class SayEach:
    """One statement for each confirmed track; the same picture every time."""

    def __init__(self, picture: NDArray[np.uint8] = PICTURE) -> None:
        self.watermark_ns = 0
        self.picture = picture
        self.revision = 0
        self.judged: dict[int, Judged] = {}
        self.changed: list[int] = []
        self.regained: list[tuple[int, int]] = []

    def update(
        self, frame: Frame, tracks: Sequence[Track], pose: Pose | None = None
    ) -> list[Statement]:
        self.watermark_ns = frame.captured_at_ns
        return [self.state(t.number, Kind.UPDATE) for t in tracks if t.confirmed]

    def go_on(self, number: int, as_number: int) -> None:
        raise AssertionError(number)

    def finish(self) -> list[Statement]:
        return [self.state(1, Kind.END)]

    def state(self, track: int, kind: Kind) -> Statement:
        self.revision += 1
        sighting = Sighting(
            seq=0,
            camera=WHO.camera,
            view=WHO.view,
            track=track,
            revision=self.revision,
            kind=kind,
            first_seen_ns=1,
            captured_at_ns=max(self.watermark_ns, 1),
            clock=Clock.FILE,
            clock_error_ms=0,
            box=Box(1, 2, 5, 10, 16, 16),
            quality=0.5,
            crops=1,
            embedding=np.full(4, 0.5, np.float32),
            spread=1.0,
            ground=None,
            modality=WHO.modality,
        )
        return Statement(sighting, self.picture)


def frame(number: int, side: int = 16) -> Frame:
    picture = np.zeros((side, side, 3), np.uint8)
    return Frame.of_rgb(picture, number=number, captured_at_ns=1000 + number * 100)


def test_sightings_are_numbered_in_order_and_carry_who_says_it() -> None:
    sighter = Sighter(WHO, OneBox(), lambda: (OneTrack(), SayEach()))
    said = [sighter.look(frame(n)) for n in (1, 2, 3)] + [sighter.finish()]
    rows = [row for s in said for row in s.rows]
    assert [row.seq for row in rows] == [1, 2, 3]
    sightings = [decode_sighting(row.data, 4) for row in rows]
    assert {(s.camera, s.view) for s in sightings} == {("cam1", View.GROUND)}
    assert [s.kind for s in sightings] == [Kind.UPDATE, Kind.UPDATE, Kind.END]
    assert [s.people for s in said] == [0, 1, 1, 0]


def test_a_row_says_only_what_was_true_when_it_was_made() -> None:
    sighter = Sighter(WHO, OneBox(), lambda: (OneTrack(), SayEach()))
    said = [sighter.look(frame(n)) for n in (1, 2, 3)]
    assert [s.watermark_ns for s in said] == [1100, 1200, 1300]
    assert [row.watermark_ns for s in said for row in s.rows] == [1100, 1200]


def test_a_picture_goes_out_once_as_long_as_it_is_the_same() -> None:
    collector = SayEach()
    sighter = Sighter(
        WHO, OneBox(), lambda: (OneTrack(), collector), encode_picture=lambda p: b"jpeg"
    )
    said = [sighter.look(frame(n)) for n in (1, 2, 3)]
    collector.picture = PICTURE.copy()
    said += [sighter.look(frame(4)), sighter.finish()]
    assert [[p.seq for p in s.pictures] for s in said] == [[], [1], [], [3], []]
    assert sighter._shown == {}  # of who is gone nothing is kept


def test_without_an_encoder_no_picture_leaves_the_device() -> None:
    sighter = Sighter(WHO, OneBox(), lambda: (OneTrack(), SayEach()))
    assert [sighter.look(frame(n)).pictures for n in (1, 2)] == [(), ()]


def test_another_frame_size_ends_all_tracks_and_never_reuses_a_number() -> None:
    sighter = Sighter(WHO, OneBox(), lambda: (OneTrack(), SayEach()))
    said = [sighter.look(frame(1)), sighter.look(frame(2))]
    said += [sighter.look(frame(3, side=32)), sighter.look(frame(4, side=32))]
    sightings = [decode_sighting(row.data, 4) for s in said for row in s.rows]
    assert [(s.track, s.kind) for s in sightings] == [
        (1, Kind.UPDATE),
        (1, Kind.END),
        (2, Kind.UPDATE),
    ]


def test_frames_that_do_not_fit_the_poses_are_refused() -> None:
    sighter = Sighter(WHO, OneBox(), lambda: (OneTrack(), SayEach()), frame_size=(1280, 720))
    with pytest.raises(InputError, match=r"cam1: frames are 16x16, its poses .* are for 1280x720"):
        sighter.look(frame(1))


def test_what_was_seen_is_recorded_and_what_is_said_once_it_is_stored(tmp_path: Path) -> None:
    info = RunInfo(
        site="square",
        device="dev1",
        boot="1-aa",
        camera="cam1",
        view="ground",
        source="test",
        start_ns=1,
        model_key=MODEL.key,
    )
    with Recorder(tmp_path / "run", info) as recorder:
        sighter = Sighter(WHO, OneBox(), lambda: (OneTrack(), SayEach()), recorder=recorder)
        rows = [row for n in (1, 2, 3) for row in sighter.look(frame(n)).rows]
        assert not list(read_sightings(tmp_path / "run"))
        record_said(recorder, WHO, rows)
        recorded = list(read_sightings(tmp_path / "run"))
        assert {b.sightings[0].modality for b in recorded} == {Modality.GREY}
        assert [b.sightings[0].seq for b in recorded] == [row.seq for row in rows] == [1, 2]
    assert read_mot(tmp_path / "run/detections/cam1.txt").frame.tolist() == [1, 2, 3]
    tracks = read_mot(tmp_path / "run/tracks/cam1.txt")
    assert (tracks.frame.tolist(), tracks.identity.tolist()) == ([2, 3], [1, 1])


class Says:
    """A camera that says where it is."""

    fault, condition = "", None
    cov: NDArray[np.float64] | None = np.eye(6)

    def at(self, frame: Frame) -> Pose:
        return Pose(CameraModel(np.eye(3), np.eye(3), np.zeros(3), 16, 16), self.cov)


def test_where_a_camera_said_it_was_is_recorded_and_a_surveyed_pose_is_not(tmp_path: Path) -> None:
    info = RunInfo(
        site="square", device="dev1", boot="1-aa", camera="cam1", view="aerial", source="test",
        start_ns=1, model_key=MODEL.key,
    )  # fmt: skip
    surveyed = Says()
    surveyed.cov = None
    for name, poses in (("said", Says()), ("surveyed", surveyed)):
        with Recorder(tmp_path / name, info) as recorder:
            sighter = Sighter(
                WHO, OneBox(), lambda: (OneTrack(), SayEach()), recorder=recorder, poses=poses
            )
            frames = [frame(n) for n in (1, 2)]
            for each in frames:
                sighter.look(each)
    times, _ = read_said_poses(tmp_path / "said", "cam1")
    assert times == [each.captured_at_ns for each in frames]
    assert not (tmp_path / "surveyed" / "poses").exists()


def test_a_live_camera_that_changes_its_size_does_not_end_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = CameraModel(np.eye(3), np.eye(3), np.zeros(3), 32, 32)
    sighter = Sighter(
        WHO,
        OneBox(),
        lambda: (OneTrack(), SayEach()),
        poses=KnownPoses(CameraPoses(View.GROUND, 8.0, (1,), (model,)), None),
        frame_size=(32, 32),
        live=True,
    )
    assert sighter.look(frame(1, side=16)).placed  # the same picture in fewer pixels
    wide = Frame.of_rgb(np.zeros((16, 32, 3), np.uint8), number=2, captured_at_ns=2000)
    assert not sighter.look(wide).placed
    assert "frames are 32x16" in caplog.text
    assert "have no place on the ground" in caplog.text
    assert sighter.look(frame(30, side=32)).placed
