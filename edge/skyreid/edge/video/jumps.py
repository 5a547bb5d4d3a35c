"""What a transport stream's own time skips, which GStreamer folds to half a second.

A recording of a link that was away for 30 s goes on with time stamps 30 s later. GStreamer takes
that for another clock and joins both parts, so all that follows would be 30 s too early.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from skyreid.edge.video.stamps import WRAP, Stamps, pid_of

log = logging.getLogger(__name__)

JUMP_MAX_S = 3600.0
"""What jumps farther, or back, is taken for another recording, joined to this one."""
_JUMP_NS = 1_000_000_000
_NO_TIME = (1 << 64) - 1


class Jumps:
    """Compares the time stamps of one demuxer's pictures before and after it."""

    def __init__(self, gst: Any, demuxer: Any, stamps: Stamps, name: str) -> None:
        """Watch a ``tsdemux`` that has not been started; ``name`` of the video is for the log."""
        self._gst, self._stamps, self._name = gst, stamps, name
        self._ahead: dict[str, int] = {}
        self._latest: dict[str, int] = {}
        self._found: deque[str] = deque()
        self._jumps: dict[str, list[tuple[int, int]]] = {}
        demuxer.connect("pad-added", self._attach)

    def skipped_ns(self, stream_id: str, pts: int) -> int:
        """What the stream's time had skipped before a picture of GStreamer's time ``pts``."""
        while (
            self._found
        ):  # said by the reading thread: a log makes a thread of GStreamer's Python's
            log.warning("%s", self._found.popleft())
        return skipped(self._jumps.get(stream_id, ()), pts)

    def _attach(self, _demuxer: Any, pad: Any) -> None:
        if (pid := pid_of(pad)) is not None:
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._compare, pid)

    def _compare(self, pad: Any, info: Any, pid: int) -> Any:
        pts, ticks = info.get_buffer().pts, self._stamps.of(pid)
        if pts == _NO_TIME or ticks is None:
            return self._gst.PadProbeReturn.OK
        stream_id = pad.get_stream_id()
        ahead = (ticks - pts * 9 // 100_000) % WRAP
        before = self._ahead.setdefault(stream_id, ahead)
        latest = self._latest.get(stream_id, 0)
        self._latest[stream_id] = max(pts, latest)
        by_ns = ((ahead - before + WRAP // 2) % WRAP - WRAP // 2) * 100_000 // 9
        if abs(by_ns) > _JUMP_NS:
            self._ahead[stream_id] = ahead
            # Where GStreamer's own time goes back it has folded nothing.
            joined = not 0 < by_ns <= JUMP_MAX_S * 1e9 or pts < latest
            jumps = self._jumps.setdefault(stream_id, [])
            jumps.append((pts, skipped(jumps, pts) + (0 if joined else by_ns)))
            taken_for = "another one that was joined" if joined else "pictures that are missing"
            self._found.append(
                f"video {self._name}: its time jumps by {by_ns / 1e9:.1f} s at {pts / 1e9:.1f} s: "
                f"taken for {taken_for}"
            )
        return self._gst.PadProbeReturn.OK


def skipped(jumps: Sequence[tuple[int, int]], pts: int) -> int:
    """The latest of (from this time on, so much was skipped), all ns, that holds at a time."""
    return next((total for since, total in reversed(jumps) if pts >= since), 0)
