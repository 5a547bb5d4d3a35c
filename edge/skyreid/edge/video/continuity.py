"""Packets of a live transport stream that did not come, told to the gate before the decoders.

GStreamer's demultiplexer (1.22) drops what lacks a packet and hands out the next picture as if
nothing were missing: it is decoded from one that nobody has. Each packet has a counter of four bits
for its stream (ISO/IEC 13818-1, 2.4.3.3); where one is skipped, whatever is handed out next of that
stream may lack something, and what follows depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_SIZE = 188
_NO_PID = 0x1FFF


class Continuity:
    """Watches one ``tsdemux``. Its probes run in the thread that reads."""

    def __init__(self, gst: Any, demuxer: Any, *, held: set[int]) -> None:
        """Watch a demultiplexer that has not been started.

        Args:
            gst: GStreamer.
            demuxer: the element.
            held: takes the time stamps of pictures that may lack something.
        """
        self._gst, self._held = gst, held
        self._counters: dict[int, int] = {}
        self._missing: set[int] = set()
        demuxer.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, self._count)
        demuxer.connect("pad-added", self._attach)

    def _attach(self, _demuxer: Any, pad: Any) -> None:
        kind, _, pid = pad.get_name().rpartition("_")
        if kind.startswith("video"):
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._mark, int(pid, 16))

    def _count(self, _pad: Any, info: Any) -> Any:
        buffer = info.get_buffer()
        self._missing |= missing(buffer.extract_dup(0, buffer.get_size()), self._counters)
        return self._gst.PadProbeReturn.OK

    def _mark(self, _pad: Any, info: Any, pid: int) -> Any:
        if pid in self._missing:
            self._missing.discard(pid)
            self._held.add(info.get_buffer().pts)
        return self._gst.PadProbeReturn.OK


def missing(data: bytes, counters: dict[int, int]) -> set[int]:
    """Streams (PID) of which a packet is missing, in or before these whole packets.

    Args:
        data: packets; what is not aligned is not looked at.
        counters: the latest of each stream, which is brought up to date.
    """
    size = len(data) // _SIZE * _SIZE
    heads = np.frombuffer(data, np.uint8, size).reshape(-1, _SIZE)[:, :6].tolist()
    found = set()
    for sync, high, low, flags, length, more in heads:
        pid = (high & 0x1F) << 8 | low
        if sync != 0x47 or pid == _NO_PID or not flags & 0x10:  # without payload it does not count
            continue
        counter, last = flags & 0xF, counters.get(pid)
        counters[pid] = counter
        skips = flags & 0x20 and length and more & 0x80  # it says itself that it begins anew
        if last is not None and counter not in (last, last + 1 & 0xF) and not skips:
            found.add(pid)
    return found
