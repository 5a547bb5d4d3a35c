"""Symptoms of pictures that are not whole: grey ones, smeared ones, none at all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cameras import RtspServer, Watch
from clips import FPS, Video, read, write

from skyreid.edge.video.source import Limits, State


def whole(watch: Watch) -> bool:
    """Whether the pattern's first bar is white in every frame: grey is 130, and garbage green."""
    return all(min(corner) > 160 for corner in watch.corners)


@pytest.mark.parametrize("path", ["shared", "shared265"])
def test_who_joins_between_two_key_frames_sees_no_grey_picture(
    path: str, rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    first = Watch(rtsp.url(path))
    wait_until(lambda: len(first.frames) >= 6)
    second = Watch(rtsp.url(path))
    wait_until(lambda: len(second.frames) >= 3)
    second.close()
    first.close()
    assert second.source.dropped["frame_damaged"] > 5
    assert whole(first)
    assert whole(second)


def test_after_a_lost_packet_nothing_is_seen_until_the_next_key_frame(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("lossy"))
    wait_until(lambda: watch.source.dropped["frame_damaged"] >= 5 and len(watch.frames) >= 5)
    watch.close()
    assert watch.names()[:2] == ["connecting", "streaming"]
    assert whole(watch)


def test_a_camera_without_a_whole_frame_is_connected_anew_and_says_why(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    first = Watch(rtsp.url("shared"))
    wait_until(lambda: len(first.frames) >= 2)
    limits = Limits(stall_s=20.0, first_frame_s=0.5, backoff_s=(0.1, 0.1))
    second = Watch(rtsp.url("shared"), limits=limits)
    wait_until(lambda: second.source.lost["damaged"] >= 1)
    second.close()
    first.close()
    assert "no whole frame for 0.5 s" in second.said(State.BACKOFF)[0]


def test_a_file_that_was_cut_between_two_key_frames_begins_with_its_first_whole_frame(
    tmp_path: Path, needs_gst: None
) -> None:
    data = write(tmp_path / "v.ts", Video(frames=40, gop=20), kind="mpegts").read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    tables = [p for p in packets[:8] if (p[1] & 0x1F) << 8 | p[2] < 32 or p[1] & 0x1F == 0x10]
    (tmp_path / "cut.ts").write_bytes(b"".join(tables + packets[len(packets) // 4 :]))
    seen = read(tmp_path / "cut.ts")
    assert 15 <= len(seen.times) <= 20
    assert seen.times[0] == 0
    assert max(b - a for a, b in zip(seen.times, seen.times[1:], strict=False)) < 1.5 / FPS
