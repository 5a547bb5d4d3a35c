"""One life of `reidembed`, from its start to its stop: models, a thread, whoever is followed."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skyreid.contract.sighting import CLOCK_UNKNOWN_MS, Kind, Sighting
from skyreid.edge.element import messages
from skyreid.edge.element.options import Opened, open_models, read_options
from skyreid.edge.element.regions import detections_of, readable, regions_of
from skyreid.edge.element.worker import Worker
from skyreid.edge.sighter import Seen
from skyreid.edge.video.clock import CaptureClock, FileClock, LiveClock
from skyreid.edge.video.frame import Frame, Reader
from skyreid.edge.video.platform import load_element_base, load_gst

log = logging.getLogger(__name__)

QUIET = 100
"""Frames without anybody's detections, after which that is said."""
_DETECTOR = "detector"
_NO_TIME = (1 << 64) - 1  # GST_CLOCK_TIME_NONE


@dataclass(frozen=True)
class _Handed:
    """A buffer with its caps and segment, as an appsink would hand it out."""

    buffer: Any
    caps: Any
    segment: Any

    def get_buffer(self) -> Any:
        return self.buffer

    def get_caps(self) -> Any:
        return self.caps

    def get_segment(self) -> Any:
        return self.segment


class Session:
    """One life of the element, from its start to its stop: models, thread, whoever is followed."""

    def __init__(self, element: Any, said: Mapping[str, Any]) -> None:
        """Open the models.

        Args:
            element: that pictures come to, and that posts the messages.
            said: its properties.

        Raises:
            SkyreidError: a property, a bundle or this machine does not allow it.
        """
        self._element = element
        self._gst, _, _ = load_gst()
        self.options = read_options(said)
        opened: list[Opened] = []

        def close() -> None:
            for models in opened:
                models.close()

        def cut() -> None:
            for models in opened:
                models.cut()

        self.worker: Worker[Opened | Seen] = Worker(close, cut)
        try:
            opened.append(_opened(self.worker.do(lambda: open_models(self.options))))
        except BaseException:
            self.worker.end()
            raise
        self.opened = opened[0]
        self.model_key = self.opened.model.key
        self.caps: Any = None
        self.found = "" if self.opened.brought is not None else _DETECTOR
        self.counts = Counter({"frames": 0, "looked": 0, "sightings": 0})
        self.stated: dict[int, Sighting] = {}
        self._start_ns: int = said["start-ns"] or time.time_ns()
        self._error_ms = 0 if said["start-ns"] else CLOCK_UNKNOWN_MS
        self._live: bool | None = None
        self._reader: Reader | None = None
        self._anew = self._told_quiet = False
        self._told: set[str] = set()
        if self.found:
            self._post_found()

    def take(self, buffer: Any, segment: Any) -> None:
        """Look at a buffer's picture, and put onto it who is in it.

        Raises:
            Left: the stream is flushed or goes down meanwhile.
            SkyreidError: the model cannot do it.
        """
        handed = _Handed(buffer, self.caps, segment)
        reader = self._reader or self._begin()
        self.counts["frames"] += 1
        if reader.damaged(handed):
            self._drop("frame_damaged", "the decoder says that it is not whole")
            return
        number = self.counts["frames"]
        first_ns = None if self._live else 0
        frame = reader.frame(handed, number, self._element, first_ns=first_ns, beside=None)
        size = frame.width, frame.height
        self._bring(buffer, frame)
        seen = self._ask(lambda: self._look(frame))
        self.counts["looked"] += 1
        self.counts["track_cut"] += seen.cut
        self._say(seen, self._times(buffer, segment))
        if not messages.put_people(
            buffer,
            self.opened.follower.tracks,
            self.stated,
            frame_size=size,
            model_key=self.model_key,
        ):
            self._drop("meta_refused", "GStreamer does not let the buffer be written to")

    def finish(self) -> None:
        """The stream is over: the last word about everybody."""
        if self._reader is not None:
            self._say(self._ask(self.opened.follower.restart), {})

    def flushed(self) -> None:
        """What comes is from another time: nobody is followed into it."""
        self._anew, self._reader = True, None
        self.worker.stay()

    def stats(self) -> dict[str, int]:
        """How much, and what was left out by reason."""
        return dict(sorted({**self.counts, "left": self.worker.left}.items()))

    def _begin(self) -> Reader:
        if self._live is None:
            self._live = self._is_live()
        clock: CaptureClock = (
            LiveClock() if self._live else FileClock(self._start_ns, self._error_ms)
        )
        self._reader = Reader(clock, live=self._live)
        return self._reader

    def _is_live(self) -> bool:
        query = self._gst.Query.new_latency()
        known = self._element.get_static_pad("sink").peer_query(query)
        return bool(known and query.parse_latency()[0] and self._element.get_clock() is not None)

    def _bring(self, buffer: Any, frame: Frame) -> None:
        """Read the detections that the buffer carries."""
        found, regions = regions_of(hash(buffer))
        if self.opened.brought is None:
            if found and "unused" not in self._told:
                self._told.add("unused")
                self._warn(f"buffers carry {found}, which is not used: property detector is set")
            return
        people, left = detections_of(
            regions, self.options.labels, width=frame.width, height=frame.height
        )
        for why, count in left.items():
            labels = ", ".join(sorted({r.label for r in regions}))
            self._drop(f"region_{why}", f"of {labels}; property labels says who is a person", count)
        self.opened.brought.detections = people
        if found and found != self.found:
            self.found = found
            self._post_found()
        elif not self.found and self.counts["frames"] >= QUIET and not self._told_quiet:
            self._told_quiet = True
            self._warn(
                f"none of {QUIET} buffers carried detections ({', '.join(readable())}): put a "
                "detector that writes them ahead of it, or set property detector"
            )

    def _post_found(self) -> None:
        structure = self._gst.Structure.new_empty(messages.DETECTIONS)
        structure.set_value("from", self.found)
        structure.set_value("gstreamer", self._gst.version_string())
        structure.set_value("readable", ", ".join(readable()))
        self._post(structure)
        log.info("%s: detections from %s", self._element.get_name(), self.found)

    def _look(self, frame: Frame) -> Seen:
        try:
            before: Seen | None = None
            if self._anew:
                self._anew = False
                before = self.opened.follower.restart()
            seen = self.opened.follower.look(frame)
        finally:
            frame.release()
        if before is None:
            return seen
        return replace(seen, statements=before.statements + seen.statements)

    def _ask(self, call: Callable[[], Seen]) -> Seen:
        seen = self.worker.do(call)
        assert isinstance(seen, Seen)
        return seen

    def _say(self, seen: Seen, times: dict[str, int]) -> None:
        for statement in seen.statements:
            said = statement.sighting
            self.counts["sightings"] += 1
            if said.kind is Kind.END:
                self.stated.pop(said.track, None)
            else:
                self.stated[said.track] = said
            self._post(messages.sighting_structure(said, self.model_key, times))

    def _times(self, buffer: Any, segment: Any) -> dict[str, int]:
        pts, form = buffer.pts, self._gst.Format.TIME
        if pts == _NO_TIME:
            return {}
        times = {"pts-ns": pts, "running-time-ns": segment.to_running_time(form, pts)}
        times["stream-time-ns"] = segment.to_stream_time(form, pts)
        return {name: int(value) for name, value in times.items() if value != _NO_TIME}

    def _post(self, structure: Any) -> None:
        self._element.post_message(self._gst.Message.new_element(self._element, structure))

    def _drop(self, reason: str, why: str, count: int = 1) -> None:
        self.counts[reason] += count
        if reason not in self._told:
            self._told.add(reason)
            self._warn(f"left out: {reason}, {why}; said once, counted in property stats")

    def _warn(self, text: str) -> None:
        _, _, glib = load_element_base()
        error = glib.Error.new_literal(
            self._gst.stream_error_quark(), text, int(self._gst.StreamError.FAILED)
        )
        self._element.post_message(self._gst.Message.new_warning(self._element, error, ""))


def _opened(made: Opened | Seen) -> Opened:
    assert isinstance(made, Opened)
    return made
