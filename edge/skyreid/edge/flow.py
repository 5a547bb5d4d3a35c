"""Every thread, every queue and every drop counter of the device.

::

    file:  decoder ─(4 frames, waits)─► main thread: look ─┐
    live:  decoder ─► reader thread ─(1, newest wins)─► main thread: look ─┤
                                                  inbox (256 frames' worth, waits) ─► sender thread:
                                            spool ─► outbox ─► paho's thread
           paho's thread ─(events, unbounded but few)─► inbox

The main thread detects, tracks and embeds. The sender thread owns spool and outbox: it writes what
came in as one group, then sends. Nothing that was said is ever dropped in memory.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from skyreid.contract.device import Health, SpoolHealth
from skyreid.contract.errors import MessageError, SkyreidError
from skyreid.contract.picture import Picture, decode_picture_request
from skyreid.contract.receipt import Range
from skyreid.contract.sighting import Clock, ModelRef
from skyreid.edge.delivery.connection import Down, Event, PictureWanted, Received, Taken, Up
from skyreid.edge.delivery.outbox import Outbox
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.drops import Drops
from skyreid.edge.sighter import Said
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.newest import Newest, Source

log = logging.getLogger(__name__)

GROUP_S = 0.03
"""Sightings wait this long for others, to share one fsync ..."""
GROUP_MAX = 32
"""... or until there are this many."""
_TICK_S = 0.1
_REQUESTS_MAX = 32
"""Requests for pictures that wait at once; more are counted and forgotten."""
_WAITING_MAX = 256


class Looker(Protocol):
    """See ``sighter.Sighter``."""

    def look(self, frame: Frame) -> Said:
        """Take in one frame."""
        ...

    def finish(self) -> Said:
        """The video is over."""
        ...


class Stop:
    """How the run is asked to end; set from a signal handler or another thread."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.hurry = threading.Event()
        self.asked_at: float | None = None
        """When somebody asked first, monotonic seconds."""

    def ask(self) -> None:
        """End in good order; asked twice, do not wait for receipts."""
        if self.asked_at is None:
            self.asked_at = time.monotonic()
        elif self.asked.is_set():
            self.hurry.set()
        self.asked.set()


@dataclass(frozen=True)
class FlowOptions:
    """How the run goes."""

    live: bool = False
    """Newest frame wins; else every frame is looked at."""
    fps_max: float = 0.0
    """Frames per second of capture time that are looked at; 0 = all."""
    real_pace: bool = False
    """A file at the speed at which it was filmed."""
    drain_timeout_s: float = 30.0
    stop_timeout_s: float = 5.0
    health_period_s: float = 30.0
    pictures_wanted: bool = False
    """Pictures are sent without being asked for."""
    pictures_allowed: bool = False
    progress: bool = False
    """Say on stderr how far a file is."""


@dataclass
class Outcome:
    """How the run went, also while it goes."""

    frames: int = 0
    looked: int = 0
    sightings: int = 0
    people: int = 0
    seconds: float = 0.0
    remaining: int = 0
    """Sightings without a receipt at the end; the next run delivers them."""
    clock: Clock | None = None
    clock_error_ms: int = 0
    rounds: int = 0  # of the sender: it goes on


@dataclass(frozen=True)
class _Ended:
    """Nothing more will be said."""

    wait_s: float


class Flow:
    """Runs one device from the first frame to the last receipt."""

    def __init__(
        self,
        source: Source,
        looker: Looker,
        spool: Spool,
        outbox: Outbox,
        model: ModelRef,
        options: FlowOptions,
        *,
        send_health: Callable[[Health], None] = lambda report: None,
    ) -> None:
        """Set up.

        Args:
            source: where frames come from.
            looker: what makes sightings of them.
            spool: where sightings are kept until their receipt.
            outbox: what sends them.
            model: what made their embeddings.
            options: how the run goes.
            send_health: takes a report every so often, while connected.
        """
        self._source, self._looker = source, looker
        self._spool, self._outbox, self._model = spool, outbox, model
        self._options, self._send_health = options, send_health
        self._inbox: queue.SimpleQueue[Said | Event | _Ended] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(_WAITING_MAX)
        self._requests = threading.BoundedSemaphore(_REQUESTS_MAX)
        self._stop = Stop()
        self._failure: BaseException | None = None
        self.on_stored: Callable[[Sequence[Row]], None] | None = None
        """Takes sightings once they are on disk: now they are said."""
        self.drops = Drops()
        self.outcome = Outcome()
        self.left_behind = False
        """Whether a thread hangs inside GStreamer for good."""

    def notify(self, event: Event) -> None:
        """Take an event of the connection; any thread, never blocks."""
        if isinstance(event, PictureWanted) and not self._requests.acquire(blocking=False):
            self.drops.tell("picture_request_flood")
            return
        self._inbox.put(event)

    def run(self, stop: Stop) -> Outcome:
        """Run until the file ends or a stop is asked for, and deliver what can be delivered.

        Raises:
            SkyreidError: the source cannot be read or the spool cannot be written; what was seen
                before is spooled, and sent as far as possible.
        """
        self._stop = stop
        began = time.monotonic()
        sender = threading.Thread(target=self._guarded_send, name="sender", daemon=True)
        sender.start()
        broken: BaseException | None = None
        try:
            self._look_at_all(began)
        except BaseException as error:
            broken = error
        try:
            if self._failure is None:
                self._say(self._looker.finish())
        finally:
            asked = stop.asked.is_set() or broken is not None
            wait_s = self._options.stop_timeout_s if asked else self._options.drain_timeout_s
            self._inbox.put(_Ended(wait_s))
            sender.join()
            self.outcome.seconds = time.monotonic() - began
        if self._failure is not None:
            raise self._failure
        if broken is not None:
            raise broken
        return self.outcome

    # --- main thread: frames to sightings ---------------------------------------------------------

    def _look_at_all(self, began: float) -> None:
        options, outcome, stop = self._options, self.outcome, self._stop.asked
        newest = Newest(self._source, stop, lambda: self.drops.add("frame_overtaken"))
        frames = newest.frames() if options.live else self._source.frames(stop)
        first_ns = due_ns = 0
        told_at = began
        try:
            for frame in frames:
                try:
                    outcome.frames = frame.number
                    outcome.clock, outcome.clock_error_ms = frame.clock, frame.clock_error_ms
                    first_ns = first_ns or frame.captured_at_ns
                    if options.fps_max:
                        period_ns = int(1e9 / options.fps_max)
                        if frame.captured_at_ns < due_ns - period_ns // 10:  # time stamps jitter
                            self.drops.add("fps_max")
                            continue
                        behind = not due_ns or frame.captured_at_ns - due_ns > period_ns
                        due_ns = (frame.captured_at_ns if behind else due_ns) + period_ns
                    if options.real_pace and not options.live:
                        ahead_s = (frame.captured_at_ns - first_ns) / 1e9
                        stop.wait(max(began + ahead_s - time.monotonic(), 0.0))
                    said = self._looker.look(frame)
                finally:
                    frame.release()
                outcome.looked += 1
                outcome.people = said.people
                if not said.placed:
                    self.drops.add("place_unknown")
                if said.cut:
                    self.drops.add("track_cut", said.cut)
                if said.fault:
                    self.drops.tell("telemetry_bad", note=said.fault)
                self._say(said)
                if options.progress:
                    told_at = self._tell(began, told_at)
        finally:
            frames.close()
            self.left_behind = newest.left_behind

    def _say(self, said: Said) -> None:
        """Hand over to the sender; waits while it is too far behind."""
        while not self._room.acquire(timeout=0.5):
            if self._failure is not None:
                raise self._failure
        self.outcome.sightings += len(said.rows)
        self._inbox.put(said)

    def _tell(self, began: float, told_at: float) -> float:
        """Progress, at most once a second; on a pipe one line in ten seconds."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - told_at < (1.0 if terminal else 10.0):
            return told_at
        o = self.outcome
        line = (
            f"frames={o.frames} fps={o.looked / (now - began):.1f} people={o.people} "
            f"sightings={o.sightings}"
        )
        if terminal:
            sys.stderr.write(f"\r{line:<78}")
            sys.stderr.flush()
        else:
            log.info("progress %s", line)
        return now

    # --- sender thread: sightings to the broker ---------------------------------------------------

    def _send(self) -> None:
        health_at = time.monotonic() + min(1.0, self._options.health_period_s)
        deadline: float | None = None
        while True:
            self.outcome.rounds += 1
            rows: list[Row] = []
            pictures: list[tuple[Picture, bool]] = []
            settled: list[tuple[str, Range]] = []
            for item in self._gather():
                if isinstance(item, Said):
                    self._room.release()
                    rows.extend(item.rows)
                    pictures.extend((p, self._options.pictures_wanted) for p in item.pictures)
                    self._outbox.watermark_ns = item.watermark_ns
                elif isinstance(item, _Ended):
                    deadline = time.monotonic() + item.wait_s
                elif isinstance(item, Received):
                    settled.extend(self._outbox.receipt(item.receipt))
                else:
                    self._handle(item)
            if rows or settled or pictures:
                dropped = self._spool.append(rows, self._model, pictures, settled)
                if self.on_stored is not None and "spool_unwritten" not in dropped:
                    self.on_stored(rows)
                if dropped:
                    self.drops.take(dropped)
            self._outbox.pump()
            if self._outbox.dropped:
                self.drops.take(self._outbox.dropped)
            now = time.monotonic()
            if now >= health_at and self._outbox.connected:
                health_at = now + self._options.health_period_s
                self._send_health(self.report())
            if deadline is not None:
                if (
                    self._stop.asked_at is not None
                ):  # also one that came while the end was waited for
                    deadline = min(deadline, self._stop.asked_at + self._options.stop_timeout_s)
                done = self._outbox.idle
                if done or now >= deadline or self._stop.hurry.is_set():
                    self.outcome.remaining = self._spool.count()
                    return

    def _gather(self) -> list[Said | Event | _Ended]:
        """Wait for something; then for what else comes within the time of a group."""
        try:
            items = [self._inbox.get(timeout=_TICK_S)]
        except queue.Empty:
            return []
        until = time.monotonic() + GROUP_S
        waiting = 0
        while True:
            last = items[-1]
            waiting += len(last.rows) if isinstance(last, Said) else 0
            # Without a sighting to group there is no reason to hold anything back.
            left = until - time.monotonic() if 0 < waiting < GROUP_MAX else 0.0
            try:
                items.append(
                    self._inbox.get(timeout=left) if left > 0 else self._inbox.get_nowait()
                )
            except queue.Empty:
                return items
            if len(items) >= _WAITING_MAX:
                return items

    def _handle(self, event: Event) -> None:
        if isinstance(event, Up):
            self._outbox.up(event.link)
        elif isinstance(event, Down):
            self._outbox.down()
        elif isinstance(event, Taken):
            self._outbox.acknowledged(event.message)
        elif isinstance(event, PictureWanted):
            self._requests.release()
            if not self._options.pictures_allowed:
                self.drops.tell("picture_refused", note="the site's policy is never")
                return
            try:
                request = decode_picture_request(event.payload)
            except MessageError as error:
                self.drops.tell("picture_request_bad", note=str(error))
                return
            if not self._spool.want_picture(request):
                self.drops.tell("picture_not_kept", note=str(request))

    def left_out(self) -> dict[str, int]:
        """What was left out until now, by reason, in the source too."""
        return dict(sorted((Counter(self.drops.all()) + Counter(self._source.dropped)).items()))

    def report(self) -> Health:
        """What this side knows of ``health``: how much, drops, spool, clock."""
        o, stats = self.outcome, self._spool.stats()
        return Health(
            frames=o.frames,
            people=o.people,
            sightings=o.sightings,
            dropped=self.left_out(),
            spool=SpoolHealth(
                sightings=stats.sightings,
                bytes=stats.bytes,
                oldest_age_s=round(stats.oldest_age_s, 1),
                clock_steps=self._spool.clock_steps or None,
            ),
            clock=None if o.clock is None else o.clock.name.lower(),
            clock_error_ms=o.clock_error_ms,
        )

    def _guarded_send(self) -> None:
        """What the sender raises ends the run and is raised by ``run``."""
        try:
            self._send()
        except BaseException as error:
            if not isinstance(error, SkyreidError):
                log.exception("the sender died")
            self._failure = error
            self._stop.asked.set()
