"""Which encoded pictures reach the decoder: from a key frame on, and until something is missing.

Who joins a stream between two key frames sees grey pictures, who misses a packet sees smeared ones,
and most decoders do not say so (libav flags the first kind, never the second). A depayloader's
``wait-for-keyframe`` would do for two codecs, count nothing, and blind cameras that refresh bit by
bit for good; so encoded pictures are held back here, before the decoder, for every codec.
"""

from __future__ import annotations

import time
from typing import Any

from skyreid.edge.video.continuity import Continuity

_WAIT_S = 20.0
"""A camera that never sends a key frame refreshes its picture bit by bit; after so long everything
has been refreshed, or the decoder flags what has not."""
_NO_TIME = (1 << 64) - 1


class Gate:
    """Holds back what cannot be whole. Its probe runs in GStreamer's threads."""

    def __init__(self, gst: Any, *, live: bool) -> None:
        """Set up; ``live``: packets can get lost, so it goes on watching once it has opened."""
        self._gst, self._live = gst, live
        self._closed_at: float | None = time.monotonic()
        self._lacking: set[int] = set()
        self.held = 0
        """Encoded pictures that were held back."""
        self.arrived_at: float | None = None
        """When the latest encoded picture came, monotonic seconds; of a file the first one."""
        self.began_at: float | None = None
        """When the first one came."""
        self.lossy = False
        """Whether the container is one that loses packets without saying so."""
        self.first_ns: int | None = None
        """Stream time of the first encoded picture, where the container says it."""

    def attach(self, element: Any) -> None:
        """Look at an element that a decodebin has made: a decoder gets a gate."""
        factory = element.get_factory()
        name = factory.get_name() if factory is not None else ""
        self.lossy = self.lossy or name in ("tsdemux", "mpegpsdemux")
        if self._live and name == "tsdemux":
            Continuity(self._gst, element, held=self._lacking)
        kind = factory.get_metadata("klass") or "" if factory is not None else ""
        if "Decoder" not in kind or not ("Video" in kind or "Image" in kind):
            return
        pad = element.get_static_pad("sink")
        if pad is not None:
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._probe)

    def _probe(self, pad: Any, info: Any) -> Any:
        gst, buffer, now = self._gst, info.get_buffer(), time.monotonic()
        flags = gst.BufferFlags
        header = buffer.has_flags(flags.HEADER) and not buffer.has_flags(flags.MARKER)
        if buffer.pts == _NO_TIME and header:  # no picture yet; a whole one has the marker
            return gst.PadProbeReturn.OK
        if self.began_at is None:
            self.began_at = now
            self.first_ns = _stream_time(gst, pad, buffer.pts)
        self.arrived_at = now
        key = not buffer.has_flags(flags.DELTA_UNIT)
        if buffer.pts in self._lacking:
            self._lacking.discard(buffer.pts)
            self._closed_at, key = now, False
        if not key and self._closed_at is None and buffer.has_flags(flags.DISCONT):
            self._closed_at = now
        if self._closed_at is not None:
            if not key and now - self._closed_at < _WAIT_S:
                self.held += 1
                return gst.PadProbeReturn.DROP
            self._closed_at = None
        return gst.PadProbeReturn.OK if self._live else gst.PadProbeReturn.REMOVE


def _stream_time(gst: Any, pad: Any, pts: int) -> int | None:
    event = pad.get_sticky_event(gst.EventType.SEGMENT, 0)
    if event is None or pts == _NO_TIME:
        return None
    time_ns = event.parse_segment().to_stream_time(gst.Format.TIME, pts)
    return None if time_ns == _NO_TIME else int(time_ns)
