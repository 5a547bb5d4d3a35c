"""A video of one's own as the command line gives it: ``VIEW=SOURCE[@START]``."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.site import Site
from skyreid.edge.video.pipeline import parse_source, shown

COMMON_ZERO_NS = 1_760_000_000_000_000_000
"""What ``@0`` means: a fixed moment, so that runs can be compared."""
PLACED_ERROR_MS = 3_600_000
"""Error of a start that was chosen only so that looks can be compared: the most there is."""
CONTAINER_ERROR_MS = 1_000
"""MP4 counts whole seconds."""
_MAC_EPOCH_S = 2_082_844_800
"""Seconds from 1904 (MP4) to 1970 (Unix)."""
_BOXES_MAX = 10_000
_LIVE = ("rtsp://", "rtsps://")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")

OTHER_PARTS = frozenset({"broker", "server", "site"})
"""Names of logs and settings files of a chain that no camera can have."""

StartOf = Literal["given", "seconds", "container", "unknown", "live"]


@dataclass(frozen=True)
class Video:
    """One camera of the demo."""

    camera: str
    view: str
    source: str
    """A path without ``~``, or ``rtsp://``."""
    start_of: StartOf
    start_ns: int | None = None
    error_ms: int = 0
    length_s: float | None = None
    """Of a file, where its container says it."""
    posed: bool = False
    """Whether the site file knows where it stands and looks."""

    @property
    def live(self) -> bool:
        """It has no end of its own."""
        return self.start_of == "live"

    @property
    def name(self) -> str:
        """The source as it may be shown: of a camera nothing that may be a secret."""
        return shown(self.source)

    @property
    def dated(self) -> bool:
        """Whether its times can be compared with those of other cameras."""
        return self.start_of != "unknown"


def read_videos(given: Sequence[str], site: Site | None) -> tuple[Video, ...]:
    """The videos of a command line, in its order.

    Args:
        given: each ``VIEW=SOURCE[@START]``; with a site file a camera of it may stand for VIEW.
        site: the site file.

    Raises:
        InputError: one of them cannot be used.
    """
    videos: list[Video] = []
    for text in given:
        videos.append(_read(text, site, {v.camera for v in videos}))
    relative = [t for t, v in zip(given, videos, strict=True) if v.start_of == "seconds"]
    absolute = [(t, v) for t, v in zip(given, videos, strict=True) if v.dated and t not in relative]
    if relative and absolute:
        text, video = absolute[0]
        why = {"container": ", it says a date itself", "live": ", it is live"}
        raise InputError(
            f"--video {said(relative[0])}: seconds are on a clock of their own, and {said(text)} "
            f"is not on it{why.get(video.start_of, '')}: give every START as seconds, every one as "
            "a date, or unknown"
        )
    known = [v.start_ns for v in videos if v.start_ns is not None]
    if not known:
        return tuple(videos)
    # Beside dated ones: near enough to them for looks to be compared, and said to be off by more
    # than anything that is concluded from time.
    return tuple(
        v if v.dated else replace(v, start_ns=min(known), error_ms=PLACED_ERROR_MS) for v in videos
    )


def _read(text: str, site: Site | None, taken: set[str]) -> Video:
    view, equals, rest = text.partition("=")
    cameras = {} if site is None else {c.id: c for c in site.camera}
    if not equals or not rest or (view not in ("aerial", "ground") and view not in cameras):
        names = "".join(f", {name}" for name in cameras)
        raise InputError(
            f"--video {said(text)}: write VIEW=FILE[@START]; VIEW is aerial or ground{names}"
        )
    if site is not None and view not in cameras:
        raise InputError(
            f"--video {said(text)}: with a site file say which camera this is: {', '.join(cameras)}"
        )
    if view in OTHER_PARTS:
        raise InputError(
            f"--video {said(text)}: the demo has another part of that name; rename the camera"
        )
    if view in taken:
        raise InputError(f"--video {said(text)}: the site's camera {view} has a video already")
    source, start = _split(rest)
    video = _live(source, text) if source.startswith(_LIVE) else _file(source, start, text)
    if site is not None:
        camera = cameras[view]
        return replace(video, camera=view, view=camera.view, posed=camera.poses is not None)
    return replace(video, camera=_name(source if not video.live else view, taken), view=view)


def said(text: str) -> str:
    """A ``--video`` for messages: in one line, of a URL nothing that may be a secret."""
    head, url, _ = text.partition("://")
    if url:
        before, equals, scheme = head.rpartition("=")
        rest = text[len(before + equals) :]
        rest = shown(rest) if rest.startswith(_LIVE) else f"{scheme}://..."
        text = before + equals + rest
    return text if text.isprintable() else repr(text)


def _split(rest: str) -> tuple[str, str]:
    """Source and START; an ``@`` may also be part of a URL's login or of a file's name."""
    source, at, start = rest.rpartition("@")
    if rest.startswith(_LIVE) or not at or _there(_path(rest)):
        return rest, ""
    return source, start


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser().absolute()
    except RuntimeError:  # ~ of nobody: a file's name like any other
        return Path(source).absolute()


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have, or a folder that is closed to us
        return False


def _live(source: str, text: str) -> Video:
    try:
        parse_source(source)
    except SettingsError as wrong:
        raise InputError(
            f"--video {said(text)}: is no rtsp://HOST[:PORT]/STREAM; a live camera takes no "
            "@START, and in a login %40 stands for @, %2F for / and %3A for :"
        ) from wrong
    return Video("", "", source, "live")


def _file(source: str, start: str, text: str) -> Video:
    if re.match(r"/dev/video[0-9]", source):
        raise InputError(
            f"--video {said(text)}: a camera on this machine's USB is not read; give a file or "
            "rtsp://"
        )
    if "://" in source:
        raise InputError(f"--video {said(text)}: give a file, or rtsp://HOST/STREAM")
    path = _path(source)
    try:
        if not path.is_file():
            what = (
                f"{said(str(path))} is a folder"
                if path.is_dir()
                else f"there is no file {said(str(path))}"
            )
            raise InputError(f"--video {said(text)}: {what}")
        made_ns, length_s = container_times(path)
    except OSError as wrong:
        raise InputError(f"--video {said(text)}: {wrong.strerror}") from wrong
    video = Video("", "", str(path), "unknown", length_s=length_s)
    if start == "unknown" or (not start and made_ns is None):
        return video
    if start:
        of: StartOf = "seconds" if _SECONDS.fullmatch(start) else "given"
        return replace(video, start_of=of, start_ns=start_ns(start, text))
    return replace(video, start_of="container", start_ns=made_ns, error_ms=CONTAINER_ERROR_MS)


def start_ns(start: str, text: str) -> int:
    """UTC nanoseconds of a START: seconds on a common clock, or a date with its zone.

    Raises:
        InputError: it is neither; ``text`` is named.
    """
    if _SECONDS.fullmatch(start):
        return COMMON_ZERO_NS + round(float(start) * 1e9)
    try:
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", start))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(
            f"--video {said(text)}: START {start!r} is none: write 2026-11-29T10:00:00Z (with "
            "its zone), seconds on a clock that all videos share (12.5), or unknown"
        )
    if not 1971 <= moment.year < 2100:
        raise InputError(f"--video {said(text)}: START {start!r} is before 1971 or after 2099")
    return round(moment.timestamp() * 1e6) * 1000


def _name(source: str, taken: set[str]) -> str:
    """A camera's name, of its file's."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(source).stem).strip("-_")[:40] or "video"
    name, count = stem, 1
    while name in taken or name in OTHER_PARTS:
        count += 1
        name = f"{stem}-{count}"
    return name


def container_times(path: Path) -> tuple[int | None, float | None]:
    """When an MP4 or MOV file says it was made (UTC ns), and how long it is (s); None = not said.

    ISO 14496-12, 8.2.2: the movie header, ``moov/mvhd``. Whoever edits or re-encodes a file writes
    the time of that instead, or nothing.
    """
    with open(path, "rb") as stream:
        moov = _find(stream, b"moov", path.stat().st_size)
        found = None if moov is None else _find(stream, b"mvhd", moov)
        if found is None:
            return None, None
        body = stream.read(32)
    if len(body) < 32:
        return None, None
    if body[0] == 1:
        made, _, scale, length = struct.unpack(">QQIQ", body[4:32])
    else:
        made, _, scale, length = struct.unpack(">IIII", body[4:20])
    length_s = length / scale if scale and 0 < length < (1 << 32) - 1 else None
    made_s = made - _MAC_EPOCH_S
    # 1971 to 2100: before it is a zero that was shifted, after it no time at all.
    return (made_s * 10**9 if 31_536_000 < made_s < 4_102_444_800 else None), length_s


def _find(stream: BinaryIO, kind: bytes, end: int) -> int | None:
    """Go to the inside of the next box of a kind before ``end``; where that box ends."""
    for _ in range(_BOXES_MAX):
        at = stream.tell()
        head = stream.read(8)
        if at >= end or len(head) < 8:
            return None
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if size == 1:
            long = stream.read(8)
            size = int.from_bytes(long, "big") if len(long) == 8 else 0
        if size < 8 or at + size > 1 << 62:
            return None
        if name == kind:
            return min(at + size, end)
        stream.seek(at + size)
    return None
