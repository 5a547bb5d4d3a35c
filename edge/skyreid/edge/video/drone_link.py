"""What drones and their ground stations send: MPEG-TS over UDP, to one or to many, and over SRT.

KLV comes beside the video in the same stream (STANAG 4609). UDP knows no connection: who sends
nothing is waited for. SRT (draft-sharabayko-srt) connects, either way round, and may be encrypted.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import parse_qsl, unquote

from skyreid.contract.errors import SettingsError
from skyreid.edge.video.kind import DECODE, SOURCE, Access, Login, Lost, Source
from skyreid.edge.video.klv_pad import KlvPad
from skyreid.edge.video.platform import Platform

_UDP = re.compile(r"udp://@?(\[[0-9a-fA-F:.%]+\]|[0-9.]*):(\d{1,5})/?(?:\?iface=([\w.-]{1,15}))?")
_SRT = re.compile(r"srt://(\[[0-9a-fA-F:.%]+\]|[^\s/?#@:\[\]]*):(\d{1,5})/?(?:\?([^\s#]*))?")
_MODES = ("caller", "listener")
_KEYS = ("mode", "streamid", "passphrase")
_STREAM = 'caps="video/mpegts,systemstream=(boolean)true,packetsize=(int)188"'
_SOCKET_BYTES = 4 << 20
"""Asked of the kernel, which gives less where net.core.rmem_max says so: half a second of a fast
stream may come while nobody reads."""
_SECRET = (10, 79)
"""Characters of a passphrase."""


class Udp:
    """MPEG-TS to a port of this machine or to a group: see ``kind.Kind``."""

    elements: tuple[str, ...] = ("udpsrc", "tsdemux", "tsparse")

    def parse(self, text: str, login: Login | None) -> Source:
        """``udp://ADDRESS:PORT``, of this machine or of a group, ``?iface=eth0`` where it comes."""
        _no_login(login, "udp")
        match = _UDP.fullmatch(text)
        host, port = (match[1].strip("[]") or "0.0.0.0", int(match[2])) if match else ("", 0)
        if match is None or not _is_address(host) or not 1 <= port <= 65_535:
            raise SettingsError(
                f"camera.source {text[:60]!r}: write udp://ADDRESS:PORT, an address of this "
                "machine, 0.0.0.0 for all of them, or a group from 224.0.0.0 to 239.255.255.255"
            )
        shown = f"[{host}]" if ":" in host else host
        return Source("udp", f"udp://{shown}:{port}" + (f"?iface={match[3]}" if match[3] else ""))

    def head(self, platform: Platform, *, latency_ms: int, transport: str) -> str:
        """See ``kind.Kind.head``; what is late was not put in order by anybody."""
        return (
            f"udpsrc name={SOURCE} buffer-size={_SOCKET_BYTES} {_STREAM} ! decodebin3 name={DECODE}"
        )

    def connect(
        self, gst: Any, pipeline: Any, source: Source, access: Access, beside: KlvPad
    ) -> _Opened:
        """See ``kind.Kind.connect``."""
        element = pipeline.get_by_name(SOURCE)
        host, port = source.address
        element.set_property("address", host)
        element.set_property("port", port)
        if (iface := source.target.partition("?iface=")[2]) and _is_group(host):
            element.set_property("multicast-iface", iface)
        return _Opened(source)


class Srt:
    """MPEG-TS over SRT: see ``kind.Kind``."""

    elements: tuple[str, ...] = ("srtsrc", "tsdemux", "tsparse")

    def parse(self, text: str, login: Login | None) -> Source:
        """``srt://HOST:PORT``, or ``srt://:PORT`` to be called; ``?mode=``, ``streamid=``.

        ``camera.username`` is the stream's id, ``camera.password`` the passphrase.
        """
        match = _SRT.fullmatch(text)
        port = int(match[2]) if match else 0
        given = dict(parse_qsl(match[3] or "", keep_blank_values=True)) if match else {}
        host = match[1] if match else ""
        mode = given.get("mode", "caller" if host else "listener")
        if not 1 <= port <= 65_535 or mode not in _MODES or (mode == "caller" and not host):
            raise SettingsError(
                "camera.source is no srt://HOST:PORT, nor srt://:PORT?mode=listener; a passphrase "
                "is camera.password, a stream id camera.username"
            )
        if unknown := sorted(given.keys() - set(_KEYS)):
            raise SettingsError(
                f"camera.source srt://{host}:{port}/...: {', '.join(unknown)[:60]} is no key; "
                f"there are {', '.join(_KEYS)}, and camera.latency_ms"
            )
        if login is None:
            login = Login(given.get("streamid", ""), given.get("passphrase", ""))
        elif "passphrase" in given or "streamid" in given:
            raise SettingsError(
                "camera.source has a streamid or a passphrase, and so have camera.username and "
                "camera.password: give one"
            )
        if login.password and not _SECRET[0] <= len(login.password) <= _SECRET[1]:
            raise SettingsError("the passphrase of an srt:// source has 10 to 79 characters")
        said = login if login.username or login.password else None
        return Source("srt", f"srt://{unquote(host)}:{port}?mode={mode}", said)

    def head(self, platform: Platform, *, latency_ms: int, transport: str) -> str:
        """See ``kind.Kind.head``."""
        once = " auto-reconnect=false" if "srtsrc.auto-reconnect" in platform.properties else ""
        return (
            f"srtsrc name={SOURCE} latency={latency_ms}{once} ! tsparse ! decodebin3 name={DECODE}"
        )

    def connect(
        self, gst: Any, pipeline: Any, source: Source, access: Access, beside: KlvPad
    ) -> _Opened:
        """See ``kind.Kind.connect``."""
        element = pipeline.get_by_name(SOURCE)
        where, _, mode = source.target.partition("?mode=")
        element.set_property("uri", where)
        gst.util_set_object_arg(element, "mode", mode)
        if source.login is not None:
            if source.login.username:
                element.set_property("streamid", source.login.username)
            if source.login.password:
                element.set_property("passphrase", source.login.password)
        return _Opened(source)


class _Opened:
    """See ``kind.Link``: what errors of these two mean."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def lost(self, message: Any, detail: str) -> Lost | None:
        """See ``kind.Link.lost``."""
        _, debug = message.parse_error()
        said = (debug or "").lower()
        if "failed to authenticate" in said:
            why = "SRT refuses the passphrase, or wants one: see camera.password"
            return Lost("unauthorized", why, needs_human=True)
        if "address already in use" in said or "bind failed" in said or "cannot assign" in said:
            host, port = self._source.address
            why = f"{host}:{port} cannot be listened at: another program has it, or it is not ours"
            return Lost("port", why, needs_human=True)
        if "srt socket" in said:  # GStreamer's own message says nothing, its last line does
            return Lost("unreachable", self._source.without_secrets(said.splitlines()[-1]))
        return None

    def ask(self) -> tuple[str, bool]:
        """Whoever can be asked has been asked."""
        return "", False

    def forget(self) -> None:
        """Nothing here holds the pipeline."""


def _no_login(login: Login | None, kind: str) -> None:
    if login is not None:
        raise SettingsError(f"camera.username is not for a {kind}:// source, which knows no login")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_group(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_multicast
