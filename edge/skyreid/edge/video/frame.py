"""One decoded picture of a camera, in the planes the decoder wrote; colours are made on demand.

Converting whole frames to RGB costs more CPU than decoding them, so a frame keeps views of the
decoder's memory and converts only what is asked for. The views are valid until ``release()``.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.contract.sighting import Clock
from skyreid.edge.video.clock import NTP_EPOCH_S, CaptureClock
from skyreid.edge.video.matrices import Matrix, from_bt601
from skyreid.edge.video.packed import PACKED, packed_rgb
from skyreid.edge.video.platform import first_structure, load_gst

UInt8 = NDArray[np.uint8]
Beside = Callable[[int], list[tuple[int, bytes]]] | None

_MATRICES: dict[int, Matrix] = {2: "fcc", 3: "bt709", 4: "bt601", 5: "smpte240m", 6: "bt2020"}
"""By GStreamer's GstVideoColorMatrix."""
_FULL_RANGE = 1
"""GStreamer's GST_VIDEO_COLOR_RANGE_0_255."""
_NO_TIME = (1 << 64) - 1  # GST_CLOCK_TIME_NONE
_JUMP_S = 10.0
"""A longer gap between two frames is a cut or a jump of the clock, no loss."""


def _nothing() -> None:
    return None


@dataclass(frozen=True, eq=False)
class Planes:
    """The memory of a 4:2:0 picture; rows may be longer than the picture (strided views).

    ``luma`` is uint8 [H, W]. ``nv12``: ``chroma`` is one uint8 [ceil(H/2), ceil(W/2), 2] array of
    U, V pairs. ``i420``: two uint8 [ceil(H/2), ceil(W/2)] arrays, U and V.
    """

    layout: Literal["nv12", "i420"]
    luma: UInt8
    chroma: tuple[UInt8, ...]
    matrix: Matrix = "bt601"
    """What is said of the stream; an untagged one is BT.601, which is what training saw."""
    full_range: bool = False
    """Values from 0 to 255 instead of 16 to 235 and 240; an untagged stream is not."""

    def rgb(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """A region, uint8 [y1 - y0, x1 - x0, 3] RGB; equals the same region of the whole frame."""
        import cv2

        # A chroma sample covers 2x2 pixels: convert from an even corner, cut off afterwards.
        left, top = x0 & ~1, y0 & ~1
        columns, rows = (x1 - left + 1) // 2, (y1 - top + 1) // 2
        luma = self.luma[top : top + 2 * rows, left : left + 2 * columns]
        if luma.shape != (2 * rows, 2 * columns):  # a frame of odd size: repeat its last row/column
            missing = (2 * rows - luma.shape[0], 2 * columns - luma.shape[1])
            luma = np.pad(luma, ((0, missing[0]), (0, missing[1])), mode="edge")
        area = np.s_[top // 2 : top // 2 + rows, left // 2 : left // 2 + columns]
        if self.layout == "nv12":
            pairs = self.chroma[0][area]
        else:
            pairs = cv2.merge([self.chroma[0][area], self.chroma[1][area]])
        if self.full_range:  # OpenCV converts limited range only
            luma, pairs = cv2.LUT(luma, _TO_LIMITED[0]), cv2.LUT(pairs, _TO_LIMITED[1])
        picture: UInt8 = cv2.cvtColorTwoPlane(luma, pairs, cv2.COLOR_YUV2RGB_NV12)
        if self.matrix != "bt601":
            picture = cv2.transform(picture, from_bt601(self.matrix))
        return np.ascontiguousarray(picture[y0 - top : y1 - top, x0 - left : x1 - left])


_TO_LIMITED = (
    np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8),
    np.rint(128 + (np.arange(256) - 128) * 224 / 255).astype(np.uint8),
)
"""Luma and chroma of full range, 256 values each, as limited range."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one camera."""

    number: int
    """From 1, counting every decoded frame of the source."""
    captured_at_ns: int
    """UTC, nanoseconds; strictly increasing from frame to frame."""
    clock: Clock
    clock_error_ms: int
    width: int
    height: int
    planes: Planes | None = None
    """None where the picture came in RGB."""
    picture: UInt8 | None = None
    """RGB, where it came so: of ``PACKED`` formats and of ``of_rgb``."""
    telemetry: tuple[tuple[int, bytes], ...] = ()
    """KLV beside the video since the frame before: each buffer's capture time, and its bytes."""
    media_ns: int = 0
    """On a clock that nobody sets: a file's own, or, over all connections, this machine's."""
    release: Callable[[], None] = field(default=_nothing, repr=False)
    """Gives the memory back to the decoder; the planes must not be touched afterwards."""

    def rgb(self) -> UInt8:
        """The whole frame, uint8 [H, W, 3] RGB, made once and read-only; ``crop`` cuts it too."""
        return self._whole

    @cached_property
    def _whole(self) -> UInt8:
        if self.planes is not None:
            picture = self.planes.rgb(0, 0, self.width, self.height)
        elif self.picture is not None:
            picture = self.picture.view()
        else:
            raise ValueError("a frame without planes and without a picture")
        picture.flags.writeable = False
        return picture

    def crop(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """Region with x1 and y1 exclusive, uint8 [y1 - y0, x1 - x0, 3] RGB, owned by the caller.

        Raises:
            ValueError: the region is empty or reaches outside the frame.
        """
        if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
            raise ValueError(
                f"region {(x0, y0, x1, y1)} is not inside a {self.width}x{self.height} frame"
            )
        if self.planes is not None and "_whole" not in self.__dict__:
            return self.planes.rgb(x0, y0, x1, y1)
        return self._whole[y0:y1, x0:x1].copy()

    @classmethod
    def of_rgb(
        cls,
        picture: UInt8,
        *,
        number: int = 1,
        captured_at_ns: int = 1,
        clock: Clock = Clock.FILE,
        clock_error_ms: int = 0,
    ) -> Frame:
        """A frame from an RGB picture uint8 [H, W, 3], for tests and tools without a decoder."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"expected uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
        height, width = picture.shape[:2]
        return cls(number, captured_at_ns, clock, clock_error_ms, width, height, picture=picture)


class Reader:
    """Turns one connection's samples into frames; reads the caps again when they change."""

    def __init__(self, clock: CaptureClock, *, live: bool) -> None:
        """Set up.

        Args:
            clock: stamps the frames.
            live: whether the time of arrival means something.
        """
        self._clock, self._live = clock, live
        self.skipped_ns: Callable[[int], int] = lambda pts: 0
        """Of a file whose own time may jump: what it had skipped before a picture."""
        self._gst, _, self._video = load_gst()
        self._caps: Any = None
        self._format: _Format | None = None
        flags = self._gst.BufferFlags
        self._not_whole = int(flags.CORRUPTED) | int(flags.GAP)
        self._start_ns: int | None = None
        self._last_ns: int | None = None
        self._next_ns = self._skipped = 0
        self.missing = 0
        """Frames of a file that its rate promises and that did not come."""

    def damaged(self, sample: Any) -> bool:
        """Whether the decoder itself says that a frame is not what was filmed."""
        found = bool(int(sample.get_buffer().get_flags()) & self._not_whole)
        if found and self._last_ns is not None:
            self.missing -= 1  # it did come, and the next one will count the gap that it leaves
        return found

    def frame(
        self, sample: Any, number: int, pipeline: Any, *, first_ns: int | None, beside: Beside
    ) -> Frame:
        """A frame of a sample.

        Args:
            sample: of the appsink.
            number: of the frame.
            pipeline: that it comes from.
            first_ns: media time of the first encoded picture, where that is known.
            beside: takes what came beside the video up to a media time; None = nothing comes.
        """
        caps, buffer = sample.get_caps(), sample.get_buffer()
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps, self._format = caps, _Format.of(self._video, caps)
        assert self._format is not None
        form = self._format
        media_ns = self._media_time(sample, buffer, form)
        folded_ns = media_ns - self._skipped
        later = buffer.pts - folded_ns  # what is beside a file skipped as much as its pictures
        said = [] if beside is None else beside(folded_ns)
        aged = [(at + self.skipped_ns(at + later) - media_ns, data) for at, data in said]
        if self._live:
            running = pipeline.get_clock().get_time() - pipeline.get_base_time()
            arrived_ns = time.time_ns() - min(max(running - media_ns, 0), 5_000_000_000)
        else:
            arrived_ns = 0
            if self._start_ns is None:
                self._start_ns = media_ns if first_ns is None else min(media_ns, first_ns)
            media_ns -= self._start_ns
        sender_ns = _sender_time(buffer) if self._live else None
        stamp = self._clock.stamp(media_ns, sender_ns, arrived_ns)
        memory = _Memory(sample, buffer, self._gst)
        strides, offsets = _layout(self._video, buffer, form)
        planes = picture = None
        if form.layout in PACKED:
            size = form.height, form.width
            picture = packed_rgb(memory.data, form.layout, size, strides[0], offsets[0])
        else:
            planes = _planes(form, memory.data, strides, offsets)
        return Frame(
            number,
            stamp.captured_at_ns,
            stamp.clock,
            stamp.error_ms,
            form.width,
            form.height,
            planes=planes,
            picture=picture,
            telemetry=tuple((stamp.captured_at_ns + age, data) for age, data in aged),
            media_ns=media_ns + (int(pipeline.get_base_time()) if self._live else 0),
            release=memory.release,
        )

    def _media_time(self, sample: Any, buffer: Any, form: _Format) -> int:
        """Time on a file's own scale, or since the connection of a live source."""
        segment, pts = sample.get_segment(), buffer.pts
        convert = segment.to_running_time if self._live else segment.to_stream_time
        time_ns = convert(self._gst.Format.TIME, pts) if pts != _NO_TIME else _NO_TIME
        if time_ns == _NO_TIME:  # a stream without time stamps: count frames at its nominal rate
            time_ns = self._next_ns
        else:
            self._skipped = self.skipped_ns(pts)
            time_ns += self._skipped
        period_ns = form.period_ns
        if self._last_ns is not None and form.paced:
            gap = (time_ns - self._last_ns) / period_ns
            if 1.5 < gap < _JUMP_S * 1e9 / period_ns:
                self.missing += round(gap) - 1
        self._last_ns, self._next_ns = time_ns, time_ns + period_ns
        return time_ns


@dataclass(frozen=True)
class _Format:
    """What the caps say, asked once: each of these is a call through GObject's introspection."""

    width: int
    height: int
    layout: str
    """``NV12``, ``I420`` or one of ``PACKED``: GStreamer's name."""
    strides: tuple[int, ...]
    """Bytes from row to row of each plane, where a buffer does not say it itself ..."""
    offsets: tuple[int, ...]
    """... and from the buffer's start to each."""
    matrix: Matrix
    full_range: bool
    period_ns: int
    paced: bool
    """Whether the period is that of the frames, and not one made up."""

    @classmethod
    def of(cls, video: Any, caps: Any) -> _Format:
        info = video.VideoInfo.new_from_caps(caps)
        fps_n, fps_d = int(info.fps_n), int(info.fps_d)
        matrix, full_range = _colours(caps, info)
        return cls(
            int(info.width),
            int(info.height),
            str(info.finfo.name),
            tuple(info.stride),
            tuple(info.offset),
            matrix,
            full_range,
            round(1e9 * max(fps_d, 1) / max(fps_n, 1)),
            fps_n > 0,
        )


def _colours(caps: Any, info: Any) -> tuple[Matrix, bool]:
    """Matrix and full range of a stream that says so; what it does not say is BT.601, limited."""
    if not first_structure(caps).has_field("colorimetry"):
        return "bt601", False
    said = info.colorimetry
    return _MATRICES.get(int(said.matrix), "bt601"), int(said.range) == _FULL_RANGE


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
        self.data = view(info)
        self.data.flags.writeable = False

    def release(self) -> None:
        """Unmap, once."""
        if self._buffer is not None:
            self._buffer.unmap(self._info)
            self.data = np.zeros(0, np.uint8)
            self._buffer = self._info = self._sample = None


def view(info: Any) -> UInt8:
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


def _layout(video: Any, buffer: Any, form: _Format) -> tuple[Sequence[int], Sequence[int]]:
    """Bytes from row to row and to each plane. The buffer's own meta overrules the caps."""
    meta = video.buffer_get_video_meta(buffer)
    return (form.strides, form.offsets) if meta is None else (meta.stride, meta.offset)


def _planes(form: _Format, data: UInt8, strides: Sequence[int], offsets: Sequence[int]) -> Planes:
    """Strided views of the planes.

    Raises:
        ValueError: a plane reaches beyond the memory.
    """
    rows, columns = (form.height + 1) // 2, (form.width + 1) // 2

    def plane(index: int, shape: tuple[int, ...]) -> UInt8:
        steps = (strides[index], *((2, 1) if len(shape) == 3 else (1,)))
        return np.ndarray(shape, np.uint8, data, offsets[index], steps)

    luma = plane(0, (form.height, form.width))
    if form.layout == "NV12":
        pairs = plane(1, (rows, columns, 2))
        return Planes("nv12", luma, (pairs,), form.matrix, form.full_range)
    chroma = plane(1, (rows, columns)), plane(2, (rows, columns))
    return Planes("i420", luma, chroma, form.matrix, form.full_range)


def _sender_time(buffer: Any) -> int | None:
    """UTC ns of the frame on the camera's clock, where RTCP has told it."""
    meta = buffer.get_reference_timestamp_meta(None)
    if meta is None or not meta.reference.to_string().startswith("timestamp/x-ntp"):
        return None
    return int(meta.timestamp) - NTP_EPOCH_S * 1_000_000_000
