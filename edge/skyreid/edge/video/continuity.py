"""Packets of a transport stream that did not come, told to the gate before the decoders.

GStreamer's demultiplexer (1.22) drops what lacks a packet and hands out the next picture as if
nothing were missing: it is decoded from one that nobody has. Each packet has a counter of four bits
for its stream (ISO/IEC 13818-1, 2.4.3.3); where one is skipped, whatever is handed out next of that
stream may lack something, and what follows depends on it. So it is where a picture should begin and
does not. A file loses packets as a link does: it is what somebody recorded of one.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Any

from skyreid.edge.video.stamps import Stamps, pid_of

_SIZE = 188
_LONG_SIZE = 192
"""With a time of four bytes before it, as some have it on a disk."""
_SYNC = 0x47
_NO_PID = 0x1FFF
_TABLES = 32
"""Streams below it are tables of the stream itself."""
_BEGINNING = b"\0\0\1"
"""Of whatever a packet says that it begins, but for tables."""
_NO_OFFSET = (1 << 64) - 1
_WAITING_MAX = 256
"""Pictures of one stream that were begun and have not been handed out; sound is never asked for."""


class State(enum.Enum):
    """How a picture was carried."""

    WHOLE = "whole"
    AFTER = "after"
    """It is whole, and something before it is missing."""
    TORN = "torn"


@dataclass
class _Begun:
    ticks: int | None
    state: State
    ended: bool = False
    """Its latest packet was filled up, which only the last one is."""


class Continuity:
    """Watches one ``tsdemux``. Its probes run in the thread that reads."""

    def __init__(self, gst: Any, demuxer: Any, stamps: Stamps, *, found: dict[int, State]) -> None:
        """Watch a demultiplexer that has not been started.

        Args:
            gst: GStreamer.
            demuxer: the element.
            stamps: those of its pictures.
            found: takes, by GStreamer's time, pictures that are torn or follow what is missing.
        """
        self._gst, self._stamps, self._found = gst, stamps, found
        self._packets = Packets()
        self._beside: set[int] = set()
        self._next: int | None = None
        self.torn = 0
        """Times that something was missing in telemetry beside the pictures."""
        demuxer.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, self._count)
        demuxer.connect("pad-added", self._attach)

    def _attach(self, _demuxer: Any, pad: Any) -> None:
        if (pid := pid_of(pad)) is not None:
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._mark, pid)
        elif pad.query_caps(None).to_string().startswith("meta/x-klv"):
            self._beside.add(int(pad.get_name().rpartition("_")[2], 16))

    def _count(self, _pad: Any, info: Any) -> Any:
        buffer = info.get_buffer()
        size, offset = buffer.get_size(), buffer.offset
        if offset not in (_NO_OFFSET, self._next):  # a file's end is looked at before its middle
            self._packets = Packets()
        self._next = None if offset == _NO_OFFSET else offset + size
        for pid in self._packets.missing(buffer.extract_dup(0, size)):
            self.torn += pid in self._beside
        return self._gst.PadProbeReturn.OK

    def _mark(self, _pad: Any, info: Any, pid: int) -> Any:
        state = self._packets.state(pid, self._stamps.of(pid))
        if state is not State.WHOLE:
            self._found[info.get_buffer().pts] = state
        return self._gst.PadProbeReturn.OK


class Packets:
    """Packets of a stream, wherever in it they begin, and the latest counter of each PID."""

    def __init__(self) -> None:
        self._counters: dict[int, int] = {}
        self._begun: dict[int, deque[_Begun]] = {}
        self._rest = b""
        self._step = _SIZE
        self._pid: int | None = None
        """Of the latest packet."""

    def missing(self, data: bytes) -> list[int]:
        """The stream (PID) of each packet before which one is missing, or which is not right."""
        data, at = self._rest + data, 0
        found = []
        while at + self._step <= len(data):
            if data[at] != _SYNC:
                lost_at = at
                at, self._step = _find(data, at)
                # Where packets begin elsewhere than before, the one before it was not whole.
                if self._pid is not None and (at - lost_at) % _SIZE:
                    self._tear(self._pid)
                self._pid = None
                continue
            packet = data[at : at + _SIZE]
            high, low, flags = packet[1:4]
            pid = (high & 0x1F) << 8 | low
            # What its receiver has marked as wrong is no packet; without payload none counts.
            if not high & 0x80 and pid != _NO_PID and flags & 0x10:
                if self._take(pid, packet):
                    found.append(pid)
                self._pid = pid
            at += self._step
        self._rest = data[at:]
        return found

    def state(self, pid: int, ticks: int | None) -> State:
        """How the picture of a time stamp was carried; those before it will not be asked for."""
        begun = self._begun.get(pid, deque())
        at = next((k for k, picture in enumerate(begun) if picture.ticks == ticks), None)
        if ticks is None or at is None:
            return State.WHOLE
        skipped = [begun.popleft() for _ in range(at)]
        state = begun.popleft().state
        return State.AFTER if state is State.WHOLE and skipped else state

    def _take(self, pid: int, packet: bytes) -> bool:
        """Count a packet in; whether something is missing before it, or it is not right itself."""
        flags, length = packet[3:5]
        last, counter = self._counters.get(pid), flags & 0xF
        self._counters[pid] = counter
        adapted = packet[5 : 5 + length] if flags & 0x20 else None
        anew = bool(adapted and adapted[0] & 0x80)
        right = anew or last is None or counter in (last, last + 1 & 0xF)
        begins = bool(packet[1] & 0x40)
        head = packet[4 if adapted is None else 5 + length :]
        wrong = begins and pid >= _TABLES and not head.startswith(_BEGINNING)
        begun = self._begun.setdefault(pid, deque(maxlen=_WAITING_MAX))
        if wrong or not (right or (begins and begun and begun[-1].ended)):
            self._tear(pid)
        if begins:
            state = State.TORN if wrong else State.WHOLE if right else State.AFTER
            begun.append(_Begun(_ticks(head), state))
        if begun:
            begun[-1].ended = adapted is not None and _stuffed(adapted)
        return wrong or not right

    def _tear(self, pid: int) -> None:
        """The latest picture that was begun is not whole."""
        if begun := self._begun.get(pid):
            begun[-1].state = State.TORN


def _ticks(head: bytes) -> int | None:
    """The presentation time stamp of a PES header (2.4.3.7); None where it has none."""
    if len(head) < 14 or not head[7] & 0x80:
        return None
    high = (head[9] >> 1 & 0x7) << 30 | head[10] << 22 | head[11] >> 1 << 15
    return high | head[12] << 7 | head[13] >> 1


def _stuffed(adapted: bytes) -> bool:
    """Whether an adaptation field holds filling (2.4.3.5), as far as it can be told."""
    if not adapted:
        return True
    clock, another, splice, more = (adapted[0] >> k & 1 for k in (4, 3, 2, 0))
    private = adapted[0] >> 1 & 1
    return not (private or more) and len(adapted) > 1 + 6 * (clock + another) + splice


def _find(data: bytes, at: int) -> tuple[int, int]:
    """Where the next packet begins, behind what is none, and how far it is from there to another.

    Near the end of the bytes as far as it is known.
    """
    while 0 <= (at := data.find(_SYNC, at + 1)) < len(data) - _SIZE:
        for step in (_SIZE, _LONG_SIZE):
            if data[at + step : at + step + 1] == b"\x47":
                return at, step
    return (len(data) if at < 0 else at), _SIZE
