from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from skyreid.contract.camera import read_poses
from skyreid.contract.recording import read_mot
from skyreid.contract.sighting import View
from skyreid.synth.__main__ import main

FRAMES, PEOPLE = 4, 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "clip"
    size = ["--seconds", "2", "--fps", "2", "--people", str(PEOPLE), "--width", "320"]
    assert main(["clip", str(out), "--seed", "3", "--cameras", "2,12", *size]) == 0
    return out


def test_a_clip_has_the_promised_files_and_no_others(clip: Path):
    names = sorted(str(path.relative_to(clip)) for path in clip.rglob("*") if path.is_file())
    assert names == [
        "calib.json",
        "cam12.mp4",
        "cam2.mp4",
        "clip.json",
        "gt/cam12.txt",
        "gt/cam2.txt",
        "ids.json",
        "world.csv",
    ]


@pytest.mark.parametrize("camera", [2, 12])
def test_every_camera_is_h264_of_the_asked_size_rate_and_length(clip: Path, camera: int):
    with av.open(str(clip / f"cam{camera}.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (320, 180)
        assert stream.average_rate == 2
        times = [float(frame.pts * stream.time_base) for frame in file.decode(stream)]
    assert times == [0.0, 0.5, 1.0, 1.5]


def test_truth_rows_parse_and_name_people_of_the_clip(clip: Path):
    people = {person["pid"] for person in json.loads((clip / "ids.json").read_text())}
    assert people == set(range(1, PEOPLE + 1))
    found = 0
    for camera in (2, 12):
        rows = read_mot(clip / "gt" / f"cam{camera}.txt", truth=True)
        found += len(rows.frame)
        assert set(rows.identity.tolist()) <= people
        assert set(rows.frame.tolist()) <= set(range(1, FRAMES + 1))
        assert rows.box_xyxy.min() >= 0
        assert (rows.box_xyxy[:, [0, 2]] <= 320).all()
        assert (rows.box_xyxy[:, [1, 3]] <= 180).all()
        assert ((rows.visibility >= 0) & (rows.visibility <= 1)).all()
        pairs = list(zip(rows.frame.tolist(), rows.identity.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
    assert found >= FRAMES


def test_a_drone_has_a_pose_for_every_frame_and_a_street_camera_one(clip: Path):
    drone = read_poses(clip / "calib.json", "cam2")
    assert (drone.view, drone.fps, drone.frames) == (View.AERIAL, 2.0, (1, 2, 3, 4))
    street = read_poses(clip / "calib.json", "cam12")
    assert (street.view, street.frames) == (View.GROUND, (1,))
    assert (street.models[0].width_px, street.models[0].height_px) == (320, 180)


def test_calibration_and_world_agree_with_the_boxes(clip: Path):
    """Who is at a place on the ground has the feet at the bottom of the box, in every camera."""
    world = {}
    with (clip / "world.csv").open() as file:
        for row in csv.DictReader(file):
            world[int(row["frame"]), int(row["id"])] = float(row["x"]), float(row["y"])
    checked = 0
    for camera in (2, 12):
        poses = read_poses(clip / "calib.json", f"cam{camera}")
        rows = read_mot(clip / "gt" / f"cam{camera}.txt", truth=True)
        for frame, identity, box in zip(rows.frame, rows.identity, rows.box_xyxy, strict=True):
            place = world[int(frame), int(identity)]
            model = poses.at((int(frame) - 1) / poses.fps)
            feet, depth = model.project(np.array([[*place, 0.0]]))
            x0, y0, x1, y1 = box
            if y1 >= 179 or x0 <= 1 or x1 >= 319:
                continue  # cut off by the edge
            margin = 0.15 * (y1 - y0)
            assert x0 - margin <= feet[0, 0] <= x1 + margin
            assert y1 - 0.45 * (y1 - y0) <= feet[0, 1] <= y1 + margin
            assert depth[0] > 0
            checked += 1
    assert checked >= 3


def test_an_old_data_set_is_not_mixed_with_a_new_one(
    clip: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["clip", str(clip), "--seconds", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "not empty" in error


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--cameras", "1,14"], "no such camera"),
        (["--cameras", "3,3"], "named twice"),
        (["--fps", "0"], "--fps 0"),
        (["--people", "0"], "--people 0"),
        (["--width", "1000"], "--width 1000"),
        (["--crf", "99"], "--crf 99"),
        (["--seconds", "0.1", "--fps", "1"], "less than one frame"),
    ],
)
def test_a_bad_argument_gives_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
):
    out = tmp_path / "out"
    assert main(["clip", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error
    assert not out.exists()


def test_cameras_that_are_not_numbers_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["clip", "out", "--cameras", "one,two"])
    assert stop.value.code == 2
    assert "not a list of camera numbers" in capsys.readouterr().err


def test_h265_dusk_and_a_contact_sheet(tmp_path: Path):
    out = tmp_path / "clip"
    size = ["--seconds", "1.5", "--fps", "4", "--people", "3", "--width", "320"]
    choices = ["--codec", "h265", "--hour", "dusk", "--path", "orbit", "--preview"]
    assert main(["clip", str(out), "--seed", "3", "--cameras", "2,12", *size, *choices]) == 0
    for camera in (2, 12):
        with av.open(str(out / f"cam{camera}.mp4")) as file:
            assert file.streams.video[0].codec_context.name == "hevc"
            pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert len(pictures) == 6
    poses = read_poses(out / "calib.json", "cam2")
    assert np.linalg.norm(poses.models[-1].position - poses.models[0].position) > 1.5
    sheet = cv2.imread(str(out / "preview.png"))
    assert sheet is not None
    assert sheet.shape == (2 * (216 + 4), 5 * (384 + 4), 3)


def test_dusk_is_darker_than_day_and_night_has_lamps():
    from skyreid.synth.look import STREET_LAMPS, light_of

    rng = np.random.default_rng(0)
    day = [light_of("day", rng) for _ in range(20)]
    dusk = [light_of("dusk", rng) for _ in range(20)]
    assert light_of("night", rng) == STREET_LAMPS
    assert max(sum(light.sky) for light in dusk) < min(sum(light.sky) for light in day)
    assert max(light.elevation_deg for light in dusk) < min(light.elevation_deg for light in day)
    assert all(light.sun[0] > 1.5 * light.sun[2] for light in dusk)  # warm


def test_in_an_open_world_some_are_seen_by_one_view_only(tmp_path: Path):
    out = tmp_path / "clip"
    size = ["--seconds", "10", "--fps", "1", "--people", "12", "--width", "320"]
    choices = ["--layout", "apart", "--rim", "0.5"]
    assert main(["clip", str(out), "--seed", "6", "--cameras", "3,4,8,12", *size, *choices]) == 0
    people = json.loads((out / "ids.json").read_text())
    views = [
        frozenset("aerial" if camera in ("cam3", "cam4") else "ground" for camera in p["frames"])
        for p in people
    ]
    assert views.count(frozenset({"ground"})) >= 2
    assert views.count(frozenset({"aerial"})) >= 1
    labelled = sum(sum(p["frames"].values()) for p in people)
    rows = sum(len((out / "gt" / f"cam{n}.txt").read_text().splitlines()) for n in (3, 4, 8, 12))
    assert labelled == rows


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unlike_frames(one: Path, other: Path) -> list[str]:
    """Where two clips' pictures differ, for whoever finds that they do: drawing or encoder?"""
    found = []
    for path in sorted(one.glob("*.mp4")):
        with av.open(str(path)) as first, av.open(str(other / path.name)) as second:
            pairs = zip(first.decode(video=0), second.decode(video=0), strict=False)
            for number, pair in enumerate(pairs):
                a, b = (frame.to_ndarray(format="rgb24").astype(int) for frame in pair)
                if (a != b).any():
                    most = np.abs(a - b).max()
                    found.append(f"{path.name} frame {number}: {(a != b).sum()} values, by {most}")
    return found


def test_a_clip_that_was_stopped_goes_on_and_ends_as_one_that_two_processes_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Stopped in its second part of three, whose videos were begun; six frames in all."""
    from skyreid.synth import clip as module

    size = ["--seconds", "6", "--fps", "1", "--people", "3", "--width", "192"]
    arguments = ["--seed", "3", "--cameras", "2,12", *size]
    together, broken = tmp_path / "together", tmp_path / "broken"
    assert main(["clip", str(together), *arguments, "--jobs", "2"]) == 0

    whole = module.render_part
    rendered: list[int] = []

    def until_second(stage: module.Stage, number: int) -> dict[str, list[str]]:
        rendered.append(number)
        rows = whole(stage, number)
        if number == 1:
            raise KeyboardInterrupt
        return rows

    monkeypatch.setattr(module, "render_part", until_second)
    assert main(["clip", str(broken), *arguments]) == 130
    assert not (broken / "ids.json").exists()
    assert main(["clip", str(broken), *arguments[:-1], "256"]) == 2
    assert "begun with" in capsys.readouterr().err
    monkeypatch.setattr(module, "render_part", lambda *a: (rendered.append(a[1]), whole(*a))[1])
    assert main(["clip", str(broken), *arguments]) == 0
    assert rendered == [0, 1, 1, 2]
    assert everything(broken) == everything(together), unlike_frames(broken, together)


def test_pictures_are_drawn_by_one_thread_which_is_nobody_else_s_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from skyreid.synth import stage as module

    threads: list[int] = []
    whole = module.develop

    def watched(*arguments: object) -> object:
        threads.append(cv2.getNumThreads())
        return whole(*arguments)

    monkeypatch.setattr(module, "develop", watched)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        size = ["--seconds", "1", "--fps", "1", "--people", "1", "--width", "192"]
        assert main(["clip", str(tmp_path / "out"), "--cameras", "2,12", *size]) == 0
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
    assert threads == [1, 1]


def test_clip_json_tells_the_options_and_how_high_and_steep_the_cameras_are(clip: Path):
    about = json.loads((clip / "clip.json").read_text())
    assert (about["seed"], about["place"], about["altitude"]) == (3, "plaza", "standard")
    assert about["rig"]["cam2"]["altitude_m"] == pytest.approx(22, abs=0.5)
    assert about["rig"]["cam2"]["pitch_deg"] == pytest.approx(-50, abs=1)
    assert about["rig"]["cam12"]["altitude_m"] == 3.2
