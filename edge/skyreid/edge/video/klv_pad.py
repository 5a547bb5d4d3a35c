"""KLV beside the video, taken where a demultiplexer or an RTP depayloader hands it out.

Its pad leads nowhere: decoders want none of it. The buffers are noted as they pass and wait for the
frame that they belong to, so that a file gives each frame the same ones at every run.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

_NO_TIME = (1 << 64) - 1
_WAITING_MAX, _WAITING_BYTES_MAX = 4096, 1 << 22
"""Buffers, and bytes, that wait for a frame; beyond it the oldest give way (video that never
comes)."""
_BYTES_MAX = 1 << 16
"""Of one buffer: a packet of ST 0601 has a few hundred."""


class KlvPad:
    """Notes KLV buffers with their media time. Its probes run in GStreamer's threads.

    Asynchronous KLV (MISB ST 1402) has no time in the stream, only a place: it is given the time of
    the video that came last.
    """

    def __init__(self, gst: Any, *, live: bool) -> None:
        """Set up; ``live``: times are those since the connection, else those of the file."""
        self._gst, self._live = gst, live
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._video_ns: int | None = None
        self.found = False
        """Whether there is KLV in this stream."""

    def attach(self, element: Any) -> None:
        """Look at an element that a decodebin has made: a demultiplexer is watched."""
        factory = element.get_factory()
        kind = factory.get_metadata("klass") or "" if factory is not None else ""
        if "Demux" in kind:
            element.connect("pad-added", self._attach_pad)

    def take(self, until_ns: int) -> list[tuple[int, bytes]]:
        """What has come up to a media time: that of each buffer, and its bytes."""
        with self._lock:
            # Whatever their order: one time of the far future must not hold up those behind it.
            taken = [each for each in self._waiting if each[0] <= until_ns]
            if taken:
                self._waiting = deque(each for each in self._waiting if each[0] > until_ns)
                self._waiting_bytes -= sum(len(data) for _, data in taken)
        return taken

    def _attach_pad(self, _element: Any, pad: Any) -> None:
        caps = pad.query_caps(None).to_string()
        if caps.startswith("meta/x-klv"):
            self.watch(pad)
        elif caps.startswith("video/"):
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._note_video)

    def watch(self, pad: Any) -> None:
        """Note what passes a pad."""
        pad.add_probe(self._gst.PadProbeType.BUFFER, self._probe)
        self.found = True

    def _note_video(self, pad: Any, info: Any) -> Any:
        at_ns = self._media_ns(pad, info.get_buffer())
        if at_ns is not None:
            self._video_ns = at_ns
        return self._gst.PadProbeReturn.OK

    def _probe(self, pad: Any, info: Any) -> Any:
        buffer = info.get_buffer()
        at_ns = self._media_ns(pad, buffer)
        if at_ns is None:
            at_ns = self._video_ns
        if at_ns is not None and buffer.get_size() <= _BYTES_MAX:
            data = bytes(buffer.extract_dup(0, buffer.get_size()))
            with self._lock:
                self._waiting.append((at_ns, data))
                self._waiting_bytes += len(data)
                while len(self._waiting) > _WAITING_MAX or self._waiting_bytes > _WAITING_BYTES_MAX:
                    self._waiting_bytes -= len(self._waiting.popleft()[1])
        return self._gst.PadProbeReturn.OK

    def _media_ns(self, pad: Any, buffer: Any) -> int | None:
        """When a buffer is, on the stream's own time; None where it does not say."""
        event = pad.get_sticky_event(self._gst.EventType.SEGMENT, 0)
        if event is None or buffer.pts == _NO_TIME:
            return None
        segment = event.parse_segment()
        convert = segment.to_running_time if self._live else segment.to_stream_time
        at_ns = convert(self._gst.Format.TIME, buffer.pts)
        return None if at_ns == _NO_TIME else int(at_ns)
