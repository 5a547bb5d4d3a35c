"""What an error of a pipeline means: it heals itself, it needs a human, or it is impossible.

``Lost`` is raised for the first two, which only a live source knows; the third ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from skyreid.contract.errors import InputError, PlatformError
from skyreid.edge.video.container import Container
from skyreid.edge.video.kind import Link, Lost, Source
from skyreid.edge.video.platform import INSTALL

MISSING_PLUGIN = (("gst-core-error-quark", 12), ("gst-stream-error-quark", 6))
_NOT_OPENED = (("gst-resource-error-quark", 7), ("gst-resource-error-quark", 5))


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
    if (error.domain, error.code) in MISSING_PLUGIN:
        raise PlatformError(f"{name}: GStreamer lacks a plugin to decode it ({detail}): {INSTALL}")
    if container.videos == 0:
        raise InputError(f"video {name} holds no video")
    after = f" after {frames} frames" if frames else ""
    raise InputError(f"video {name} cannot be read{after}: {detail}")


def raise_lost(
    message: Any, source: Source, link: Link, ask: Callable[[], tuple[str, bool]]
) -> NoReturn:
    """Raise what an error message means where a live source is watched.

    Args:
        message: of the bus.
        source: that is watched.
        link: the connection to it.
        ask: finds out why it cannot be reached: ``Link.ask``, within a limit.

    Raises:
        Lost: always.
    """
    error, _ = message.parse_error()
    detail = source.without_secrets(" ".join(error.message.split()))
    lost = link.lost(message, detail)
    if lost is not None:
        raise lost
    kind = error.domain, error.code
    if kind in MISSING_PLUGIN:
        said = f"GStreamer lacks a plugin to decode it ({detail}): {INSTALL}"
        raise Lost("codec", said, needs_human=True)
    if kind in _NOT_OPENED:
        why, stays = ask()
        if why:
            raise Lost("tls" if why.startswith("TLS") else "unreachable", why, needs_human=stays)
    raise Lost("error", detail)
