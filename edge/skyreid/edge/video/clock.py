"""When a frame was captured: file time, the camera's own clock, or the time of arrival.

A camera says in RTCP sender reports which wall time belongs to which media time. Measured on
GStreamer 1.22: the first report comes 2 to 3 s after the connection, and single reports are off by
about 100 ms; so the offset is the median of the last reports, and a camera whose clock is far from
ours is not believed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol

from skyreid.contract.sighting import Clock

NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970 (Unix)."""

ARRIVAL_ERROR_MS = 100
"""What a camera takes to expose, encode and send a frame; nobody tells how long that is."""


class CaptureClock(Protocol):
    """Stamps the frames of one source in order."""

    def stamp(self, pts_ns: int, sender_ns: int | None, arrived_at_ns: int) -> Stamp:
        """See ``LiveClock.stamp``."""
        ...

    def reconnected(self) -> None:
        """See ``LiveClock.reconnected``."""
        ...


@dataclass(frozen=True)
class Stamp:
    """A frame's capture time and how much it can be trusted."""

    captured_at_ns: int
    clock: Clock
    error_ms: int


class FileClock:
    """Start of the file plus presentation time: the same at every run."""

    def __init__(self, start_ns: int, error_ms: int = 0) -> None:
        """``error_ms``: how far off ``start_ns`` may be; ``CLOCK_UNKNOWN_MS`` = nobody knows."""
        self._start_ns, self._error_ms, self._last_ns = start_ns, error_ms, 0

    def reconnected(self) -> None:
        """A file is opened once."""

    def stamp(self, pts_ns: int, sender_ns: int | None, arrived_at_ns: int) -> Stamp:
        """Stamp one frame; only ``pts_ns``, the time since the start of the file, matters."""
        del sender_ns, arrived_at_ns
        # A broken file may repeat a time stamp; capture times must increase.
        self._last_ns = max(self._start_ns + pts_ns, self._last_ns + 1)
        return Stamp(self._last_ns, Clock.FILE, self._error_ms)


class LiveClock:
    """The camera's clock where it says it, else the time of arrival."""

    def __init__(
        self,
        *,
        window: int = 8,
        step_ms: int = 250,
        confirm: int = 3,
        trust_s: float = 60.0,
    ) -> None:
        """Set up.

        Args:
            window: sender reports in the median.
            step_ms: a report farther than this from the median is ignored ...
            confirm: ... unless this many in a row say so.
            trust_s: a camera's clock farther than this from ours is not used.
        """
        self._step_ns, self._confirm = step_ms * 1_000_000, confirm
        self._trust_ns = int(trust_s * 1e9)
        self._offsets: deque[int] = deque(maxlen=window)
        self._strange: list[int] = []
        self._last_report: int | None = None
        self._last_ns = 0
        self._last_pts_ns: int | None = None
        self.refused = 0
        """Frames whose camera clock was too far from ours."""

    def reconnected(self) -> None:
        """Forget the offsets: media time starts anew with every connection."""
        self._offsets.clear()
        self._strange.clear()
        self._last_report = None
        self._last_pts_ns = None

    def stamp(self, pts_ns: int, sender_ns: int | None, arrived_at_ns: int) -> Stamp:
        """Stamp one frame.

        Args:
            pts_ns: media time of the frame.
            sender_ns: the same moment on the camera's clock (UTC), where it is known.
            arrived_at_ns: UTC time at which the frame reached this machine.
        """
        if sender_ns is not None and abs(sender_ns - arrived_at_ns) > self._trust_ns:
            self.refused += 1
            sender_ns = None
        if sender_ns is not None:
            self._report(sender_ns - pts_ns)
        if self._offsets:
            wanted = pts_ns + median_low(self._offsets)
            spread = max(self._offsets) - min(self._offsets)
            clock, error_ms = Clock.RTCP, max(1, spread // 2_000_000)
        else:
            wanted, clock, error_ms = arrived_at_ns, Clock.ARRIVAL, ARRIVAL_ERROR_MS
        # Where time would have to go back it goes on at half its pace until it is right again, and
        # says how wrong it is: were it to stand still, nothing would seem to happen meanwhile.
        passed = 0 if self._last_pts_ns is None else max(pts_ns - self._last_pts_ns, 0)
        self._last_pts_ns = pts_ns
        self._last_ns = max(wanted, self._last_ns + 1 + passed // 2)
        return Stamp(self._last_ns, clock, error_ms + (self._last_ns - wanted) // 1_000_000)

    def _report(self, offset: int) -> None:
        # Between two reports every frame carries the same offset, give or take rounding.
        if self._last_report is not None and abs(offset - self._last_report) < 100_000:
            return
        self._last_report = offset
        if self._offsets and abs(offset - median_low(self._offsets)) > self._step_ns:
            self._strange.append(offset)
            if len(self._strange) < self._confirm:
                return
            self._offsets.clear()
            self._offsets.extend(self._strange)
        else:
            self._offsets.append(offset)
        self._strange.clear()
