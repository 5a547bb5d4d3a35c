"""Which encoded pictures reach the decoder: from a key frame on, and until something is missing.

Who joins a stream between two key frames sees grey pictures, who misses a packet sees smeared ones,
and most decoders do not say so (libav flags the first kind, never the second). A depayloader's
``wait-for-keyframe`` would do for two codecs, count nothing, and blind cameras that refresh bit by
bit for good; so encoded pictures are held back here, before the decoder, for every codec.
"""

from __future__ import annotations

import time
from typing import Any

from skyreid.edge.video.continuity import Continuity, State
from skyreid.edge.video.stamps import Stamps

_WAIT_S = 20.0
"""A camera that never sends a key frame refreshes its picture bit by bit; after so long everything
has been refreshed, or the decoder flags what has not."""
_NO_TIME = (1 << 64) - 1


class Gate:
    """Holds back what cannot be whole. Its probe runs in GStreamer's threads."""

    def __init__(self, gst: Any, stamps: Stamps, *, live: bool) -> None:
        """Set up.

        Args:
            gst: GStreamer.
            stamps: of the pipeline's transport stream, where it is one.
            live: packets can get lost, so it goes on watching once it has opened; of a file it does
                where the container is one that a link's packets are recorded in.
        """
        self._gst, self._stamps, self._live = gst, stamps, live
        self._open = self._opened = False
        self._held_now = 0
        self._since_s: float | None = time.monotonic() if live else None
        self._lacking: dict[int, State] = {}
        self._streams: list[Continuity] = []
        self.held = 0
        """Encoded pictures that were held back."""
        self.held_between = 0
        """Of these, how many lay between two that were not."""
        self.arrived_at: float | None = None
        """When the latest encoded picture came, monotonic seconds; of a file the first one."""
        self.began_at: float | None = None
        """When the first one came."""
        self.lossy = False
        """Whether the container is one that loses packets without saying so."""
        self.first_ns: int | None = None
        """Stream time of the first encoded picture, where the container says it."""

    @property
    def torn(self) -> int:
        """Packets of telemetry beside the pictures that did not come whole."""
        return sum(stream.torn for stream in self._streams)

    def attach(self, element: Any) -> None:
        """Look at an element that a decodebin has made: a decoder gets a gate."""
        factory = element.get_factory()
        name = factory.get_name() if factory is not None else ""
        self.lossy = self.lossy or name in ("tsdemux", "mpegpsdemux")
        if name == "tsdemux":
            self._streams.append(Continuity(self._gst, element, self._stamps, found=self._lacking))
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
        # A file is read as fast as it can be: its own time says how long pictures take to refresh.
        at_s = now if self._live or buffer.pts == _NO_TIME else buffer.pts / 1e9
        key = not buffer.has_flags(flags.DELTA_UNIT)
        if self._since_s is None:
            self._since_s = at_s
        state = self._lacking.pop(buffer.pts, State.WHOLE)
        key = key and state is not State.TORN
        if not key and (state is not State.WHOLE or buffer.has_flags(flags.DISCONT)):
            self._open, self._since_s = False, at_s
        if not self._open:
            if not key and at_s - self._since_s < _WAIT_S:
                self.held += 1
                self._held_now += 1
                return gst.PadProbeReturn.DROP
            self.held_between += self._held_now if self._opened else 0
            self._held_now, self._open, self._opened = 0, True, True
        watching = self._live or self.lossy
        return gst.PadProbeReturn.OK if watching else gst.PadProbeReturn.REMOVE


def _stream_time(gst: Any, pad: Any, pts: int) -> int | None:
    event = pad.get_sticky_event(gst.EventType.SEGMENT, 0)
    if event is None or pts == _NO_TIME:
        return None
    time_ns = event.parse_segment().to_stream_time(gst.Format.TIME, pts)
    return None if time_ns == _NO_TIME else int(time_ns)
