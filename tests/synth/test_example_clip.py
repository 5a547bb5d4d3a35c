"""The clip in `examples/clip`: what the README promises about it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import av
import pytest

from skyreid.contract.camera import read_poses
from skyreid.contract.recording import read_mot
from skyreid.synth.__main__ import main
from skyreid.synth.options import ClipOptions
from skyreid.synth.stage import build_stage, camera_model

FRAMES, FPS = 160, 8
MAX_BYTES = 12_000_000


@pytest.fixture(scope="module")
def clip() -> Path:
    return Path(__file__).resolve().parents[2] / "examples" / "clip"


def cameras(clip: Path) -> list[str]:
    return sorted(path.stem for path in clip.glob("cam*.mp4"))


def test_the_clip_is_small_enough_to_live_in_the_repository(clip: Path):
    assert sum(path.stat().st_size for path in clip.rglob("*") if path.is_file()) < MAX_BYTES


def test_a_drone_and_two_street_cameras_run_for_twenty_seconds(clip: Path):
    views = [read_poses(clip / "calib.json", name).view.word for name in cameras(clip)]
    assert sorted(views) == ["aerial", "ground", "ground"]
    for name in cameras(clip):
        with av.open(str(clip / f"{name}.mp4")) as file:
            stream = file.streams.video[0]
            assert (stream.width, stream.height) == (1280, 720)
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert stream.average_rate == FPS
            assert stream.frames == FRAMES


def test_the_drone_flies_where_people_have_a_usable_size(clip: Path):
    (name,) = [n for n in cameras(clip) if read_poses(clip / "calib.json", n).view.word == "aerial"]
    heights = [model.position[2] for model in read_poses(clip / "calib.json", name).models]
    assert 12 <= min(heights) <= max(heights) <= 18
    rows = read_mot(clip / "gt" / f"{name}.txt", truth=True)
    tall = rows.box_xyxy[:, 3] - rows.box_xyxy[:, 1]
    assert sorted(tall)[len(tall) // 2] > 50


def test_people_come_and_go_and_are_seen_from_both_views(clip: Path):
    seen: dict[str, set[int]] = {"aerial": set(), "ground": set()}
    comings = 0
    for name in cameras(clip):
        rows = read_mot(clip / "gt" / f"{name}.txt", truth=True)
        clear = (rows.visibility >= 0.5) & (rows.box_xyxy[:, 3] - rows.box_xyxy[:, 1] >= 24)
        seen[read_poses(clip / "calib.json", name).view.word] |= set(rows.identity[clear].tolist())
        for person in set(rows.identity.tolist()):
            frames = rows.frame[rows.identity == person]
            comings += int(frames.min() > FPS) + int(frames.max() < FRAMES - FPS)
    people = {person["pid"] for person in json.loads((clip / "ids.json").read_text())}
    assert seen["aerial"] | seen["ground"] <= people
    assert len(seen["aerial"] & seen["ground"]) == 11
    assert comings >= 12


def test_the_readme_gives_the_command_that_made_it(clip: Path, capsys: pytest.CaptureFixture[str]):
    text = (clip / "README.md").read_text()
    match = re.search(r"skyreid-train synth (clip (?:.|\n)*?)\n```", text)
    assert match is not None
    arguments = shlex.split(match[1].replace("\\\n", " "))
    # The folder is there, so the command understands every option and then refuses to overwrite.
    assert main(["clip", str(clip), *arguments[2:]]) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_command_still_draws_the_same_walks_and_poses(clip: Path):
    """A change of the generator that moves people must come with a new clip."""
    options = ClipOptions(
        out=clip,
        seed=220,
        seconds=20,
        fps=FPS,
        people=12,
        family=1,
        cameras=(1, 6, 12),
        camera_jitter=0.7,
        width_px=64,  # of no influence on who is where
    )
    stage = build_stage(options)
    walks = stage.walks
    rows = (clip / "world.csv").read_text().splitlines()[1:]
    assert len(rows) == int(walks.present.sum())
    for row in rows[::37]:
        frame, person, east, north, _ = (float(value) for value in row.split(","))
        at = int(frame) - 1, int(person) - 1
        assert (walks.east[at], walks.north[at]) == pytest.approx((east, north), abs=0.05)
    poses = read_poses(clip / "calib.json", "cam1")
    for frame in (0, 80, 159):
        mine = camera_model(stage.stations, 1, options, frame)
        assert mine.position == pytest.approx(poses.models[frame].position, abs=1e-6)
        assert mine.rotation == pytest.approx(poses.models[frame].rotation, abs=1e-9)
