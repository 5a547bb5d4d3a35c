"""From a source and a machine to a GStreamer pipeline: pure text, so it is tested as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from skyreid.contract.errors import PlatformError, SettingsError
from skyreid.contract.settings import without_login
from skyreid.edge.video.platform import Platform, explain_missing

RAW = "video/x-raw,format=(string){NV12,I420}"
"""What the appsink takes: the layouts decoders write, so nothing is converted on the way."""

SINK = "sink"
SOURCE = "source"
_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})(?:@(\d{1,3}))?")
_RTSP = re.compile(
    r'rtsps?://([^\s"/@\[\]]*@)?(\[[0-9A-Fa-f:.%]+\]|[^\s"/@:\[\]]+)(:\d{1,5})?([/?][^@]*)?'
)
"""A login only as ``without_login`` finds it, so that none is ever shown."""


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    ``kind`` ``file`` (``target`` is a path), ``rtsp`` (a URL) or ``test`` (``WIDTHxHEIGHT@FPS``).
    """

    kind: Literal["file", "rtsp", "test"]
    target: str

    @property
    def live(self) -> bool:
        """A live source does not wait: a frame that nobody takes is gone."""
        return self.kind == "rtsp"

    @property
    def name(self) -> str:
        """For messages and recordings, without the login of a URL."""
        if self.kind != "rtsp":
            return self.target if self.kind == "file" else f"test://{self.target}"
        return without_login(self.target)


def parse_source(text: str, *, relative_to: Path | None = None) -> Source:
    """Read the ``source`` setting.

    Args:
        text: a path, ``file:///path``, ``rtsp://host/stream`` or ``test://640x480@10``.
        relative_to: directory that a relative path starts from.

    Raises:
        SettingsError: none of these.
    """
    scheme, found, rest = text.partition("://")
    if not found or scheme == "file":
        path = Path(unquote(rest) if found else text).expanduser()
        return Source("file", str(path if relative_to is None else relative_to / path))
    if scheme in ("rtsp", "rtsps"):
        if not _RTSP.fullmatch(text):  # not shown: there may be a password in it
            raise SettingsError(
                "camera.source is no rtsp://[USER:PASSWORD@]HOST[:PORT]/STREAM: in a login, and "
                "for an @ anywhere else, write %40 for @, %2F for /, %3A for :, %20 for a space, "
                "%22 for a quote"
            )
        return Source("rtsp", text)
    if scheme == "test":
        if not _SIZE.fullmatch(rest or "640x480@10"):
            raise SettingsError(f"camera.source {text!r}: write it as test://640x480@10")
        return Source("test", rest or "640x480@10")
    raise SettingsError(
        f"camera.source {text!r}: unknown kind {scheme!r}; give a path, file://, rtsp:// or test://"
    )


def build(
    source: Source, platform: Platform, *, latency_ms: int = 100, transport: str = "tcp"
) -> str:
    """The pipeline that ends in an appsink called ``sink``.

    Files are held back by the appsink (a queue of 4, nothing dropped); a live source runs freely
    and its reader keeps the newest frame.

    Raises:
        PlatformError: this machine lacks an element that the pipeline needs.
    """
    need = ["appsink", "videoconvert"]
    if source.kind == "file":
        need += ["filesrc", "decodebin3"]
        head = f"filesrc location={_quoted(source.target)} ! decodebin3"
    elif source.kind == "test":
        need.append("videotestsrc")
        width, height, fps = _size(source.target)
        head = (
            f"videotestsrc num-buffers={fps * 10} pattern=ball ! "
            f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
        )
    else:
        need += ["rtspsrc", "rtph264depay", "decodebin3"]
        stamps = (
            " add-reference-timestamp-meta=true"
            if "rtspsrc.add-reference-timestamp-meta" in platform.properties
            else ""
        )
        head = (
            f"rtspsrc name={SOURCE} location={_quoted(_url(source.target))} protocols={transport} "
            f"latency={latency_ms} tcp-timeout=5000000{stamps} ! "
            "application/x-rtp,media=(string)video ! decodebin3"
        )
    if missing := platform.missing(need):
        raise PlatformError(explain_missing(missing))
    if source.kind != "test" and not platform.decoders:
        raise PlatformError(explain_missing(["avdec_h264"]))
    # Hardware decoders of a Jetson hand out memory that only nvvidconv can bring to the CPU;
    # everywhere else videoconvert passes NV12 and I420 through untouched.
    bridge = "videoconvert"
    if "nvv4l2decoder" in platform.elements and "nvvidconv" in platform.elements:
        bridge = "nvvidconv"
    hold = "max-buffers=2 drop=true" if source.live else "max-buffers=4 drop=false"
    return f"{head} ! {bridge} ! {RAW} ! appsink name={SINK} sync=false {hold}"


def _size(text: str) -> tuple[int, int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SettingsError(f"test source {text!r}: write it as 640x480@10")
    return int(match[1]), int(match[2]), int(match[3] or 10)


def _url(text: str) -> str:
    """A URL whose spaces and quotes cannot end the pipeline's string."""
    return quote(text, safe=":/?#[]@!$&'()*+,;=%~-._")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
