"""What a source is, and what a new kind of live source brings: a file, and a line in ``pipeline``.

A ``Kind`` reads an address and says which elements lead from it to the decoder; a ``Link`` is one
connection of it: it sets these elements up and says what their errors mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

from skyreid.edge.video.klv_pad import KlvPad
from skyreid.edge.video.platform import Platform

SINK = "sink"
SOURCE = "source"
DECODE = "decode"
TURN = "turn"
"""Names of elements that are looked for in a pipeline."""

_PORTS = {"rtsp": 554, "rtsps": 322}
"""Of those that name one not always."""
_ADDRESS = re.compile(r"(\[[^\]]*\]|[^:/?]*)(?::(\d{1,5}))?")


@dataclass(frozen=True)
class Login:
    """Who a camera is told that we are. In no text that leaves the process."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    ``kind`` is ``file`` (``target`` is a path), ``test`` (``WIDTHxHEIGHT@FPS``) or that of a live
    one (a URL without a login). ``name`` is what may be shown of it.
    """

    kind: str
    target: str = field(repr=False)
    login: Login | None = None

    @property
    def live(self) -> bool:
        """A live source does not wait: a frame that nobody takes is gone."""
        return self.kind not in ("file", "test")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a live source."""
        scheme, _, rest = self.target.partition("://")
        found = _ADDRESS.match(rest)
        assert found is not None  # parse_source has seen to it
        return found[1].strip("[]"), int(found[2] or _PORTS[scheme])

    @property
    def name(self) -> str:
        """For messages and recordings: of a live one only scheme, host and port.

        Cameras take logins in the path and in the query too, so neither is ever shown.
        """
        if self.live:
            scheme, _, rest = self.target.partition("://")
            found = _ADDRESS.match(rest)
            at = found[0] if found else ""
            more = rest[len(at) :]
            return f"{scheme}://{at}{more if more in ('', '/') else '/...'}"
        return self.target if self.kind == "file" else f"test://{self.target}"

    def without_secrets(self, text: str) -> str:
        """A text of somebody else's, as an error of GStreamer, without what may not be shown."""
        if not self.live:
            return text
        rest = self.target.partition("://")[2]
        secrets = [self.target, rest.partition("/")[2], rest.partition("?")[2]]
        if self.login is not None:
            secrets += [self.login.password, quote(self.login.password, safe="")]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "...")
        return text


@dataclass(frozen=True)
class Access:
    """How a source is reached, beside its address and login."""

    transport: Literal["auto", "tcp", "udp"] = "auto"
    """Of RTSP."""
    track: int | None = None
    """Number of the video among those that it offers, from 1; None = of a file the largest, of a
    live one the first."""
    tls_ca: Path | None = None
    """Authority of its certificate, PEM; None = those of this machine."""
    tls_fingerprint: str | None = None
    """SHA-256 of its certificate, hexadecimal; then nothing else about it matters."""
    tls_verify: bool = True
    """False takes any certificate."""
    connect_s: float = 15.0
    """Within so much it is to answer."""


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


class Link(Protocol):
    """One connection to a live source, set up before its pipeline is started."""

    def lost(self, message: Any, detail: str) -> Lost | None:
        """What an error message of the pipeline means.

        Args:
            message: of the bus.
            detail: its text, which may be shown.

        Returns:
            None where this kind has no word for it.
        """
        ...

    def ask(self) -> tuple[str, bool]:
        """Why nobody answers, by asking once more; may take some seconds.

        Returns:
            The reason, empty where there is none, and whether it stays until somebody acts.
        """
        ...

    def forget(self) -> None:
        """Let go of the pipeline, which holds this by its signals: else neither is ever freed."""
        ...


class Kind(Protocol):
    """One kind of live source."""

    elements: tuple[str, ...]
    """That its pipelines need beside the decoder."""

    def parse(self, text: str, login: Login | None) -> Source:
        """Read an address.

        Raises:
            SettingsError: it is none; the message shows nothing that may be a secret.
        """
        ...

    def head(self, platform: Platform, *, latency_ms: int, transport: str) -> str:
        """What leads to the decoder: text for ``gst_parse_launch``, without the address."""
        ...

    def connect(
        self, gst: Any, pipeline: Any, source: Source, access: Access, beside: KlvPad
    ) -> Link:
        """Set up the elements of ``head`` in a pipeline that has not been started."""
        ...
