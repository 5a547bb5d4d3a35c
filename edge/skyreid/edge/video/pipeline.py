"""From a source and a machine to a GStreamer pipeline: pure text, so it is tested as text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from skyreid.contract.errors import PlatformError, SettingsError
from skyreid.edge.video.drone_link import Srt, Udp
from skyreid.edge.video.kind import DECODE, SINK, SOURCE, TURN, Kind, Login, Source
from skyreid.edge.video.platform import Platform, explain_missing
from skyreid.edge.video.rtsp import Rtsp

RAW = "video/x-raw,format=(string){NV12,I420}"
"""What the appsink takes: the layouts decoders write, so nothing is converted on the way."""

_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})(?:@(\d{1,3}))?")
_SIDES = (16, 8192)
_BALL_MIN = 40
"""Pixels below which videotestsrc's ball, 41 wide, is painted beyond its picture and its memory."""
_RTSP, _UDP, _SRT = Rtsp(), Udp(), Srt()
KINDS: dict[str, Kind] = {"rtsp": _RTSP, "rtsps": _RTSP, "udp": _UDP, "srt": _SRT}
"""Live sources by the scheme of their address. A new one is a file beside these and a line here."""


def shown(text: str) -> str:
    """A source as it may stand in a log: of a live one scheme, host and port, never more."""
    scheme, found, _ = text.partition("://")
    if not found or scheme not in KINDS:
        return text
    try:
        return KINDS[scheme].parse(text, None).name
    except SettingsError:
        return f"{scheme}://..."


def parse_source(
    text: str, *, relative_to: Path | None = None, login: Login | None = None
) -> Source:
    """Read the ``source`` setting.

    Args:
        text: a path, ``file:///path``, ``test://640x480@10``, or an address of ``KINDS``.
        relative_to: directory that a relative path starts from.
        login: for the camera; or it stands, percent-encoded, in the URL.

    Raises:
        SettingsError: none of these, or a login twice or where nobody asks for one.
    """
    scheme, found, rest = text.partition("://")
    if found and scheme in KINDS:
        return KINDS[scheme].parse(text, login)
    if login is not None:
        raise SettingsError("camera.username is for a source that knows a login: rtsp, rtsps, srt")
    if not found or scheme == "file":
        path = os.path.expanduser(unquote(rest) if found else text)  # or as it is: no such user
        return Source("file", str(Path(path) if relative_to is None else relative_to / path))
    if scheme == "test":
        _size(rest or "640x480@10")
        return Source("test", rest or "640x480@10")
    raise SettingsError(
        f"camera.source '{scheme:.20}://...': unknown kind; give a path, file://, test://, "
        + ", ".join(f"{name}://" for name in KINDS)
    )


def build(
    source: Source,
    platform: Platform,
    *,
    latency_ms: int = 100,
    transport: str = "auto",
    klv: bool = False,
) -> str:
    """The pipeline that ends in an appsink called ``sink``.

    Files are held back by the appsink (a queue of 4, nothing dropped); a live source runs freely
    and its reader keeps the newest frame. A live source's address and login are not in it: its
    ``Link`` sees to them. ``klv``: telemetry beside the video is wanted.

    Raises:
        PlatformError: this machine lacks an element that the pipeline needs.
    """
    need = ["appsink", "videoconvert"]
    if source.kind == "file":
        need += ["filesrc", "decodebin3"]
        head = f"filesrc name={SOURCE} location={_quoted(source.target)} ! decodebin3 name={DECODE}"
    elif source.kind == "test":
        need.append("videotestsrc")
        width, height, fps = _size(source.target)
        pattern = "ball" if min(width, height) >= _BALL_MIN else "gradient"
        head = (
            f"videotestsrc num-buffers={fps * 10} pattern={pattern} ! "
            f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
        )
    else:
        kind = KINDS[source.kind]
        need += [*kind.elements, "decodebin3"]
        head = kind.head(platform, latency_ms=latency_ms, transport=transport)
    # Hardware decoders of a Jetson hand out memory that only nvvidconv can bring to the CPU;
    # everywhere else videoconvert passes NV12 and I420 through untouched.
    bridge = "videoconvert"
    if "nvv4l2decoder" in platform.elements and "nvvidconv" in platform.elements:
        bridge = "nvvidconv"
    if source.kind != "test":
        # Passes frames on as they are unless the container says that they lie on their side.
        need.append("videoflip")
        bridge += f" ! videoflip name={TURN} video-direction=auto"
    if klv and source.kind == "rtsp":
        need.append("rtpklvdepay")
    if missing := platform.missing(need):
        raise PlatformError(explain_missing(missing))
    if source.kind != "test" and not platform.decoders:
        raise PlatformError(explain_missing(["avdec_h264"]))
    hold = "max-buffers=2 drop=true" if source.live else "max-buffers=4 drop=false"
    return f"{head} ! {bridge} ! {RAW} ! appsink name={SINK} sync=false {hold}"


def _size(text: str) -> tuple[int, int, int]:
    match = _SIZE.fullmatch(text)
    sides = (int(match[1]), int(match[2])) if match is not None else (0, 0)
    fps = int(match[3] or 10) if match is not None else 0
    if not all(_SIDES[0] <= side <= _SIDES[1] for side in sides) or not 1 <= fps <= 240:
        raise SettingsError(
            f"camera.source 'test://{text:.40}': write it as test://640x480@10; sides are "
            f"{_SIDES[0]} to {_SIDES[1]} pixels, frames 1 to 240 a second"
        )
    return *sides, fps


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
