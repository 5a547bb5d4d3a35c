"""Pipelines of others: their elements around ours, and one that writes their detector's boxes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import skyreid.edge.element as element
from skyreid.contract.sighting import Sighting
from skyreid.edge.element import Person
from skyreid.edge.video.platform import first_structure, load_element_base, load_gst

Boxes = Sequence[tuple[str, int, int, int, int, float]]
"""Label, x, y, width, height, confidence."""
CALLS: dict[str, Callable[[int], Boxes]] = {}
"""What each ``theirs`` element finds, by its name and the number of the frame."""


def register_theirs() -> None:
    """An element that somebody else might have written, by GStreamer's own API alone."""
    gst, _, video = load_gst()
    base, _, _ = load_element_base()
    if gst.ElementFactory.find("theirs") is not None:
        return

    class Theirs(base.BaseTransform):  # type: ignore[misc, name-defined]
        __gtype_name__ = "Theirs"
        number = 0

        def do_transform_ip(self, buffer: Any) -> Any:
            self.number += 1
            for label, x, y, w, h, confidence in CALLS[self.get_name()](self.number):
                meta = video.buffer_add_video_region_of_interest_meta(buffer, label, x, y, w, h)
                said = gst.Structure.new_empty("detection")
                said.set_value("confidence", confidence)
                meta.add_param(said)
            return gst.FlowReturn.OK

    Theirs.set_metadata("Their detector", "Filter", "writes regions", "somebody else")
    for name, way in (("sink", gst.PadDirection.SINK), ("src", gst.PadDirection.SRC)):
        template = gst.PadTemplate.new(
            name, way, gst.PadPresence.ALWAYS, gst.Caps.from_string("video/x-raw")
        )
        Theirs.add_pad_template(template)
    assert gst.Element.register(None, "theirs", 0, Theirs)


@dataclass
class Seen:
    """What came out of a pipeline, in its order."""

    people: list[list[Person] | None] = field(default_factory=list)
    """Of each buffer at the sink."""
    formats: set[str] = field(default_factory=set)
    said: list[Sighting] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Of what else is said by elements, their structures as text; warnings; errors."""
    error: str = ""
    debug: str = ""
    ended: bool = False


class Pipe:
    """A pipeline whose sink is called ``out`` and whose `reidembed` is called ``reid``."""

    def __init__(self, description: str) -> None:
        self.gst, _, _ = load_gst()
        self.pipeline = self.gst.parse_launch(description)
        self.reid = self.pipeline.get_by_name("reid")
        self.seen = Seen()
        self.frames = threading.Semaphore(0)
        pad = self.pipeline.get_by_name("out").get_static_pad("sink")
        pad.add_probe(self.gst.PadProbeType.BUFFER, self._count)

    def _count(self, pad: Any, info: Any) -> Any:
        self.seen.people.append(element.people_of(info.get_buffer()))
        caps = pad.get_current_caps()
        self.seen.formats.add(first_structure(caps).get_value("format"))
        self.frames.release()
        return self.gst.PadProbeReturn.OK

    def start(self) -> None:
        self.pipeline.set_state(self.gst.State.PLAYING)

    def wait(self, timeout_s: float = 120.0, until: Callable[[Seen], bool] | None = None) -> Seen:
        """Read the bus to the end of the stream, an error, or what is waited for."""
        gst, seen, bus = self.gst, self.seen, self.pipeline.get_bus()
        while not seen.ended and not seen.error:
            if until is not None and until(seen):
                return seen
            message = bus.timed_pop(int(timeout_s * 1e9) if until is None else 50_000_000)
            if message is None:
                timeout_s -= 0.05
                assert until is not None, "nothing came"
                assert timeout_s > 0, "what was waited for did not come"
                continue
            if (said := element.sighting_of(message)) is not None:
                assert not seen.ended
                seen.said.append(said)
            elif message.type == gst.MessageType.ELEMENT:
                seen.notes.append(message.get_structure().to_string())
            elif message.type == gst.MessageType.WARNING:
                seen.notes.append(message.parse_warning()[0].message)
            elif message.type == gst.MessageType.ERROR:
                error, debug = message.parse_error()
                seen.error, seen.debug = error.message, debug or ""
            elif message.type == gst.MessageType.EOS:
                seen.ended = True
        return seen

    def stop(self) -> None:
        self.pipeline.set_state(self.gst.State.NULL)
        self.pipeline.get_bus().set_flushing(True)

    def wait_for_thread_to_end(self) -> None:
        """A call that was left has been cut."""
        for thread in threading.enumerate():
            if thread.name == "reidembed":
                thread.join(60)
                assert not thread.is_alive()

    def stats(self) -> dict[str, int]:
        said = self.reid.get_property("stats")
        names = [said.nth_field_name(n) for n in range(said.n_fields())]
        return {name: said.get_value(name) for name in names}


def run(description: str) -> Seen:
    """To the end of the stream, or an error."""
    pipe = Pipe(description)
    pipe.start()
    try:
        return pipe.wait()
    finally:
        pipe.stop()
