"""`reidembed`: the device's tracker, collector and embedder as an element of others' pipelines.

A thin coat: pictures pass through as they are, a `Session` looks at each, and what it says goes out
as metadata of the buffer and as messages. docs/gstreamer.md is its page.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

from skyreid.contract.errors import GateError, PlatformError, SkyreidError
from skyreid.edge.element.messages import register_meta
from skyreid.edge.element.options import PROPERTIES
from skyreid.edge.element.session import Session
from skyreid.edge.element.worker import Left
from skyreid.edge.video.packed import PACKED
from skyreid.edge.video.platform import load_element_base, load_gst

NAME = "reidembed"
FORMATS = ("NV12", "I420", *PACKED)
"""GStreamer's names; the first two are looked at where they lie."""
METADATA = (
    "Person re-identification",
    "Filter/Analyzer/Video",
    "Follows people, and puts their ids and embeddings onto buffers and into messages",
    "skyreid",
)


@cache
def element_class() -> Any:
    """The GObject class; made when it is asked for, because it needs GStreamer.

    Raises:
        PlatformError: GStreamer cannot be used from Python.
    """
    gst, _, _ = load_gst()
    base, gobject, glib = load_element_base()
    flow, change = gst.FlowReturn, gst.StateChange
    # PyGObject takes properties from the body of a class alone; vfuncs from that of the last.
    settable: Any = type(
        "ReidEmbedProperties",
        (base.BaseTransform,),
        {
            "__gtype_name__": "ReidEmbedProperties",
            **{name.replace("-", "_"): _property(gobject, name) for name in PROPERTIES},
        },
    )
    for direction in (gst.PadDirection.SINK, gst.PadDirection.SRC):
        caps = gst.Caps.from_string(f"video/x-raw,format=(string){{{','.join(FORMATS)}}}")
        name = "sink" if direction == gst.PadDirection.SINK else "src"
        template = gst.PadTemplate.new(name, direction, gst.PadPresence.ALWAYS, caps)
        settable.add_pad_template(template)

    class ReidEmbed(settable):  # type: ignore[misc]
        __gtype_name__ = "ReidEmbed"
        _session: Session | None = None

        @gobject.Property(  # type: ignore[untyped-decorator]
            type=gst.Structure,
            flags=gobject.ParamFlags.READABLE,
            nick="stats",
            blurb="frames, looked, sightings and what was left out, by reason",
        )
        def stats(self) -> Any:
            made = gst.Structure.new_empty("stats")
            counts = {} if self._session is None else self._session.stats()
            for name, count in counts.items():
                made.set_value(name, gobject.Value(gobject.TYPE_UINT64, count))
            return made

        def do_start(self) -> bool:
            said = {name: self.get_property(name) for name in PROPERTIES}
            try:
                self._session = Session(self, said)
            except Exception as error:
                self._fail(error)
                return False
            return True

        def do_stop(self) -> bool:
            if self._session is not None:
                self._session.worker.end()
            return True

        def do_set_caps(self, incaps: Any, outcaps: Any) -> bool:
            if self._session is not None:
                self._session.caps = incaps
            return True

        def do_change_state(self, transition: Any) -> Any:
            # Before the pads are closed, which waits for whoever is in do_transform_ip.
            if transition == change.PAUSED_TO_READY and self._session is not None:
                self._session.worker.leave()
            return base.BaseTransform.do_change_state(self, transition)

        def do_sink_event(self, event: Any) -> bool:
            session = self._session
            if session is not None:
                if event.type == gst.EventType.FLUSH_START:
                    session.worker.leave()
                elif event.type == gst.EventType.FLUSH_STOP:
                    session.flushed()
                elif event.type == gst.EventType.EOS:
                    self._guarded(session.finish)
            return bool(base.BaseTransform.do_sink_event(self, event))

        def do_transform_ip(self, buffer: Any) -> Any:
            session = self._session
            if session is None:
                return flow.FLUSHING
            return self._guarded(lambda: session.take(buffer, self.segment))

        def _guarded(self, call: Callable[[], None]) -> Any:
            """What a vfunc raises is printed and forgotten: it has to be an error of the stream."""
            try:
                call()
            except Left:
                return flow.FLUSHING
            except Exception as error:
                self._fail(error)
                return flow.ERROR
            return flow.OK

        def _fail(self, error: Exception) -> None:
            known = isinstance(error, SkyreidError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            debug = "" if known else traceback.format_exc()
            code = int(_code(gst.LibraryError, error))
            said = glib.Error.new_literal(gst.library_error_quark(), text, code)
            self.post_message(gst.Message.new_error(self, said, debug))

    ReidEmbed.set_metadata(*METADATA)
    return ReidEmbed


def _property(gobject: Any, name: str) -> Any:
    kind, default, blurb = PROPERTIES[name]
    bounds: dict[str, Any] = {}
    if kind is float:
        bounds = {"minimum": -1.0, "maximum": 1.0}
    elif name == "threads":
        bounds = {"minimum": 1, "maximum": 64}
    elif kind is int:
        kind, bounds = gobject.TYPE_INT64, {"minimum": 0, "maximum": 1 << 62}
    return gobject.Property(type=kind, default=default, nick=name, blurb=blurb, **bounds)


def _code(codes: Any, error: Exception) -> Any:
    """What kind of error it is, in GStreamer's words; `launch` makes exit codes of them."""
    if isinstance(error, PlatformError):
        return codes.INIT
    if isinstance(error, SkyreidError) and not isinstance(error, GateError):
        return codes.SETTINGS
    return codes.FAILED


@cache
def register() -> None:
    """Make the element known to this process by its name.

    Raises:
        PlatformError: GStreamer cannot be used from Python, or does not take the element.
    """
    gst, _, _ = load_gst()
    register_meta()
    if not gst.Element.register(None, NAME, int(gst.Rank.NONE), element_class()):
        raise PlatformError(f"GStreamer {gst.version_string()} does not take element {NAME}")
