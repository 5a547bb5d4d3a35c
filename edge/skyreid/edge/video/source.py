"""Frames out of GStreamer: a file once, a live source again and again (reconnect, back-off).

PyGObject's plain API only, without its GStreamer overrides, because a virtual environment does not
see the distribution's. Measured on RTSP: a server that dies arrives as end of stream, one that
hangs says nothing at all, so the stall timer here is the only one that works.
"""

from __future__ import annotations

import ctypes
import enum
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError, PlatformError
from skyreid.edge.video.clock import NTP_EPOCH_S, CaptureClock
from skyreid.edge.video.frame import Frame, Planes
from skyreid.edge.video.pipeline import SINK, Source
from skyreid.edge.video.platform import INSTALL, load_gst

log = logging.getLogger(__name__)

_POLL_NS = 100_000_000
_BACKOFF_S = (0.3, 5.0)
_FILE_STALL_S = 60.0
_FILE_OPEN_S = 15.0
"""A file that gives no first frame by then is given up. GStreamer 1.22 posts no error for about a
third of the openings of an MP4 file that lacks its index (measured, whatever the decode bin)."""
_NO_TIME = (1 << 64) - 1  # GST_CLOCK_TIME_NONE
_MISSING_PLUGIN = (("gst-core-error-quark", 12), ("gst-stream-error-quark", 6))


class State(enum.Enum):
    """What a source is doing; ``GstSource.state``."""

    CONNECTING = "connecting"
    STREAMING = "streaming"
    BACKOFF = "backoff"
    ENDED = "ended"


class _Lost(Exception):
    """A live source is gone; ``reason`` is a word for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class GstSource:
    """Runs one pipeline and hands out its frames. One thread at a time."""

    def __init__(
        self,
        description: str,
        source: Source,
        clock: CaptureClock,
        *,
        stall_s: float = 3.0,
        on_state: Callable[[State, str], None] = lambda state, why: None,
        backoff_s: tuple[float, float] = _BACKOFF_S,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            description: the pipeline, see ``pipeline.build``.
            source: what it reads.
            clock: stamps the frames.
            stall_s: a live source without a frame for this long is torn down and connected anew.
            on_state: called with each change of state and why, from the reading thread.
            backoff_s: shortest and longest pause before a new connection.
        """
        self._description, self._source, self._clock = description, source, clock
        self._stall_s = stall_s if source.live else max(stall_s, _FILE_STALL_S)
        self._on_state, self._backoff_s = on_state, backoff_s
        self._number = 0
        self.state = State.CONNECTING
        self.lost: Counter[str] = Counter()
        """Lost connections by reason: ``ended``, ``error``, ``stalled``."""
        self.skipped = 0
        """Frames of a live source that were replaced before they could be read."""

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """Frames in order, until the file ends or ``stop`` is set. The taker releases each.

        Raises:
            InputError: the file is missing, damaged or holds no video.
            PlatformError: GStreamer or a plugin that the file needs is missing.
        """
        if self._source.kind == "file":
            check_file(self._source.target)
        pause_s = self._backoff_s[0]
        while not stop.is_set():
            self._enter(State.CONNECTING, "")
            before = self._number
            try:
                with closing(self._session(stop)) as session:
                    for frame in session:
                        if frame.number == before + 1:
                            self._enter(State.STREAMING, f"{frame.width}x{frame.height}")
                        yield frame
                break
            except _Lost as lost:
                self.lost[lost.reason] += 1
                if self._number > before:
                    pause_s = self._backoff_s[0]
                self._enter(State.BACKOFF, f"{lost.reason}: {lost}")
            self._clock.reconnected()
            stop.wait(pause_s * random.uniform(0.7, 1.3))
            pause_s = min(2 * pause_s, self._backoff_s[1])
        self._enter(State.ENDED, f"{self._number} frames")

    def _enter(self, state: State, why: str) -> None:
        if state is not self.state or state is State.CONNECTING:
            self.state = state
            self._on_state(state, why)

    def _session(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """One life of the pipeline. Ends at a file's end or at ``stop``."""
        gst, _, _ = load_gst()
        pipeline = _parse(gst, self._description)
        arrived = 0
        taken = 0

        def count(pad: Any, info: Any) -> Any:
            nonlocal arrived
            arrived += 1
            return gst.PadProbeReturn.OK

        sink = pipeline.get_by_name(SINK)
        if self._source.live:
            sink.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, count)
        reader = _Reader(self._clock, live=self._source.live)
        try:
            pipeline.set_state(gst.State.PLAYING)
            deadline = time.monotonic() + (self._stall_s if self._source.live else _FILE_OPEN_S)
            while not stop.is_set():
                sample = sink.try_pull_sample(_POLL_NS)
                if sample is not None:
                    deadline = time.monotonic() + self._stall_s
                    self._number += 1
                    taken += 1
                    yield reader.frame(sample, self._number, pipeline)
                    deadline = time.monotonic() + self._stall_s  # the taker's time is not a stall
                    continue
                self._check_bus(gst, pipeline)
                if sink.is_eos():
                    if self._source.live:
                        raise _Lost("ended", "the server closed the stream")
                    if self._number == 0:
                        raise InputError(f"video {self._source.name} holds no frame of video")
                    return
                if time.monotonic() > deadline:
                    if self._source.live:
                        raise _Lost("stalled", f"no frame for {self._stall_s:g} s")
                    raise InputError(
                        f"video {self._source.name} cannot be read: no further frame after "
                        f"{self._number}; is the file cut off?"
                    )
        finally:
            pipeline.set_state(gst.State.NULL)
            pipeline.get_bus().set_flushing(True)  # messages hold references to elements
            self.skipped += max(arrived - taken, 0)

    def _check_bus(self, gst: Any, pipeline: Any) -> None:
        # No filter: a stream collection's type is not one bit, a mask would catch others with it.
        while (message := pipeline.get_bus().pop()) is not None:
            if message.type == gst.MessageType.ERROR:
                error, _ = message.parse_error()  # the other part names GStreamer's source lines
                self._fail(error)
            elif message.type == gst.MessageType.STREAM_COLLECTION and not self._source.live:
                if not _has_video(gst, message.parse_stream_collection()):
                    raise InputError(f"video {self._source.name} holds no video")

    def _fail(self, error: Any) -> None:
        """Raise what an error message of the pipeline means."""
        detail = " ".join(error.message.split())
        name = self._source.name
        if (error.domain, error.code) in _MISSING_PLUGIN:
            raise PlatformError(
                f"{name}: GStreamer lacks a plugin to decode it ({detail}): {INSTALL}"
            )
        if self._source.live:
            raise _Lost("error", detail)
        after = f" after {self._number} frames" if self._number else ""
        raise InputError(f"video {name} cannot be read{after}: {detail}")


class _Reader:
    """Turns samples into frames; re-reads the caps when they change."""

    def __init__(self, clock: CaptureClock, *, live: bool) -> None:
        self._clock, self._live = clock, live
        self._gst, _, self._video = load_gst()
        self._caps: Any = None
        self._info: Any = None
        self._next_pts_ns = 0

    def frame(self, sample: Any, number: int, pipeline: Any) -> Frame:
        caps, buffer = sample.get_caps(), sample.get_buffer()
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps, self._info = caps, self._video.VideoInfo.new_from_caps(caps)
        pts_ns = self._media_time(sample, buffer)
        now_ns = time.time_ns()
        if self._live:
            running = pipeline.get_clock().get_time() - pipeline.get_base_time()
            now_ns -= min(max(running - pts_ns, 0), 5_000_000_000)
        stamp = self._clock.stamp(pts_ns, _sender_time(buffer), now_ns)
        memory = _Memory(sample, buffer, self._gst)
        info = self._info
        planes = _planes(self._video, buffer, info, memory.data)
        return Frame(
            number,
            stamp.captured_at_ns,
            stamp.clock,
            stamp.error_ms,
            int(info.width),
            int(info.height),
            planes=planes,
            release=memory.release,
        )

    def _media_time(self, sample: Any, buffer: Any) -> int:
        """Time since the file's start, or since the connection of a live source."""
        segment, pts = sample.get_segment(), buffer.pts
        convert = segment.to_running_time if self._live else segment.to_stream_time
        time_ns = convert(self._gst.Format.TIME, pts) if pts != _NO_TIME else _NO_TIME
        if time_ns == _NO_TIME:  # a stream without time stamps: count frames at its nominal rate
            time_ns = self._next_pts_ns
        rate = max(int(self._info.fps_n), 1) / max(int(self._info.fps_d), 1)
        self._next_pts_ns = int(time_ns) + round(1e9 / rate)
        return int(time_ns)


class _MapInfo(ctypes.Structure):
    """Head of GStreamer's GstMapInfo, unchanged since 1.0."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
    )


class _Memory:
    """A mapped buffer as one uint8 array, without a copy, until ``release``."""

    def __init__(self, sample: Any, buffer: Any, gst: Any) -> None:
        self._sample = sample  # owns the buffer: without it the decoder would take it back
        done, info = buffer.map(gst.MapFlags.READ)
        if not done:
            raise InputError("a frame's memory cannot be mapped; is a converter missing?")
        self._buffer, self._info = buffer, info
        self.data = _view(info)

    def release(self) -> None:
        """Unmap, once."""
        if self._buffer is not None:
            self._buffer.unmap(self._info)
            self.data = np.zeros(0, np.uint8)
            self._buffer = self._info = self._sample = None


def _view(info: Any) -> NDArray[np.uint8]:
    """The mapped bytes as uint8 [size].

    Without the overrides ``info.data`` is a copy; the struct itself has the address. PyGObject
    shows that of the struct as the object's hash and in its repr; where they do not agree (another
    version), the copy is taken.
    """
    address = hash(info)
    if f"{address:#x})" in repr(info):
        head = _MapInfo.from_address(address)
        if head.size == info.size and head.data:
            pixels = (ctypes.c_uint8 * head.size).from_address(head.data)
            return np.frombuffer(pixels, np.uint8)
    return np.frombuffer(info.data, np.uint8)


def _planes(video: Any, buffer: Any, info: Any, data: NDArray[np.uint8]) -> Planes:
    """Strided views of the planes. The buffer's own meta overrules the caps (padded decoders)."""
    meta = video.buffer_get_video_meta(buffer)
    strides, offsets = (
        (meta.stride, meta.offset) if meta is not None else (info.stride, info.offset)
    )
    width, height = int(info.width), int(info.height)
    half_width, half_height = (width + 1) // 2, (height + 1) // 2

    def plane(index: int, rows: int, columns: int) -> NDArray[np.uint8]:
        return np.lib.stride_tricks.as_strided(
            data[int(offsets[index]) :], (rows, columns), (int(strides[index]), 1), writeable=False
        )

    luma = plane(0, height, width)
    if info.finfo.name == "NV12":
        pairs = plane(1, half_height, 2 * half_width).reshape(half_height, half_width, 2)
        return Planes("nv12", luma, (pairs,))
    return Planes(
        "i420",
        luma,
        (plane(1, half_height, half_width), plane(2, half_height, half_width)),
    )


def _sender_time(buffer: Any) -> int | None:
    """UTC ns of the frame on the camera's clock, where RTCP has told it."""
    meta = buffer.get_reference_timestamp_meta(None)
    if meta is None or not meta.reference.to_string().startswith("timestamp/x-ntp"):
        return None
    return int(meta.timestamp) - NTP_EPOCH_S * 1_000_000_000


def _has_video(gst: Any, collection: Any) -> bool:
    streams = (collection.get_stream(k) for k in range(collection.get_size()))
    return any(stream.get_stream_type() & gst.StreamType.VIDEO for stream in streams)


def _parse(gst: Any, description: str) -> Any:
    from gi.repository import GLib

    try:
        return gst.parse_launch(description)
    except GLib.Error as error:
        raise PlatformError(f"GStreamer refuses the pipeline: {error.message}") from error


def check_file(path: str) -> None:
    """Refuse a video file that is not there before anything is started.

    Raises:
        InputError: it is missing, not a file, unreadable or empty.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"video {path} does not exist")
    if not file.is_file():
        raise InputError(f"video {path} is not a file")
    try:
        with open(file, "rb") as stream:
            head = stream.read(1)
    except OSError as error:
        raise InputError(f"video {path} cannot be read: {error.strerror}") from error
    if not head:
        raise InputError(f"video {path} is empty")
