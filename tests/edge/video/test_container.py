"""Symptoms of files whose container says something that was not listened to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
from clips import FPS, Video, picture, read, write

from skyreid.contract.errors import InputError
from skyreid.edge.video import source
from skyreid.edge.video.mp4 import read_film
from skyreid.edge.video.mpegts import read_programs

pytestmark = pytest.mark.usefixtures("needs_gst")

TURNS = {
    "upright": (1, 0, 0, 1),
    "quarter to the right": (0, 1, -1, 0),
    "upside down": (-1, 0, 0, -1),
    "quarter to the left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}


def turned(original: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """A picture as the display matrix wants it shown: (x, y) goes to (ax + cy, bx + dy)."""
    a, b, c, d = matrix
    height, width = original.shape[:2]
    wide, high = (width, height) if a else (height, width)
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    shown = np.empty((high, wide, 3), np.uint8)
    shown[to_y - to_y.min(), to_x - to_x.min()] = original
    return shown


@pytest.mark.parametrize("way", TURNS)
def test_a_video_that_was_filmed_on_its_side_or_mirrored_is_turned(
    way: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "phone.mp4", Video(frames=3))
    clips.turn(path, TURNS[way])
    expected = turned(picture(0, 160, 96), TURNS[way]).astype(int)
    seen = read(path).pictures
    assert len(seen) == 3
    assert seen[0].shape == expected.shape
    assert np.abs(seen[0] - expected).mean() < 6


def test_a_video_that_lies_as_it_was_filmed_is_not_copied_to_be_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a millisecond for 1280 x 720: a videoflip that was told `auto` copied every frame."""
    found: list[Any] = []
    parse = source._parse

    def kept(gst: Any, description: str) -> Any:
        found.append(pipeline := parse(gst, description))
        return pipeline

    monkeypatch.setattr(source, "_parse", kept)
    for name, matrix in (("plain.mp4", None), ("turned.mp4", TURNS["upside down"])):
        path = write(tmp_path / name, Video(frames=3))
        if matrix is not None:
            clips.turn(path, matrix)
        assert len(read(path).pictures) == 3
    assert [p.get_by_name("turn").is_passthrough() for p in found] == [True, False]


def test_an_angle_that_is_no_quarter_is_said_and_not_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "tilted.mp4", Video(frames=2))
    clips.turn(path, (1, 1, -1, 1))
    assert read(path).sizes == [(160, 96)] * 2
    assert "is to be shown at an angle" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind", "first"),
    [("late.ts", "mpegts", 12), ("late.mp4", "mp4", 16), ("late.flv", "flv", 9)],
)
def test_a_file_starts_with_its_first_frame_whatever_its_container_begins_with(
    name: str, kind: str, first: int, tmp_path: Path
) -> None:
    path = write(tmp_path / name, Video(first=first), kind=kind)
    assert read(path).times == pytest.approx([k / FPS for k in range(16)], abs=0.002)


def test_a_file_whose_frames_are_stored_in_another_order_starts_with_its_first(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "b.mp4", Video(), bframes=2)
    assert read(path).times == pytest.approx([k / FPS for k in range(16)])


def test_time_goes_on_where_videos_of_two_sizes_lie_one_behind_the_other(tmp_path: Path) -> None:
    one = write(tmp_path / "1.ts", Video(), kind="mpegts")
    two = write(tmp_path / "2.ts", Video(80, 48), kind="mpegts")
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    seen = read(both)
    assert set(seen.sizes) == {(160, 96), (80, 48)}
    assert np.diff(seen.times).min() > 0.4 / FPS


@pytest.mark.parametrize("gap_s", [2, 30, 3000])
def test_a_link_that_was_away_is_no_shorter_in_its_recording(gap_s: int, tmp_path: Path) -> None:
    """GStreamer joins both parts of a transport stream half a second apart."""
    path = write(tmp_path / "v.ts", Video(frames=32, gap_s=gap_s), kind="mpegts")
    halves = [k / FPS for k in range(16)], [gap_s + k / FPS for k in range(16, 32)]
    assert read(path).times == pytest.approx([*halves[0], *halves[1]], abs=0.002)


def test_another_recording_behind_one_goes_on_where_that_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [write(tmp_path / f"{k}.ts", Video(frames=24 - k), kind="mpegts") for k in (0, 1)]
    (tmp_path / "v.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    times = read(tmp_path / "v.ts").times
    assert times[:24] == pytest.approx([k / FPS for k in range(24)], abs=0.002)
    assert len(times) == 47
    assert times[-1] < 7
    assert "taken for another one that was joined" in caplog.text


def test_a_sound_much_longer_than_the_video_does_not_hide_it(tmp_path: Path) -> None:
    path = write(tmp_path / "long.mp4", Video(frames=8), sound_s=7.0)
    film = read_film(path)
    assert film is not None
    assert film.tracks[0].share < 0.2
    assert len(read(path).times) == 8


@pytest.mark.parametrize("kind", ["flv", "ts", "mkv"])
@pytest.mark.parametrize("first", [0, 24], ids=["outlasts it", "begins before it"])
def test_a_sound_beside_a_video_takes_no_frame_of_it(kind: str, first: int, tmp_path: Path) -> None:
    """FLV "held no video", a transport stream's end never came, or two of sixteen frames did."""
    path = write(tmp_path / f"sound.{kind}", Video(first=first), sound_s=6.0)
    found = read(path)
    assert len(found.times) == 16
    assert found.dropped == {}
    assert found.times == pytest.approx([k / FPS for k in range(16)], abs=0.002)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_cover_larger_than_the_video_is_not_taken_for_it(kind: str, tmp_path: Path) -> None:
    cover = Video(320, 192, frames=1, codec="mjpeg")
    path = write(tmp_path / f"cover.{kind}", Video(), cover)
    assert read(path).sizes == [(160, 96)] * 16
    assert read(path, track=2).sizes == [(320, 192)]


def test_a_short_larger_preview_is_not_taken_for_the_film(tmp_path: Path) -> None:
    path = write(tmp_path / "preview.mp4", Video(320, 192, frames=2), Video())
    assert read(path).sizes == [(160, 96)] * 16


def test_a_file_with_sound_alone_has_no_video(tmp_path: Path) -> None:
    path = write(tmp_path / "sound.mp4", sound_s=1.0)
    with pytest.raises(InputError, match=r"sound\.mp4 holds no video"):
        read(path)


@pytest.mark.parametrize("kind", ["mp4", "matroska", "mpegts"])
def test_the_largest_of_several_videos_is_taken_unless_another_is_named(
    kind: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "two", Video(64, 48), Video(), kind=kind)
    assert read(path).sizes == [(160, 96)] * 16
    assert read(path, track=1).sizes == [(64, 48)] * 16
    assert read(path, track=2).sizes == [(160, 96)] * 16


def test_of_several_programs_it_is_said_which_one_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gst_run: Callable[[str], None]
) -> None:
    path = tmp_path / "two.ts"
    video = "videotestsrc num-buffers=8 ! video/x-raw,format=I420,framerate=10/1"
    gst_run(
        f'mpegtsmux name=m prog-map="program_map,sink_64=(int)3,sink_65=(int)7" ! '
        f'filesink location="{path}" '
        f"{video},width=64,height=48 ! x264enc tune=zerolatency ! h264parse ! m.sink_64 "
        f"{video},width=160,height=96 ! x264enc tune=zerolatency ! h264parse ! m.sink_65"
    )
    assert sorted(read_programs(path)) == [3, 7]
    (size,) = set(read(path).sizes)
    number = {(64, 48): 3, (160, 96): 7}[size]
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(said) == 1
    assert f"only {number} is read" in said[0]


def test_programs_are_found_in_packets_of_either_size_and_from_any_byte_on(tmp_path: Path) -> None:
    data = write(tmp_path / "v.ts", Video(), kind="mpegts").read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    for name, stored in (
        ("plain", data),
        ("cut", data[-100:] + data),
        ("timed", b"".join(b"time" + packet for packet in packets)),
    ):
        (tmp_path / name).write_bytes(stored)
        assert read_programs(tmp_path / name) == (1,), name
    assert read_programs(write(tmp_path / "v.mp4", Video())) == ()


def test_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "one.mp4", Video(frames=2))
    with pytest.raises(InputError, match=r"has 1 video tracks, camera\.track is 3"):
        read(path, track=3)


@pytest.mark.parametrize(
    ("matrix", "full_range"), [(None, False), (1, False), (1, True), (6, False), (6, True)]
)
def test_colours_are_those_that_were_filmed_where_the_stream_says_its_range_and_matrix(
    matrix: int | None, full_range: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "c.mp4", Video(frames=1, matrix=matrix, full_range=full_range))
    seen, meant = read(path).pictures[0].astype(int), picture(0, 160, 96)
    for part in (np.s_[4:40, 4:70], np.s_[4:40, 90:150], np.s_[60:90, 40:150]):
        assert np.abs(seen[part] - meant[part]).max() <= 6


def test_what_is_lost_of_a_transport_stream_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "v.ts", Video(frames=80), kind="mpegts")
    data, size = path.read_bytes(), 188
    packets = [data[at : at + size] for at in range(0, len(data), size)]
    rng = np.random.default_rng(0)
    kept = [p for k, p in enumerate(packets) if k < 20 or rng.random() > 0.01]
    path.write_bytes(b"".join(kept))
    seen = read(path)
    assert 8 < len(seen.times) < 80
    last = round(seen.times[-1] * FPS)
    assert set(seen.dropped) == {"frame_missing", "frame_damaged"}
    assert sum(seen.dropped.values()) == last + 1 - len(seen.times)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\x08moov",
        b"\0\0\0\x10moov\0\0\0\x01trak",
        b"\0\0\0\1moov" + b"\xff" * 8,
        b"x" * 99,
    ],
)
def test_a_damaged_film_is_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    assert read_film(path) is None
