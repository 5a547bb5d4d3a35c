"""Small videos made on the spot with PyAV, and how the device reads them."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from skyreid.edge.video.clock import FileClock
from skyreid.edge.video.kind import Access
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource, Limits

START = 1_700_000_000_000_000_000
FPS = 8


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """RGB: grey, a red quarter at the top left, a blue one at the top right, a moving bar below."""
    out = np.full((height, width, 3), 128, np.uint8)
    out[: height // 2, : width // 2] = 200, 30, 30
    out[: height // 2, width // 2 :] = 30, 30, 200
    at = number * 4 % (width - 8)
    out[height // 2 :, at : at + 8] = 230
    return out


@dataclass(frozen=True)
class Video:
    """A track of pictures."""

    width: int = 160
    height: int = 96
    frames: int = 16
    gop: int = 8
    first: int = 0
    """Frame periods from 0 to the first picture."""
    gap_s: int = 0
    """Between its two halves nothing was filmed for so long."""
    codec: str = "libx264"
    matrix: int | None = None
    """ITU-T H.273, as ``1`` for BT.709."""
    full_range: bool = False


def write(
    path: Path, *videos: Video, sound_s: float = 0.0, kind: str | None = None, bframes: int = 0
) -> Path:
    """Write a file of these tracks, a sound first where there is one."""
    with av.open(str(path), "w", format=kind) as out:
        sound = None
        if sound_s:
            sound = out.add_stream("aac", rate=16000)
        tracks = []
        for video in videos:
            track = out.add_stream(video.codec, rate=FPS)
            stored = "yuvj420p" if video.codec == "mjpeg" else "yuv420p"
            track.width, track.height, track.pix_fmt = video.width, video.height, stored
            options = {"preset": "ultrafast", "crf": "12", "bf": str(bframes), "sc_threshold": "0"}
            track.options = {**options, "g": str(video.gop), "keyint_min": str(video.gop)}
            if video.matrix is not None:
                track.codec_context.colorspace = video.matrix
            if video.full_range:
                track.codec_context.color_range = 2
            tracks.append((track, video))
        for k in range(int(sound_s * 16000 / 1024)):
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate, silence.pts = 16000, k * 1024
            out.mux(sound.encode(silence))  # type: ignore[union-attr]
        if sound is not None:
            out.mux(sound.encode())
        for number in range(max((v.frames for v in videos), default=0)):
            for track, video in tracks:
                if number < video.frames:
                    frame = av.VideoFrame.from_ndarray(
                        picture(number, video.width, video.height), format="rgb24"
                    ).reformat(
                        format=track.pix_fmt,
                        dst_colorspace="ITU709" if video.matrix == 1 else "ITU601",
                        dst_color_range="JPEG" if video.full_range else "MPEG",
                    )
                    late = video.gap_s * FPS if number >= video.frames // 2 else 0
                    frame.pts = video.first + number + late
                    out.mux(track.encode(frame))
        for track, _ in tracks:
            out.mux(track.encode())
    return path


def turn(path: Path, matrix: Sequence[int]) -> None:
    """Write (a, b, c, d) into the display matrix of an MP4 file's only track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 20] = struct.pack(">5i", a, b, 0, c, d)
    path.write_bytes(data)


@dataclass
class Read:
    """What the device makes of a file."""

    times: list[float]
    """Seconds since the file's start."""
    pictures: list[NDArray[np.uint8]]
    dropped: dict[str, int]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each frame."""
        return [(p.shape[1], p.shape[0]) for p in self.pictures]


def read(path: Path, *, track: int | None = None) -> Read:
    """Read a file as the device does."""
    source = parse_source(str(path))
    reading = GstSource(
        build(source, probe()),
        source,
        FileClock(START),
        limits=Limits(first_frame_s=20.0),
        access=Access(track=track),
    )
    out = Read([], [], {})
    for frame in reading.frames(threading.Event()):
        out.times.append((frame.captured_at_ns - START) / 1e9)
        out.pictures.append(frame.rgb())
        frame.release()
    out.dropped = {reason: count for reason, count in reading.dropped.items() if count}
    return out
