"""GStreamer's tools in a process that has `reidembed`: ``gst-launch`` and ``gst-inspect``.

GStreamer's own find an element in Python only by a plugin loader for exactly its Python; here the
element is registered in the process that runs the pipeline.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any

from skyreid.contract.errors import GateError, InputError, PlatformError, SkyreidError
from skyreid.edge.element.reidembed import FORMATS, METADATA, NAME, element_class, register
from skyreid.edge.ending import GRACE_S, leave, stopped_by_signals
from skyreid.edge.flow import Stop
from skyreid.edge.video.bounded import TEARDOWN_S, Bounded
from skyreid.edge.video.platform import load_element_base, load_gst

log = logging.getLogger(__name__)

_POLL_NS = 100_000_000
_EOS_S = 10.0
"""How long after ``-e`` and a signal the end of the stream is waited for."""


def launch(words: Sequence[str], *, say_messages: bool, eos_at_signal: bool) -> int:
    """Run a pipeline until its end, an error, or SIGINT or SIGTERM.

    Args:
        words: of the pipeline, as of ``gst-launch-1.0``.
        say_messages: print element messages on stdout, a line each.
        eos_at_signal: send an end of stream through the pipeline at the first signal, so that files
            are finished and the last word about everybody is said.

    Raises:
        InputError: the words are no pipeline, or `reidembed` cannot use what it was given.
        GateError: a bundle's self-test failed.
        PlatformError: GStreamer, or an element that is named, is missing.
        SkyreidError: an element reported an error.
    """
    import cv2

    gst, _, _ = load_gst()
    _, _, glib = load_element_base()
    register()
    cv2.setNumThreads(1)  # its own threads spin between two calls
    try:
        pipeline = gst.parse_launchv(list(words))
    except glib.Error as error:
        known = PlatformError if error.matches(gst.parse_error_quark(), _NO_ELEMENT) else InputError
        raise known(f"gst-launch: {error.message}") from error
    if not isinstance(pipeline, gst.Pipeline):  # one element alone
        alone, pipeline = pipeline, gst.Pipeline.new(None)
        pipeline.add(alone)
    stop = Stop()
    with stopped_by_signals(stop, within_s=(_EOS_S if eos_at_signal else 0) + TEARDOWN_S + GRACE_S):
        try:
            pipeline.set_state(gst.State.PLAYING)
            _watch(gst, pipeline, stop, say_messages=say_messages, eos_at_signal=eos_at_signal)
        finally:
            down = Bounded(threading.Event()).call(
                lambda: pipeline.set_state(gst.State.NULL), TEARDOWN_S
            )
    if not down:
        log.error("the pipeline hangs inside GStreamer and is left behind")
        leave(1)
    return 0


_NO_ELEMENT = 1
"""GST_PARSE_ERROR_NO_SUCH_ELEMENT."""


def _watch(gst: Any, pipeline: Any, stop: Stop, *, say_messages: bool, eos_at_signal: bool) -> None:
    """Until the end of the stream, or the stop."""
    bus, asked, waited_ns = pipeline.get_bus(), False, 0
    while True:
        message = bus.timed_pop(_POLL_NS)
        if stop.asked.is_set():
            if not eos_at_signal or stop.hurry.is_set() or waited_ns > _EOS_S * 1e9:
                return
            if not asked:
                asked = True
                pipeline.send_event(gst.Event.new_eos())
            waited_ns += _POLL_NS if message is None else 0
        if message is None:
            continue
        if message.type == gst.MessageType.EOS:
            return
        if message.type == gst.MessageType.ERROR:
            raise _error(gst, message)
        if message.type == gst.MessageType.WARNING:
            warning, _ = message.parse_warning()
            log.warning("%s: %s", message.src.get_name(), warning.message)
        elif message.type == gst.MessageType.ELEMENT and say_messages:
            said = message.get_structure().to_string()
            sys.stdout.write(f"{message.src.get_name()}: {said}\n")
            sys.stdout.flush()


def _error(gst: Any, message: Any) -> SkyreidError:
    error, debug = message.parse_error()
    text = f"{message.src.get_name()}: {error.message}"
    ours = message.src.get_factory() is not None and message.src.get_factory().get_name() == NAME
    if ours and error.domain == "gst-library-error-quark":
        codes = gst.LibraryError
        kinds = {int(codes.SETTINGS): InputError, int(codes.INIT): PlatformError}
        kind = GateError if not debug and error.code == int(codes.FAILED) else SkyreidError
        return kinds.get(error.code, kind)(text)
    last = debug.strip().splitlines()[-1] if debug and debug.strip() else ""
    return SkyreidError(f"{text} ({last})" if last else text)


def inspect(name: str) -> list[str]:
    """What there is to know of `reidembed`, line by line.

    Raises:
        InputError: it is another element; GStreamer's own tool knows those.
    """
    if name != NAME:
        raise InputError(f"gst-inspect knows {NAME} alone; for '{name}': gst-inspect-1.0 {name}")
    _, gobject, _ = load_element_base()
    register()
    long_name, kind, description, author = METADATA
    made = element_class()
    lines = [
        f"{NAME}: {long_name}",
        f"  class        {kind}",
        f"  description  {description}",
        f"  author       {author}",
        f"  pads         sink, src: video/x-raw, format {{ {', '.join(FORMATS)} }}",
        "  properties   read as the element starts",
    ]
    for spec in made.list_properties():
        if spec.owner_type.name.startswith("ReidEmbed"):
            default = spec.get_default_value() if spec.flags & gobject.ParamFlags.WRITABLE else ""
            shown = f'"{default}"' if isinstance(default, str) else default
            if not spec.flags & gobject.ParamFlags.WRITABLE:
                shown = "read only"
            lines.append(
                f"    {spec.name:<10} {spec.value_type.name:<12} {shown!s:<22} {spec.blurb}"
            )
    return lines
