"""When a frame was captured: file time, the camera's own clock, or the time of arrival.

A camera says in RTCP sender reports which wall time belongs to which media time. Measured on
GStreamer 1.22: the first report comes 2 to 3 s after the connection, and single reports are off by
about 100 ms; so the offset is the median of the last reports. Whether the camera's wall time is
right nobody says. What is known is when a frame arrived: it was captured before, and not long
before. A camera clock that says otherwise is not believed, and one that is believed may be wrong by
as much as the quickest frame took.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol

from skyreid.contract.sighting import CLOCK_UNKNOWN_MS, Clock

NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970 (Unix)."""

ARRIVAL_ERROR_MS = 100
"""What a camera takes to expose, encode and send a frame; nobody tells how long that is."""

_JITTER_NS = 150_000_000
"""A single report, or a frame that came in a burst, may seem to come from so far in the future."""
_SET_BACK_NS = 250_000_000
"""A frame that arrived by so much before its turn did so by a clock that was set back."""
_MS = 1_000_000
_BACK_NS = 1_000_000_000
"""Time of a file that goes back farther than this begins anew."""
_NO_REPORT = "the camera says no time"


class CaptureClock(Protocol):
    """Stamps the frames of one source in order."""

    why: str
    """Why it is not a better clock; empty where there is none."""

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

    why = ""

    def __init__(self, start_ns: int, error_ms: int = 0) -> None:
        """``error_ms``: how far off ``start_ns`` may be; ``CLOCK_UNKNOWN_MS`` = nobody knows."""
        self._start_ns, self._error_ms = start_ns, error_ms
        self._last_ns: int | None = None
        self._last_pts_ns = 0
        self._period_ns = _JITTER_NS

    def reconnected(self) -> None:
        """A file is opened once."""

    def stamp(self, pts_ns: int, sender_ns: int | None, arrived_at_ns: int) -> Stamp:
        """Stamp one frame; only ``pts_ns``, the time since the file's first frame, matters."""
        del sender_ns, arrived_at_ns
        last_ns, passed_ns = self._last_ns, pts_ns - self._last_pts_ns
        self._last_pts_ns = pts_ns
        wanted = self._start_ns + pts_ns
        stamped = wanted
        if last_ns is not None:
            if 0 < passed_ns <= _BACK_NS:
                self._period_ns = passed_ns
            if wanted < last_ns - _BACK_NS:  # videos one behind the other: time begins anew
                self._start_ns += last_ns + self._period_ns - wanted
                wanted = stamped = last_ns + self._period_ns
            # A broken file repeats a time stamp or goes back a little. Capture times must increase,
            # and were they to stand still nobody would seem to move: half a frame at a time, until
            # it is right again.
            stamped = max(
                wanted, last_ns + max(self._period_ns // 2, 1) if wanted <= last_ns else 0
            )
        self._last_ns = stamped
        return _stamp(stamped, Clock.FILE, self._error_ms + (stamped - wanted) // _MS)


class LiveClock:
    """The camera's clock where it says it and can be believed, else the time of arrival."""

    def __init__(
        self,
        *,
        window: int = 8,
        step_ms: int = 250,
        confirm: int = 3,
        trust_s: float = 2.0,
    ) -> None:
        """Set up.

        Args:
            window: sender reports in the median.
            step_ms: a report farther than this from the median is ignored ...
            confirm: ... unless this many in a row say so.
            trust_s: no frame takes longer than this from the camera to here: a clock that says
                that it did is behind, and is not used.
        """
        self._step_ns, self._confirm = step_ms * _MS, confirm
        self._trust_ns = int(trust_s * 1e9)
        self._offsets: deque[int] = deque(maxlen=window)
        self._strange: list[tuple[int, bool]] = []
        self._last_report: int | None = None
        self._last_ns = 0
        self._last_pts_ns: int | None = None
        self._arrived_ns: int | None = None
        self._ahead_ns = 0
        self._quickest_ns: int | None = None
        self.refused = 0
        """Frames whose camera clock was not believed."""
        self.why = _NO_REPORT

    def reconnected(self) -> None:
        """Forget the offsets: media time starts anew with every connection."""
        self._offsets.clear()
        self._strange.clear()
        self._last_report = None
        self._last_pts_ns = None
        self._quickest_ns = None
        self.why = _NO_REPORT

    def stamp(self, pts_ns: int, sender_ns: int | None, arrived_at_ns: int) -> Stamp:
        """Stamp one frame.

        Args:
            pts_ns: media time of the frame.
            sender_ns: the same moment on the camera's clock (UTC), where it is known.
            arrived_at_ns: UTC time at which the frame reached this machine.
        """
        if sender_ns is not None:
            took_ns = arrived_at_ns - sender_ns
            possible = -_JITTER_NS <= took_ns <= self._trust_ns
            self._report(sender_ns - pts_ns, possible=possible)
            if not possible:
                self.refused += 1
                where = "behind" if took_ns > 0 else "ahead of"
                self.why = f"the camera's clock is {abs(took_ns) / 1e9:.1f} s {where} the arrival"
        if self._offsets:
            wanted = pts_ns + median_low(self._offsets)
            took_ns = max(arrived_at_ns - wanted, 0)
            self._quickest_ns = min(took_ns, self._quickest_ns or took_ns)
            spread = max(self._offsets) - min(self._offsets)
            # Behind by at most what the quickest frame seemed to take; ahead by at most what it
            # must have taken.
            unknown_ms = self._quickest_ns // _MS
            error_ms = spread // (2 * _MS) + max(unknown_ms, ARRIVAL_ERROR_MS - unknown_ms)
            clock, self.why = Clock.RTCP, ""
        else:
            wanted, clock, error_ms = arrived_at_ns, Clock.ARRIVAL, ARRIVAL_ERROR_MS
        # Where time would have to go back it goes on at half its pace until it is right again, and
        # says how wrong it is: were it to stand still, nothing would seem to happen meanwhile.
        # Never beyond the arrival, but by the nanosecond that keeps times apart; and by what this
        # machine's own clock was set back, less half of the time since.
        passed = 0 if self._last_pts_ns is None else max(pts_ns - self._last_pts_ns, 0)
        self._last_pts_ns = pts_ns
        if self._arrived_ns is not None:
            back_ns = self._arrived_ns + passed - arrived_at_ns
            self._ahead_ns += back_ns if back_ns > _SET_BACK_NS else 0
        self._arrived_ns = arrived_at_ns
        self._ahead_ns = max(self._ahead_ns - passed // 2, 0)
        latest_ns = arrived_at_ns + self._ahead_ns
        paced = min(max(wanted, self._last_ns + 1 + passed // 2), latest_ns)
        self._last_ns = max(paced, self._last_ns + 1)
        return _stamp(self._last_ns, clock, error_ms + abs(self._last_ns - wanted) // _MS)

    def _report(self, offset: int, *, possible: bool) -> None:
        # Between two reports every frame carries the same offset, give or take rounding.
        if self._last_report is not None and abs(offset - self._last_report) < 100_000:
            return
        self._last_report = offset
        if self._offsets and (
            not possible or abs(offset - median_low(self._offsets)) > self._step_ns
        ):
            self._strange.append((offset, possible))
            if len(self._strange) < self._confirm:
                return
            self._offsets.clear()
            self._quickest_ns = None
            self._offsets.extend(strange for strange, may_be in self._strange if may_be)
        elif possible:
            self._offsets.append(offset)
        self._strange.clear()


def _stamp(captured_at_ns: int, clock: Clock, error_ms: int) -> Stamp:
    return Stamp(captured_at_ns, clock, min(error_ms, CLOCK_UNKNOWN_MS))
