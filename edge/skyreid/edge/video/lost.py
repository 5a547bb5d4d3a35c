"""What an error of a pipeline means: it heals itself, it needs a human, or it is impossible.

``Lost`` is raised for the first two, which only a live source knows; the third ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from skyreid.contract.errors import InputError, PlatformError
from skyreid.edge.video.container import Container
from skyreid.edge.video.pipeline import Source
from skyreid.edge.video.platform import INSTALL
from skyreid.edge.video.rtsp import Connection

_MISSING_PLUGIN = (("gst-core-error-quark", 12), ("gst-stream-error-quark", 6))
_NOT_OPENED = (("gst-resource-error-quark", 7), ("gst-resource-error-quark", 5))
_LOGIN_STATUS = (401, 403, 407)
_NOT_FOUND = 404


class Lost(Exception):
    """A live source is gone; the message says why, for people.

    Attributes:
        reason: a word for the counter.
        needs_human: whether trying again soon cannot help, or does harm: cameras lock out whoever
            comes with a wrong password a few times.
    """

    def __init__(self, reason: str, detail: str, *, needs_human: bool = False) -> None:
        super().__init__(detail)
        self.reason, self.needs_human = reason, needs_human


def raise_file_error(message: Any, source: Source, container: Container, frames: int) -> NoReturn:
    """Raise what an error message means where a file is read.

    Args:
        message: of the bus.
        source: that is read.
        container: what was found in it.
        frames: that were read before.

    Raises:
        InputError: the file is damaged or has no video.
        PlatformError: a plugin is missing.
    """
    error, _ = message.parse_error()  # the other part names GStreamer's source lines
    detail, name = " ".join(error.message.split()), source.name
    if (error.domain, error.code) in _MISSING_PLUGIN:
        raise PlatformError(f"{name}: GStreamer lacks a plugin to decode it ({detail}): {INSTALL}")
    if container.videos == 0:
        raise InputError(f"video {name} holds no video")
    after = f" after {frames} frames" if frames else ""
    raise InputError(f"video {name} cannot be read{after}: {detail}")


def raise_lost(
    message: Any, source: Source, connection: Connection, ask: Callable[[], tuple[str, bool]]
) -> NoReturn:
    """Raise what an error message means where a camera is watched.

    Args:
        message: of the bus.
        source: that is watched.
        connection: what was said on it before.
        ask: finds out why a camera cannot be reached: ``rtsp.ask_why``.

    Raises:
        Lost: always.
    """
    error, _ = message.parse_error()
    detail = source.without_secrets(" ".join(error.message.split()))
    kind, status = (error.domain, error.code), _status(message)
    if status in _LOGIN_STATUS:
        does = "wants a login" if source.login is None else "refuses this login"
        said = f"the camera {does} ({status}): see camera.username and camera.password"
        raise Lost("unauthorized", said, needs_human=True)
    if connection.certificate_fault:
        said = f"the camera's certificate is refused: {connection.certificate_fault}"
        said += "; see camera.tls_ca and camera.tls_fingerprint"
        raise Lost("tls", said, needs_human=True)
    if connection.offered and "video" not in connection.offered:
        raise no_video(connection)
    if kind in _MISSING_PLUGIN and _maker(message) == "rtspsrc":
        said = "the camera does not carry its pictures this way (461): see camera.transport"
        raise Lost("transport", said, needs_human=True)
    if kind in _MISSING_PLUGIN:
        said = f"GStreamer lacks a plugin to decode it ({detail}): {INSTALL}"
        raise Lost("codec", said, needs_human=True)
    if status == _NOT_FOUND:
        raise Lost("not_found", f"the camera has no such stream ({status})")
    if status is None and kind in _NOT_OPENED:
        why, stays = ask()
        if why:
            raise Lost("tls" if why.startswith("TLS") else "unreachable", why, needs_human=stays)
    raise Lost("error", f"{detail} ({status})" if status else detail)


def no_video(connection: Connection) -> Lost:
    """What a camera that has no video to give is."""
    kinds = ", ".join(connection.offered) or "nothing"
    return Lost("no_video", f"the camera offers {kinds}, no video", needs_human=True)


def _status(message: Any) -> int | None:
    """RTSP's status code, where the error is the server's answer."""
    details = message.parse_error_details()
    if details is None:
        return None
    found, status = details.get_uint("rtsp-status-code")
    return int(status) if found else None


def _maker(message: Any) -> str:
    factory = message.src.get_factory() if hasattr(message.src, "get_factory") else None
    return str(factory.get_name()) if factory is not None else ""
