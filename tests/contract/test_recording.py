"""Recorded runs: what is written is read back, also after a kill."""

from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError
from skyreid.contract.recording import (
    Recorder,
    RunInfo,
    read_mot,
    read_run,
    read_said_poses,
    read_sightings,
)
from skyreid.contract.sighting import Lane, ModelRef, SightingBatch
from skyreid.contract.sighting_wire import encode_batch

INFO = RunInfo(
    site="plaza", device="uav-1", boot="1-a", camera="cam1", view="aerial", source="file:///x.mp4",
    start_ns=5, model_key="0123456789abcdef",
)  # fmt: skip


def heartbeat(watermark_ns: int) -> bytes:
    model = ModelRef("0123456789abcdef", 4, "", "m")
    return encode_batch(
        SightingBatch("plaza", "uav-1", "1-a", Lane.LIVE, 1, model, (), watermark_ns)
    )


def test_a_recording_reads_back(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", INFO) as recorder:
        recorder.detections(1, np.array([[1.0, 2.0, 11.0, 32.0]]), np.array([0.5]))
        recorder.tracks(1, [(7, (1.0, 2.0, 11.5, 32.0), 0.5)])
        recorder.sighting(heartbeat(11))
        recorder.sighting(heartbeat(12))
        recorder.close(frames=1, sightings=2, dropped={"late": 3})
    info = read_run(tmp_path / "run")
    assert (info.ended, info.frames, info.dropped) == (True, 1, {"late": 3})
    detections = read_mot(tmp_path / "run/detections/cam1.txt")
    np.testing.assert_allclose(detections.box_xyxy, [[1, 2, 11, 32]])
    tracks = read_mot(tmp_path / "run/tracks/cam1.txt")
    assert (tracks.identity[0], tracks.box_xyxy[0, 2]) == (7, 11.5)
    assert [b.watermark_ns for b in read_sightings(tmp_path / "run")] == [11, 12]


def test_a_record_cut_short_by_a_kill_ends_the_iteration(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", INFO) as recorder:
        recorder.sighting(heartbeat(11))
        recorder.sighting(heartbeat(12))
    path = tmp_path / "run" / "traffic.bin"
    path.write_bytes(path.read_bytes()[:-3])
    assert [b.watermark_ns for b in read_sightings(tmp_path / "run")] == [11]
    assert not read_run(tmp_path / "run").ended


def test_a_second_recording_does_not_overwrite_the_first(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run", INFO):
        pass
    with pytest.raises(InputError, match="give a new directory"):
        Recorder(tmp_path / "run", INFO)


def test_truth_rows_carry_their_visibility(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("2,5,1,2,3,4,1,1,0.25\n1,5,1,2,3,4,1,1,1.00\n")
    rows = read_mot(tmp_path / "gt.txt", truth=True)
    assert rows.frame.tolist() == [1, 2]
    assert rows.visibility.tolist() == [1.0, 0.25]


@pytest.mark.parametrize(
    ("text", "complaint"), [("1,2,x,4", "line 1: .* is not numbers"), ("1,2,3", "3 columns")]
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "gt.txt").write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_mot(tmp_path / "gt.txt")


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        read_run(tmp_path)


def test_where_a_camera_said_it_was_reads_back_but_for_the_row_that_a_kill_cut(
    tmp_path: Path,
) -> None:
    turned = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
    model = CameraModel(np.diag([615.25, 615.25, 1]), turned, np.array([1.5, -2, 22]), 640, 360)
    with Recorder(tmp_path / "run", INFO) as recorder:
        for at_ns in (5, 7, 6, 9):  # a clock that was put right between them
            recorder.pose(1_800_000_000_000_000_000 + at_ns, model)
    path = tmp_path / "run" / "poses" / "cam1.txt"
    path.write_text(path.read_text()[:-9])
    times, models = read_said_poses(tmp_path / "run", "cam1")
    assert [at_ns % 10 for at_ns in times] == [5, 7]
    np.testing.assert_allclose(models[0].matrix, model.matrix)
    np.testing.assert_allclose(models[1].position, model.position)
    assert (models[0].width_px, models[0].height_px) == (640, 360)
    path.write_text(path.read_text().replace("615.25", "nan"))
    with pytest.raises(InputError, match=r"cam1.txt, line 1: no camera"):
        read_said_poses(tmp_path / "run", "cam1")
    with pytest.raises(InputError, match="a device with telemetry"):
        read_said_poses(tmp_path / "run", "cam2")
