"""Frames out of GStreamer: a file once, a live source again and again (reconnect, back-off).

PyGObject's plain API only, without its GStreamer overrides, because a virtual environment does not
see the distribution's. Measured on RTSP: a server that dies arrives as end of stream, one that
hangs says nothing at all, so the stall timer here is the only one that works.
"""

from __future__ import annotations

import enum
import os
import random
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from skyreid.contract.errors import InputError, PlatformError, SkyreidError
from skyreid.edge.video.bounded import LEFT_MAX, TEARDOWN_S, Bounded
from skyreid.edge.video.clock import CaptureClock
from skyreid.edge.video.container import Another, Container
from skyreid.edge.video.frame import Frame, Reader
from skyreid.edge.video.gate import Gate
from skyreid.edge.video.kind import SINK, Access, Link, Lost, Source
from skyreid.edge.video.klv_pad import KlvPad
from skyreid.edge.video.lost import raise_file_error, raise_lost
from skyreid.edge.video.pipeline import KINDS
from skyreid.edge.video.platform import load_gst

_POLL_NS = 100_000_000
_FILE_STALL_S = 60.0
_SETTLE_S = 2.0
_NONE = dict.fromkeys(("frame_overtaken", "frame_damaged", "frame_missing", "telemetry_torn"), 0)


class State(enum.Enum):
    """What a source is doing; ``GstSource.state``."""

    CONNECTING = "connecting"
    STREAMING = "streaming"
    BACKOFF = "backoff"
    """Lost; what is wrong heals itself, and it is tried again soon."""
    REFUSED = "refused"
    """Lost; somebody has to do something, and it is tried again late."""
    ENDED = "ended"


@dataclass(frozen=True)
class Limits:
    """How long what may take, in seconds."""

    connect_s: float = 15.0
    """From the connection of a live source to its first encoded picture."""
    first_frame_s: float = 30.0
    """From there, of a file from its opening, to the first whole frame. GStreamer 1.22 posts no
    error for about a third of the openings of an MP4 file that lacks its index (measured)."""
    stall_s: float = 3.0
    """Without anything, once frames have come; of a file at least 60."""
    backoff_s: tuple[float, float] = (0.3, 5.0)
    """Shortest and longest pause before a new connection, give or take 30 %."""
    refused_s: tuple[float, float] = (300.0, 1800.0)
    """The same where somebody has to do something. Cameras lock out whoever comes with a wrong
    password about five times in half an hour."""


class GstSource:
    """Runs one pipeline and hands out its frames. One thread at a time."""

    def __init__(
        self,
        description: str,
        source: Source,
        clock: CaptureClock,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        on_state: Callable[[State, str], None] = lambda state, why: None,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            description: the pipeline, see ``pipeline.build``.
            source: what it reads.
            clock: stamps the frames.
            limits: how long what may take.
            access: how it is reached; of a file only ``track`` matters.
            on_state: called with each change of state and why, from the reading thread.
        """
        self._description, self._source, self._clock = description, source, clock
        self._limits, self._access = limits or Limits(), access or Access()
        self._on_state = on_state
        self._transport = "tcp" if self._access.transport == "auto" else self._access.transport
        self._track = self._access.track
        self._refused = 0
        self._number = 0
        self._whole = 0
        self._frame_at = self._beat_at = time.monotonic()
        self._dropped: Counter[str] = Counter()
        self._now: Callable[[], dict[str, int]] = dict
        self._bounded: Bounded | None = None
        self.state = State.CONNECTING
        self.why = ""
        """What was last said of ``state``: of a lost camera the reason."""
        self.lost: Counter[str] = Counter()
        """Lost connections by reason, and ``hung``: pipelines that did not come down."""

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were not handed out, by reason.

        ``frame_overtaken``: of a live source, replaced before they could be read;
        ``frame_damaged``: not whole; ``frame_missing``: of a file, they never came;
        ``telemetry_torn``: packets of it beside the pictures, where they came and were not whole.
        """
        return {k: self._dropped[k] + n for k, n in {**_NONE, **self._now()}.items()}

    @property
    def condition(self) -> str:
        """``state``, or ``stalled`` where it says streaming and no frame comes."""
        quiet_s = time.monotonic() - self._frame_at
        if self._source.live and self.state is State.STREAMING and quiet_s > self._limits.stall_s:
            return "stalled"
        return self.state.value

    @property
    def clock_why(self) -> str:
        """Why frames have no better clock; empty where there is none."""
        return self._clock.why

    def silent_s(self) -> float:
        """For how long the reading thread has done nothing, not even waited for something."""
        return max(time.monotonic() - self._beat_at, 0.0)

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        """Whole frames in order, until the file ends or ``stop`` is set. The taker releases each.

        Raises:
            InputError: the file is missing, damaged or holds no video.
            PlatformError: GStreamer or a plugin that the file needs is missing.
            SkyreidError: GStreamer hangs again and again: the process is to be started anew.
        """
        if self._source.kind == "file":
            check_file(self._source.target)
        self._bounded = Bounded(stop)
        failed = 0
        while not stop.is_set():
            self._enter(State.CONNECTING, "")
            before = self._whole
            try:
                with closing(self._session(stop, self._bounded)) as session:
                    for frame in session:
                        if self._whole == before + 1:
                            self._enter(State.STREAMING, f"{frame.width}x{frame.height}")
                        yield frame
                break
            except Another as another:  # before anything was handed out
                self._track, self._number = another.track, 0
                continue
            except Lost as lost:
                if self._whole > before:
                    failed = self._refused = 0
                self.lost[lost.reason] += 1
                pause_s = self._after(lost, failed)
            if self._bounded.left >= LEFT_MAX:
                raise SkyreidError(
                    f"video {self._source.name}: {LEFT_MAX} pipelines hang inside GStreamer; the "
                    "process has to be started anew"
                )
            failed += 1
            self._clock.reconnected()
            self._beat_at = time.monotonic() + pause_s
            stop.wait(pause_s)
        self._enter(State.ENDED, f"{self._number} frames")

    def _after(self, lost: Lost, failed: int) -> float:
        """Say what a loss means and return the pause before the next connection, seconds."""
        self._refused = self._refused + 1 if lost.needs_human else 0
        if lost.reason == "transport" and self._access.transport == "auto":
            self._transport = "udp" if self._transport == "tcp" else "tcp"
            if self._refused == 1:
                self._enter(State.BACKOFF, f"{lost.reason}: trying {self._transport}")
                return 0.0
        state = State.REFUSED if lost.needs_human else State.BACKOFF
        times = self._refused - 1 if lost.needs_human else failed
        self._enter(state, f"{lost.reason}: {lost}")
        shortest, longest = self._limits.refused_s if lost.needs_human else self._limits.backoff_s
        return min(shortest * 2.0 ** min(times, 30), longest) * random.uniform(0.7, 1.3)

    def _enter(self, state: State, why: str) -> None:
        self.state, self.why = state, why
        self._on_state(state, why)

    def _session(self, stop: threading.Event, bounded: Bounded) -> Generator[Frame, None, None]:
        """One life of the pipeline. Ends at a file's end or at ``stop``."""
        gst, _, _ = load_gst()
        live, limits = self._source.live, self._limits
        pipeline = _parse(gst, self._description)
        container = Container(gst, pipeline, self._source, self._track)
        gate = Gate(gst, container.stamps, live=live)
        beside = KlvPad(gst, live=live)

        def attach(_bin: Any, _parent: Any, made: Any) -> None:
            gate.attach(made)
            beside.attach(made)

        pipeline.connect("deep-element-added", attach)
        link = None
        if live:
            access = replace(self._access, transport=self._transport, connect_s=limits.connect_s)
            kind = KINDS[self._source.kind]
            link = kind.connect(gst, pipeline, self._source, access, beside)
        sink = pipeline.get_by_name(SINK)
        arrived = taken = 0

        def count(pad: Any, info: Any) -> Any:
            nonlocal arrived
            arrived += 1
            return gst.PadProbeReturn.OK

        if live:
            sink.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, count)
        reader = Reader(self._clock, live=live)
        damaged = 0

        def left_out(waiting: int = 2) -> dict[str, int]:
            dropped = {}
            dropped["telemetry_torn"] = gate.torn
            dropped["frame_overtaken"] = max(arrived - taken - waiting, 0)
            dropped["frame_damaged"] = damaged + gate.held
            if gate.lossy and not live:
                dropped["frame_missing"] = max(reader.missing - gate.held_between, 0)
            return dropped

        self._now = left_out
        began = time.monotonic()
        whole_at: float | None = None
        try:
            self._beat_at = began + limits.connect_s  # it may be silent for so long
            if not bounded.call(lambda: pipeline.set_state(gst.State.PLAYING), limits.connect_s):
                raise Lost("hung", f"GStreamer does not start within {limits.connect_s:g} s")
            heard_at = began
            while not stop.is_set():
                sample = sink.try_pull_sample(_POLL_NS)
                self._beat_at = now = time.monotonic()
                if sample is not None:
                    if not taken:
                        _wait_for(lambda: container.settled, stop)
                        container.check()
                        reader.skipped_ns = container.skipped_ns or reader.skipped_ns
                    heard_at = now
                    self._number += 1
                    taken += 1
                    if reader.damaged(sample):
                        damaged += 1
                    else:
                        whole_at = self._frame_at = now
                        self._whole += 1
                        yield reader.frame(
                            sample,
                            self._number,
                            pipeline,
                            first_ns=gate.first_ns,
                            beside=beside.take if beside.found else None,
                        )
                        heard_at = time.monotonic()  # the taker's time is not a stall
                        continue
                else:
                    self._check_bus(gst, pipeline, container, link)
                    if sink.is_eos():
                        self._check_end(taken)
                        return
                    heard_at = max(heard_at, gate.arrived_at or began)
                self._check_time(
                    gate.began_at or (began if taken else None), began, whole_at, heard_at
                )
        finally:
            self._now = dict
            self._tear_down(gst, pipeline, bounded)
            if link is not None:
                link.forget()
            self._dropped.update(left_out(0))

    def _tear_down(self, gst: Any, pipeline: Any, bounded: Bounded) -> None:
        def down() -> None:
            pipeline.set_state(gst.State.NULL)
            pipeline.get_bus().set_flushing(True)  # messages hold references to elements
            pipeline.get_bus().set_sync_handler(None)  # and so does who listens

        self._beat_at = time.monotonic() + TEARDOWN_S
        if not bounded.call(down, TEARDOWN_S):
            self.lost["hung"] += 1

    def _check_bus(self, gst: Any, pipeline: Any, container: Container, link: Link | None) -> None:
        container.check()
        # No filter: a stream collection's type is not one bit, a mask would catch others with it.
        while (message := pipeline.get_bus().pop()) is not None:
            if message.type != gst.MessageType.ERROR:
                continue
            if link is None:
                raise_file_error(message, self._source, container, self._number)
            raise_lost(message, self._source, link, partial(self._ask, link))

    def _ask(self, link: Link) -> tuple[str, bool]:
        """Nothing where that does not come back: names are looked up in it."""
        answer: list[tuple[str, bool]] = []
        assert self._bounded is not None
        self._bounded.call(lambda: answer.append(link.ask()), TEARDOWN_S)
        return answer[0] if answer else ("", False)

    def _check_end(self, taken: int) -> None:
        """The stream is at its end.

        Raises:
            Lost: a live source has none.
            InputError: there was nothing in it.
        """
        if self._source.live:
            raise Lost("ended", "the server closed the stream")
        if not taken:
            raise InputError(f"video {self._source.name} holds no frame of video")

    def _check_time(
        self, arrived_at: float | None, began: float, whole_at: float | None, heard_at: float
    ) -> None:
        """Nothing came, or nothing whole.

        Raises:
            Lost: of a live source, what took too long.
            InputError: the file gives nothing any more.
        """
        now, limits = time.monotonic(), self._limits
        if not self._source.live:
            limit_s = max(limits.stall_s, _FILE_STALL_S) if self._number else limits.first_frame_s
            if now - heard_at > limit_s:
                raise InputError(
                    f"video {self._source.name} cannot be read: no further frame after "
                    f"{self._number}; is the file cut off?"
                )
        elif arrived_at is None:
            if now - began > limits.connect_s:
                raise Lost("silent", f"no picture within {limits.connect_s:g} s of connecting")
        elif now - heard_at > limits.stall_s:
            raise Lost("stalled", f"no frame for {limits.stall_s:g} s")
        elif now - (whole_at or arrived_at) > limits.first_frame_s:
            raise Lost(
                "damaged",
                f"no whole frame for {limits.first_frame_s:g} s: does the camera send key frames?",
            )


def _wait_for(done: Callable[[], bool], stop: threading.Event) -> None:
    """Wait a little for what GStreamer's threads are about to say."""
    end = time.monotonic() + _SETTLE_S
    while not done() and not stop.is_set() and time.monotonic() < end:
        time.sleep(0.01)


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
    try:
        mode = None if path.startswith("/dev/") else os.stat(path).st_mode
        if mode is None or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(
                f"video {path} is a device: cameras of this machine are not read, let one be "
                "served over the network and give its rtsp:// address"
            )
        if not stat.S_ISREG(mode):
            raise InputError(f"video {path} is not a file")
        with open(path, "rb") as stream:
            head = stream.read(1)
    except FileNotFoundError:
        raise InputError(f"video {path} does not exist") from None
    except OSError as error:
        raise InputError(f"video {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise InputError(f"video {path!r} cannot be read: {error}") from error
    if not head:
        raise InputError(f"video {path} is empty")
