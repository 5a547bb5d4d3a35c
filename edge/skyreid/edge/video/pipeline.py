"""From a source and a machine to a GStreamer pipeline: pure text, so it is tested as text."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from skyreid.contract.errors import PlatformError, SettingsError
from skyreid.edge.video.platform import Platform, explain_missing

RAW = "video/x-raw,format=(string){NV12,I420}"
"""What the appsink takes: the layouts decoders write, so nothing is converted on the way."""

SINK = "sink"
SOURCE = "source"
DECODE = "decode"
TURN = "turn"
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})(?:@(\d{1,3}))?")
_SIDES = (16, 8192)
_BALL_MIN = 40
"""Pixels below which videotestsrc's ball, 41 wide, is painted beyond its picture and its memory."""
_RTSP = re.compile(
    r'(?P<scheme>rtsps?)://(?:(?P<user>[^\s"/@:\[\]]*)(?::(?P<password>[^\s"/@\[\]]*))?@)?'
    r'(?P<at>(?:\[[0-9A-Fa-f:.%]+\]|[^\s"/?#@:\[\]]+)(?::\d{1,5})?)(?P<rest>[/?#][^@]*)?'
)
"""A login only where it cannot be taken for anything else, so that none is ever shown."""


@dataclass(frozen=True)
class Login:
    """Who a camera is told that we are. In no text that leaves the process."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    ``kind`` ``file`` (``target`` is a path), ``rtsp`` (a URL without a login) or ``test``
    (``WIDTHxHEIGHT@FPS``). ``name`` is what may be shown of it.
    """

    kind: Literal["file", "rtsp", "test"]
    target: str = field(repr=False)
    login: Login | None = None

    @property
    def live(self) -> bool:
        """A live source does not wait: a frame that nobody takes is gone."""
        return self.kind == "rtsp"

    @property
    def secure(self) -> bool:
        """Whether its connection is encrypted, and so has a certificate."""
        return self.target.startswith("rtsps:")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a camera."""
        found = _RTSP.fullmatch(self.target)
        assert found is not None  # parse_source has seen to it
        host, _, port = found["at"].rpartition(":")
        if not port.isdigit() or host.endswith(":"):
            host, port = found["at"], "322" if self.secure else "554"
        return host.strip("[]"), int(port)

    @property
    def name(self) -> str:
        """For messages and recordings: of a camera's address only what can be no secret.

        Cameras take logins in the path and in the query too, so neither is ever shown.
        """
        return shown(self.target if self.kind != "test" else f"test://{self.target}")

    def without_secrets(self, text: str) -> str:
        """A text of somebody else's, as an error of GStreamer, without what may not be shown."""
        if self.kind != "rtsp":
            return text
        secrets = [self.target, self.target.partition("://")[2].partition("/")[2]]
        if self.login is not None:
            secrets += [self.login.password, quote(self.login.password, safe="")]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "...")
        return text


def shown(text: str) -> str:
    """A source as it may stand in a log: of a camera scheme, host and port, never more."""
    scheme, found, _ = text.partition("://")
    if not found or scheme not in ("rtsp", "rtsps"):
        return text
    match = _RTSP.fullmatch(text)
    if match is None:
        return f"{scheme}://..."
    rest = match["rest"] or ""
    return f"{scheme}://{match['at']}{rest if rest in ('', '/') else '/...'}"


def parse_source(
    text: str, *, relative_to: Path | None = None, login: Login | None = None
) -> Source:
    """Read the ``source`` setting.

    Args:
        text: a path, ``file:///path``, ``rtsp://host/stream`` or ``test://640x480@10``.
        relative_to: directory that a relative path starts from.
        login: for the camera; or it stands, percent-encoded, in the URL.

    Raises:
        SettingsError: none of these, or a login twice or where nobody asks for one.
    """
    scheme, found, rest = text.partition("://")
    if found and scheme in ("rtsp", "rtsps"):
        return _camera(text, login)
    if login is not None:
        raise SettingsError("camera.username is for an rtsp:// or rtsps:// source only")
    if not found or scheme == "file":
        path = os.path.expanduser(unquote(rest) if found else text)  # or as it is: no such user
        return Source("file", str(Path(path) if relative_to is None else relative_to / path))
    if scheme == "test":
        _size(rest or "640x480@10")
        return Source("test", rest or "640x480@10")
    raise SettingsError(
        f"camera.source '{scheme:.20}://...': unknown kind; give a path, file://, rtsp://, "
        "rtsps:// or test://"
    )


def _camera(text: str, login: Login | None) -> Source:
    match = _RTSP.fullmatch(text)
    if match is None:  # not shown: there may be a password in it
        raise SettingsError(
            "camera.source is no rtsp://HOST[:PORT]/STREAM: give a login as camera.username and "
            "camera.password, any character as it is; in a URL write %40 for @, %2F for /, %3A "
            "for :, %20 for a space, %22 for a quote"
        )
    if match["user"] is not None:
        if login is not None:
            raise SettingsError("camera.source has a login, and so has camera.username: give one")
        login = Login(unquote(match["user"]), unquote(match["password"] or ""))
    url = f"{match['scheme']}://{match['at']}{match['rest'] or ''}"
    return Source("rtsp", quote(url, safe=":/?#[]@!$&'()*+,;=%~-._"), login)


def build(
    source: Source, platform: Platform, *, latency_ms: int = 100, transport: str = "auto"
) -> str:
    """The pipeline that ends in an appsink called ``sink``.

    Files are held back by the appsink (a queue of 4, nothing dropped); a live source runs freely
    and its reader keeps the newest frame. A camera's address and login are not in it, nor what
    leads from it to the decoder, which depends on what it sends: ``rtsp.py`` sees to both.

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
        need += ["rtspsrc", "rtph264depay", "decodebin3"]
        stamps = (
            " add-reference-timestamp-meta=true"
            if "rtspsrc.add-reference-timestamp-meta" in platform.properties
            else ""
        )
        protocols = "tcp" if transport == "auto" else transport
        head = (
            f"rtspsrc name={SOURCE} protocols={protocols} latency={latency_ms}{stamps} "
            f"decodebin3 name={DECODE}"
        )
    # Hardware decoders of a Jetson hand out memory that only nvvidconv can bring to the CPU;
    # everywhere else videoconvert passes NV12 and I420 through untouched.
    bridge = "videoconvert"
    if "nvv4l2decoder" in platform.elements and "nvvidconv" in platform.elements:
        bridge = "nvvidconv"
    if source.kind != "test":
        # Passes frames on as they are unless the container says that they lie on their side.
        need.append("videoflip")
        bridge += f" ! videoflip name={TURN} video-direction=auto"
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
