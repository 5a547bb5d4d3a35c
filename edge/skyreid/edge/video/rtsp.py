"""One connection to a camera: who we are, what it sends and how, whose certificate it shows."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skyreid.contract.errors import SettingsError
from skyreid.edge.video.pipeline import DECODE, SOURCE, Source
from skyreid.edge.video.platform import load_gio

Transport = Literal["tcp", "udp"]

_ASK_S = 3.0
_FLAGS = {
    1: "its authority is not known here",
    2: "it is for another name than this address",
    4: "it is not valid yet: is this machine's clock right?",
    8: "it has expired",
    16: "it was revoked",
    32: "its algorithm is not secure",
}
"""Gio's GTlsCertificateFlags."""
_PICTURES = {
    "H264": "rtph264depay ! capsfilter caps=video/x-h264,alignment=(string)au",
    "H265": "rtph265depay ! capsfilter caps=video/x-h265,alignment=(string)au",
}
"""By encoding: what makes whole pictures of packets, which say themselves where one ends. Left to a
decodebin the depayloader hands out single NAL units (GStreamer 1.22), and where a camera repeats
its parameter sets between the slices of a key frame the parser makes two pictures of it, neither
whole: green ones, until the next key frame and after it."""
_NOBODY = """-----BEGIN CERTIFICATE-----
MIIBHDCBw6ADAgECAgEBMAoGCCqGSM49BAMCMBgxFjAUBgNVBAMMDXNpZ25zIG5v
dGhpbmcwHhcNMDAwMTAxMDAwMDAwWhcNMDEwMTAxMDAwMDAwWjAYMRYwFAYDVQQD
DA1zaWducyBub3RoaW5nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEh7CaNQNY
twF6e4i+mr4VKHKlMMUFa2Fbz/3LJXPb+Nv9iBykLJ8ztJVgxTLXglVkeFZNukzH
ATTUcfw58cHSTDAKBggqhkjOPQQDAgNIADBFAiBf6JbkXzc+Taet+VWEWezrfC5+
U5yF7M2KkLdZZNm4sQIhAPLFQ/hkZKIGo5muw5mrmSUEX6i5GSjwjg3nxQNQyqI9
-----END CERTIFICATE-----
"""
"""An authority that signed nothing and whose key nobody has: trusting it alone, every certificate
comes to be asked about, and its fingerprint is compared."""


@dataclass(frozen=True)
class Access:
    """How a camera is reached, beside its address and login."""

    transport: Literal["auto", "tcp", "udp"] = "auto"
    track: int | None = None
    """Number of the video among those that it offers, from 1; None = the first."""
    tls_ca: Path | None = None
    """Authority of its certificate, PEM; None = those of this machine."""
    tls_fingerprint: str | None = None
    """SHA-256 of its certificate, hexadecimal; then nothing else about it matters."""
    tls_verify: bool = True
    """False takes any certificate."""


class Connection:
    """Sets up the RTSP client of one pipeline and notes what it is told."""

    def __init__(self, gst: Any, pipeline: Any, source: Source, access: Access) -> None:
        """Set the properties of the pipeline's ``rtspsrc``; it has not been started.

        Raises:
            SettingsError: the authority's file cannot be used.
        """
        self._gst, self._pipeline = gst, pipeline
        self._source, self._access = source, access
        client = pipeline.get_by_name(SOURCE)
        self.offered: list[str] = []
        """Kinds of the streams that the camera has, in its order."""
        self.certificate_fault = ""
        """Why its certificate was refused."""
        client.set_property("location", source.target)
        if source.login is not None:
            client.set_property("user-id", source.login.username)
            client.set_property("user-pw", source.login.password)
        client.connect("select-stream", self._select)
        client.connect("pad-added", self._link)
        if source.secure:
            self._set_up_tls(client)

    def forget(self) -> None:
        """Let go of the pipeline, which holds this by its signals: else neither is ever freed."""
        self._pipeline = None

    def _set_up_tls(self, client: Any) -> None:
        access = self._access
        if access.tls_fingerprint is not None:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as nobody:
                nobody.write(_NOBODY)
                nobody.flush()
                client.set_property("tls-database", trust(Path(nobody.name)))
        elif not access.tls_verify:
            self._gst.util_set_object_arg(client, "tls-validation-flags", "0")
        elif access.tls_ca is not None:
            client.set_property("tls-database", trust(access.tls_ca))
        client.connect("accept-certificate", self._judge)

    def _select(self, _client: Any, _number: int, caps: Any) -> bool:
        """Whether a stream is asked for: one video, and nothing else."""
        kind = caps.get_structure(0).get_string("media") or "?"
        self.offered.append(kind)
        return kind == "video" and self.offered.count("video") == (self._access.track or 1)

    def _link(self, _client: Any, pad: Any) -> None:
        """Lead the stream that was asked for to the decoder, picture by picture."""
        if self._pipeline is None:
            return
        encoding = pad.query_caps(None).get_structure(0).get_string("encoding-name")
        target = self._pipeline.get_by_name(DECODE).get_static_pad("sink")
        if (maker := _PICTURES.get(str(encoding).upper())) is not None:
            pictures = self._gst.parse_bin_from_description(maker, True)
            self._pipeline.add(pictures)
            pictures.sync_state_with_parent()
            pictures.get_static_pad("src").link(target)
            target = pictures.get_static_pad("sink")
        pad.link(target)

    def _judge(self, _client: Any, _connection: Any, certificate: Any, flags: Any) -> bool:
        """Asked where the certificate does not follow from what is trusted."""
        wanted = self._access.tls_fingerprint
        if wanted is None:
            faults = [text for bit, text in _FLAGS.items() if int(flags) & bit]
            self.certificate_fault = ", ".join(faults) or "it is not valid"
            return False
        shown = hashlib.sha256(bytes(certificate.get_property("certificate"))).hexdigest()
        if hmac.compare_digest(shown, wanted):
            return True
        self.certificate_fault = f"its fingerprint is {shown}"
        return False


def trust(path: Path) -> Any:
    """A database of the authorities in a PEM file.

    Raises:
        SettingsError: it cannot be read or holds none.
    """
    gio, error_type = load_gio()
    try:
        return gio.TlsFileDatabase.new(str(path.absolute()))
    except error_type as error:
        raise SettingsError(f"camera.tls_ca {path}: {error.message}") from error


def ask_why(source: Source, access: Access) -> tuple[str, bool]:
    """Why a camera cannot be reached, in the words of the system or of OpenSSL; empty = it can.

    GStreamer 1.22 says "Generic error" of all of it. This asks once more, without a login.

    Returns:
        The reason, and whether it is one that stays until somebody does something.
    """
    host, port = source.address
    try:
        with socket.create_connection((host, port), timeout=_ASK_S) as connection:
            if not source.secure:
                return "", False
            context = ssl.create_default_context(cafile=access.tls_ca)
            if access.tls_fingerprint is not None or not access.tls_verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(connection, server_hostname=host):
                return "", False
    except ssl.SSLCertVerificationError as error:
        return f"TLS: {error.verify_message}", True
    except ssl.SSLEOFError:
        return "TLS: it hangs up", False
    except ssl.SSLError as error:
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}", True
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}", False
