import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyreid.contract.errors import InputError, PlatformError
from skyreid.contract.sighting import Clock
from skyreid.edge.video.clock import FileClock
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.kind import Source
from skyreid.edge.video.pipeline import build
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource, Limits, check_file

START = 1_700_000_000_000_000_000


def open_file(path: Path, **options: Any) -> GstSource:
    source = Source("file", str(path))
    return GstSource(build(source, probe()), source, FileClock(START), **options)


def read_all(path: Path, **options: Any) -> list[Frame]:
    frames = []
    for frame in open_file(path, **options).frames(threading.Event()):
        frames.append(frame)
        frame.release()
    return frames


def test_every_frame_of_a_file_comes_once_with_its_time(clip: Path) -> None:
    frames = read_all(clip)
    assert [f.number for f in frames] == list(range(1, 13))
    assert [f.captured_at_ns - START for f in frames] == [k * 100_000_000 for k in range(12)]
    assert {(f.width, f.height, f.clock) for f in frames} == {(322, 240, Clock.FILE)}


def test_two_readings_of_a_file_are_the_same(clip: Path) -> None:
    def sums() -> list[int]:
        out = []
        for frame in open_file(clip).frames(threading.Event()):
            out.append(int(frame.rgb().sum()))
            frame.release()
        return out

    assert sums() == sums()


def test_the_colours_are_those_that_gstreamer_itself_makes_of_the_file(
    clip: Path, tmp_path: Path, gst_run: Callable[[str], None]
) -> None:
    frames = open_file(clip).frames(threading.Event())
    frame = next(frames)
    assert frame.planes is not None
    assert frame.planes.luma.strides[0] > 322  # rows longer than the picture: a shear would show
    picture = frame.rgb().astype(int)
    frame.release()
    frames.close()
    raw = tmp_path / "raw"
    gst_run(
        f'filesrc location="{clip}" ! decodebin3 ! videoconvert ! video/x-raw,format=RGB ! '
        f'filesink location="{raw}"'
    )
    stride = (322 * 3 + 3) // 4 * 4
    rows = np.frombuffer(raw.read_bytes()[: stride * 240], np.uint8).reshape(240, stride)
    reference = rows[:, : 322 * 3].reshape(240, 322, 3).astype(int)
    away = np.abs(picture - reference)
    assert away.mean() < 3
    assert np.percentile(away, 99) < 25


def test_the_planes_are_the_decoders_memory_not_a_copy(clip: Path) -> None:
    frames = open_file(clip).frames(threading.Event())
    frame = next(frames)
    assert frame.planes is not None
    luma = frame.planes.luma
    assert not luma.flags.owndata
    assert not luma.flags.writeable
    base: Any = luma
    while getattr(base, "base", None) is not None:
        assert not isinstance(base, bytes)
        base = base.base
    assert not isinstance(base, bytes)
    frame.release()
    frame.release()  # twice is harmless
    frames.close()


def test_a_stop_ends_a_file_early_and_leaves_no_thread(clip: Path) -> None:
    before = threading.active_count()
    stop = threading.Event()
    taken = 0
    for frame in open_file(clip).frames(stop):
        frame.release()
        taken += 1
        stop.set()
    assert taken == 1
    assert threading.active_count() == before


def break_file(kind: str, path: Path, clip: Path) -> None:
    data = clip.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "directory":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("directory", "is not a file"),
        ("noise", "cannot be read"),
        ("cut off", "cannot be read"),
    ],
)
def test_a_video_that_cannot_be_used_is_one_line_that_names_it(
    kind: str, says: str, tmp_path: Path, clip: Path
) -> None:
    path = tmp_path / "video.mp4"
    break_file(kind, path, clip)
    with pytest.raises(InputError, match=f"video .*video.mp4.* {says}"):
        read_all(path, limits=Limits(first_frame_s=4.0))


@pytest.mark.parametrize("path", ["/dev/video0", "/dev/null"])
def test_a_device_is_not_taken_for_a_file_and_what_to_do_is_said(path: str) -> None:
    with pytest.raises(InputError, match=f"video {path} is a device: .* rtsp://"):
        check_file(path)


def test_sound_beside_the_pictures_is_left_alone(
    tmp_path: Path, gst_run: Callable[[str], None]
) -> None:
    path = tmp_path / "both.mkv"
    gst_run(
        f'matroskamux name=m ! filesink location="{path}" videotestsrc num-buffers=7 ! '
        "video/x-raw,format=I420,width=35,height=27,framerate=10/1 ! jpegenc ! queue ! m. "
        "audiotestsrc num-buffers=20 ! audioconvert ! queue ! m."
    )
    frames = read_all(path)
    assert [(f.width, f.height) for f in frames] == [(35, 27)] * 7


def test_a_file_without_video_says_so(tmp_path: Path, needs_gst: None) -> None:
    with open(tmp_path / "sound.wav", "wb") as wav:
        wav.write(b"RIFF" + (36 + 1600).to_bytes(4, "little") + b"WAVEfmt ")
        wav.write(bytes([16, 0, 0, 0, 1, 0, 1, 0, 64, 31, 0, 0, 128, 62, 0, 0, 2, 0, 16, 0]))
        wav.write(b"data" + (1600).to_bytes(4, "little") + bytes(1600))
    with pytest.raises((InputError, PlatformError), match=r"sound\.wav"):
        read_all(tmp_path / "sound.wav")


def test_a_pipeline_that_gstreamer_refuses_is_a_platform_error(needs_gst: None) -> None:
    source = Source("test", "64x48@5")
    with pytest.raises(PlatformError, match=r"refuses the pipeline: .*nosuchelement"):
        next(
            GstSource("nosuchelement ! appsink name=sink", source, FileClock(1)).frames(
                threading.Event()
            )
        )
