"""What this machine's GStreamer can do: probed once, then a plain value that decides pipelines."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyreid.contract.errors import PlatformError

PACKAGES = {
    "filesrc": "gstreamer1.0-plugins-base (libgstreamer1.0-0)",
    "videotestsrc": "gstreamer1.0-plugins-base",
    "uridecodebin3": "gstreamer1.0-plugins-base",
    "decodebin3": "gstreamer1.0-plugins-base",
    "videoconvert": "gstreamer1.0-plugins-base",
    "appsink": "gstreamer1.0-plugins-base",
    "qtdemux": "gstreamer1.0-plugins-good",
    "matroskademux": "gstreamer1.0-plugins-good",
    "videoflip": "gstreamer1.0-plugins-good",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "rtph264depay": "gstreamer1.0-plugins-good",
    "rtpklvdepay": "gstreamer1.0-plugins-good",
    "udpsrc": "gstreamer1.0-plugins-good",
    "srtsrc": "gstreamer1.0-plugins-bad",
    "tsdemux": "gstreamer1.0-plugins-bad",
    "tsparse": "gstreamer1.0-plugins-bad",
    "h264parse": "gstreamer1.0-plugins-bad",
    "avdec_h264": "gstreamer1.0-libav",
    "openh264dec": "gstreamer1.0-plugins-bad",
}
"""Which Debian or Ubuntu package brings an element."""

DECODERS = ("nvv4l2decoder", "vah264dec", "v4l2h264dec", "avdec_h264", "openh264dec")
"""H.264 decoders that are looked for, hardware first."""

_PROBED = (*PACKAGES, *DECODERS, "nvvidconv", "vapostproc", "rtspclientsink")

INSTALL = (
    "apt-get install gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad "
    "gstreamer1.0-libav gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0; then "
    "pip install 'PyGObject<3.51' (on a Jetson: apt-get install python3-gi and a virtual "
    "environment with --system-site-packages)"
)


@dataclass(frozen=True)
class Platform:
    """The part of a machine that pipelines depend on. Tests write it by hand."""

    gst_version: tuple[int, int, int]
    elements: frozenset[str]
    properties: frozenset[str] = field(default_factory=frozenset)
    """``element.property`` of those that only newer versions have."""
    l4t: str = ""
    """Jetson Linux release, empty elsewhere."""

    def missing(self, elements: Sequence[str]) -> list[str]:
        """Those of ``elements`` that are not there."""
        return [name for name in elements if name not in self.elements]

    @property
    def decoders(self) -> tuple[str, ...]:
        """H.264 decoders of this machine, hardware first."""
        return tuple(name for name in DECODERS if name in self.elements)


def load_gst() -> tuple[Any, Any, Any]:
    """Import and initialise GStreamer: the ``Gst``, ``GstApp`` and ``GstVideo`` namespaces.

    Raises:
        PlatformError: PyGObject, GStreamer or its introspection data is not installed.
    """
    # GStreamer makes the symbols of libunwind global, libgcc's `_Unwind_*` by the same names among
    # them. Whatever is loaded later (ONNX Runtime) would throw by the one, and libstdc++, which is
    # bound to the other already, could not catch: a process that is killed where an exception was.
    with suppress(OSError):  # a system without it has one unwinder only
        ctypes.CDLL("libgcc_s.so.1", ctypes.RTLD_GLOBAL)
    try:
        import gi
    except ImportError as error:
        raise PlatformError(f"PyGObject (python module gi) is not installed: {INSTALL}") from error
    try:
        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        gi.require_version("GstVideo", "1.0")
        from gi.repository import Gst, GstApp, GstVideo
    except (ValueError, ImportError) as error:
        raise PlatformError(f"GStreamer cannot be used from Python ({error}): {INSTALL}") from error
    if not Gst.is_initialized():
        Gst.init(None)
    return Gst, GstApp, GstVideo


def first_structure(caps: Any) -> Any:
    """The first ``Gst.Structure`` of caps, valid as long as they are.

    GStreamer's own overrides of PyGObject, which a distribution's Python sees and a virtual
    environment does not, wrap it from 1.26 on into something that has to be entered.
    """
    said = caps.get_structure(0)
    return said.__enter__() if hasattr(said, "__enter__") else said


def load_element_base() -> tuple[Any, Any, Any]:
    """The ``GstBase``, ``GObject`` and ``GLib`` namespaces, of which elements are made.

    Raises:
        PlatformError: see ``load_gst``.
    """
    load_gst()
    import gi

    try:
        gi.require_version("GstBase", "1.0")
        from gi.repository import GLib, GObject, GstBase
    except (ValueError, ImportError) as error:
        raise PlatformError(f"GStreamer cannot be used from Python ({error}): {INSTALL}") from error
    return GstBase, GObject, GLib


def load_gio() -> tuple[Any, type[Any]]:
    """GLib's ``Gio`` namespace, which has the certificates, and the type of its errors."""
    import gi

    gi.require_version("Gio", "2.0")
    from gi.repository import Gio, GLib

    return Gio, GLib.Error


def probe() -> Platform:
    """Ask this machine.

    Raises:
        PlatformError: see ``load_gst``.
    """
    gst, _, _ = load_gst()
    elements = frozenset(name for name in _PROBED if gst.ElementFactory.find(name) is not None)
    properties = set()
    if "rtspsrc" in elements:
        # Absent in GStreamer 1.20 (JetPack 6); an unknown property would make parse_launch fail.
        source = gst.ElementFactory.make("rtspsrc", None)
        if source.find_property("add-reference-timestamp-meta") is not None:
            properties.add("rtspsrc.add-reference-timestamp-meta")
    if "srtsrc" in elements:  # absent in GStreamer 1.20, too
        if gst.ElementFactory.make("srtsrc", None).find_property("auto-reconnect") is not None:
            properties.add("srtsrc.auto-reconnect")
    version = gst.version()
    return Platform(
        (int(version[0]), int(version[1]), int(version[2])),
        elements,
        frozenset(properties),
        _l4t_release(),
    )


def explain_missing(names: Sequence[str]) -> str:
    """One line: which elements are missing and which packages bring them."""
    packages = sorted({PACKAGES.get(name, "?").split(" ")[0] for name in names} - {"?"})
    hint = f": apt-get install {' '.join(packages)}" if packages else f": {INSTALL}"
    plural = "s" if len(names) > 1 else ""
    return f"GStreamer has no element{plural} {', '.join(names)}{hint}"


def _l4t_release() -> str:
    try:
        text = Path("/etc/nv_tegra_release").read_text()
    except OSError:
        return ""
    match = re.search(r"R(\d+).*REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else text.strip()
