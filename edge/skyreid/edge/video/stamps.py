"""The time stamps that stand in a transport stream, for whoever looks at its pictures later.

GStreamer counts time by a scale of its own. Its demultiplexer says the stamps that it read
(``emit-stats``), each before the picture that it is for.
"""

from __future__ import annotations

from typing import Any

WRAP = 1 << 33
"""Time stamps of a transport stream count so far, 90,000 a second."""


class Stamps:
    """Listens to the ``tsdemux`` of a pipeline. All of it runs in the thread that reads."""

    def __init__(self, gst: Any, pipeline: Any) -> None:
        """Set up, before the pipeline is started and before others look at its pictures."""
        self._gst = gst
        self._said: dict[int, int] = {}
        self._latest: dict[int, int | None] = {}
        self._found = False
        pipeline.connect("deep-element-added", self._watch)
        pipeline.get_bus().set_sync_handler(self._hear)

    def of(self, pid: int) -> int | None:
        """The stamp of the video picture of a stream that passes now; None where it has none."""
        return self._latest.get(pid)

    def _watch(self, _bin: Any, _parent: Any, made: Any) -> None:
        factory = made.get_factory()
        if factory is not None and factory.get_name() == "tsdemux":
            self._found = True
            made.set_property("emit-stats", True)
            made.connect("pad-added", self._attach)

    def _hear(self, _bus: Any, message: Any) -> Any:
        """Keep what is said of every picture off the bus, which nobody empties meanwhile."""
        reply = self._gst.BusSyncReply
        if not self._found or message.type != self._gst.MessageType.ELEMENT:
            return reply.PASS
        said = message.get_structure()
        if said is None or said.get_name() != "tsdemux":
            return reply.PASS
        if said.has_field("pts"):
            self._said[said.get_uint("pid")[1]] = said.get_uint64("pts")[1] % WRAP
        return reply.DROP

    def _attach(self, _demuxer: Any, pad: Any) -> None:
        if (pid := pid_of(pad)) is not None:
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._pass, pid)

    def _pass(self, _pad: Any, _info: Any, pid: int) -> Any:
        self._latest[pid] = self._said.pop(pid, None)
        return self._gst.PadProbeReturn.OK


def pid_of(pad: Any) -> int | None:
    """The stream (PID) of a demultiplexer's video pad; None of another pad."""
    kind, _, pid = pad.get_name().rpartition("_")
    return int(pid, 16) if kind.startswith("video") else None
