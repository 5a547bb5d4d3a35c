"""KLV beside the video, taken where a demultiplexer or an RTP depayloader hands it out.

Its pad leads nowhere: decoders want none of it. The buffers are noted as they pass and wait for the
frame that they belong to, so that a file gives each frame the same ones at every run.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

_NO_TIME = (1 << 64) - 1
_WAITING_MAX = 4096
"""Buffers that wait for a frame; beyond it the oldest give way (video that never comes)."""
_BYTES_MAX = 1 << 16
"""Of one buffer: a packet of ST 0601 has a few hundred."""


class KlvPad:
    """Notes KLV buffers with their media time. Its probe runs in GStreamer's threads."""

    def __init__(self, gst: Any, *, live: bool) -> None:
        """Set up; ``live``: times are those since the connection, else those of the file."""
        self._gst, self._live = gst, live
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, bytes]] = deque(maxlen=_WAITING_MAX)
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
        taken = []
        with self._lock:
            while self._waiting and self._waiting[0][0] <= until_ns:
                taken.append(self._waiting.popleft())
        return taken

    def _attach_pad(self, _element: Any, pad: Any) -> None:
        if pad.query_caps(None).to_string().startswith("meta/x-klv"):
            self.watch(pad)

    def watch(self, pad: Any) -> None:
        """Note what passes a pad."""
        pad.add_probe(self._gst.PadProbeType.BUFFER, self._probe)
        self.found = True

    def _probe(self, pad: Any, info: Any) -> Any:
        buffer = info.get_buffer()
        event = pad.get_sticky_event(self._gst.EventType.SEGMENT, 0)
        if event is None or buffer.pts == _NO_TIME or buffer.get_size() > _BYTES_MAX:
            return self._gst.PadProbeReturn.OK
        segment = event.parse_segment()
        convert = segment.to_running_time if self._live else segment.to_stream_time
        at_ns = convert(self._gst.Format.TIME, buffer.pts)
        if at_ns != _NO_TIME:
            data = bytes(buffer.extract_dup(0, buffer.get_size()))
            with self._lock:
                self._waiting.append((int(at_ns), data))
        return self._gst.PadProbeReturn.OK
