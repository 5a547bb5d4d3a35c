"""One connection to a camera: who we are, what it sends and how, whose certificate it shows."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from skyreid.contract.errors import SettingsError
from skyreid.edge.video.kind import DECODE, SOURCE, Access, Login, Lost, Source
from skyreid.edge.video.klv_pad import KlvPad
from skyreid.edge.video.lost import MISSING_PLUGIN
from skyreid.edge.video.platform import Platform, first_structure, load_gio

_URL = re.compile(
    r'(?P<scheme>rtsps?)://(?:(?P<user>[^\s"/@:\[\]]*)(?::(?P<password>[^\s"/@\[\]]*))?@)?'
    r'(?P<at>(?:\[[0-9A-Fa-f:.%]+\]|[^\s"/?#@:\[\]]+)(?::\d{1,5})?)(?P<rest>[/?#][^@]*)?'
)
"""A login only where it cannot be taken for anything else, so that none is ever shown."""
_LOGIN_STATUS = (401, 403, 407)
_NOT_FOUND = 404
_KLV = "SMPTE336M"
"""RFC 6597."""

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


class Rtsp:
    """Cameras that speak RTSP, or RTSPS: see ``kind.Kind``."""

    elements: tuple[str, ...] = ("rtspsrc", "rtph264depay")

    def parse(self, text: str, login: Login | None) -> Source:
        """``rtsp://HOST[:PORT]/STREAM``; a login may stand in it, percent-encoded."""
        match = _URL.fullmatch(text)
        if match is None:  # not shown: there may be a password in it
            raise SettingsError(
                "camera.source is no rtsp://HOST[:PORT]/STREAM: give a login as camera.username "
                "and camera.password, any character as it is; in a URL write %40 for @, %2F for /, "
                "%3A for :, %20 for a space, %22 for a quote"
            )
        if match["user"] is not None:
            if login is not None:
                raise SettingsError(
                    "camera.source has a login, and so has camera.username: give one"
                )
            login = Login(unquote(match["user"]), unquote(match["password"] or ""))
        url = f"{match['scheme']}://{match['at']}{match['rest'] or ''}"
        return Source("rtsp", quote(url, safe=":/?#[]@!$&'()*+,;=%~-._"), login)

    def head(self, platform: Platform, *, latency_ms: int, transport: str) -> str:
        """What leads from it to the decoder depends on what it sends: ``Connection`` links it."""
        wanted = "rtspsrc.add-reference-timestamp-meta" in platform.properties
        stamps = " add-reference-timestamp-meta=true" if wanted else ""
        protocols = "tcp" if transport == "auto" else transport
        return (
            f"rtspsrc name={SOURCE} protocols={protocols} latency={latency_ms}{stamps} "
            f"decodebin3 name={DECODE}"
        )

    def connect(
        self, gst: Any, pipeline: Any, source: Source, access: Access, beside: KlvPad
    ) -> Connection:
        """See ``kind.Kind.connect``."""
        return Connection(gst, pipeline, source, access, beside)


class Connection:
    """Sets up the RTSP client of one pipeline and notes what it is told."""

    def __init__(
        self, gst: Any, pipeline: Any, source: Source, access: Access, beside: KlvPad
    ) -> None:
        """Set the properties of the pipeline's ``rtspsrc``; it has not been started.

        Raises:
            SettingsError: the authority's file cannot be used.
        """
        self._gst, self._pipeline = gst, pipeline
        self._source, self._access, self._beside = source, access, beside
        client = pipeline.get_by_name(SOURCE)
        self.offered: list[str] = []
        """Kinds of the streams that the camera has, in its order."""
        self.certificate_fault = ""
        """Why its certificate was refused."""
        client.set_property("location", source.target)
        gst.util_set_object_arg(client, "protocols", access.transport)
        client.set_property("tcp-timeout", int(access.connect_s * 1e6))
        if source.login is not None:
            client.set_property("user-id", source.login.username)
            client.set_property("user-pw", source.login.password)
        client.connect("select-stream", self._select)
        client.connect("pad-added", self._link)
        if is_secure(source):
            self._set_up_tls(client)

    def forget(self) -> None:
        """See ``kind.Link.forget``."""
        self._pipeline = None

    def lost(self, message: Any, detail: str) -> Lost | None:
        """See ``kind.Link.lost``."""
        error, _ = message.parse_error()
        missing, status = (error.domain, error.code) in MISSING_PLUGIN, _status(message)
        if status in _LOGIN_STATUS:
            does = "wants a login" if self._source.login is None else "refuses this login"
            said = f"the camera {does} ({status}): see camera.username and camera.password"
            return Lost("unauthorized", said, needs_human=True)
        if self.certificate_fault:
            said = f"the camera's certificate is refused: {self.certificate_fault}"
            said += "; see camera.tls_ca and camera.tls_fingerprint"
            return Lost("tls", said, needs_human=True)
        if self.offered and "video" not in self.offered:
            kinds = ", ".join(self.offered)
            return Lost("no_video", f"the camera offers {kinds}, no video", needs_human=True)
        if missing and _maker(message) == "rtspsrc":
            said = "the camera does not carry its pictures this way (461): see camera.transport"
            return Lost("transport", said, needs_human=True)
        if status == _NOT_FOUND:
            return Lost("not_found", f"the camera has no such stream ({status})")
        return Lost("error", f"{detail} ({status})") if status and not missing else None

    def ask(self) -> tuple[str, bool]:
        """See ``kind.Link.ask``; without a login."""
        return ask_why(self._source, self._access)

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
        """Whether a stream is asked for: one video, KLV, and nothing else."""
        said = first_structure(caps)
        kind = said.get_string("media") or "?"
        self.offered.append(kind)
        if said.get_string("encoding-name") == _KLV:
            return True
        return kind == "video" and self.offered.count("video") == (self._access.track or 1)

    def _link(self, _client: Any, pad: Any) -> None:
        """Lead the stream that was asked for to the decoder, picture by picture."""
        if self._pipeline is None:
            return
        offered = pad.query_caps(None)
        encoding = first_structure(offered).get_string("encoding-name")
        if encoding == _KLV:
            self._lead_aside(pad)
            return
        target = self._pipeline.get_by_name(DECODE).get_static_pad("sink")
        if (maker := _PICTURES.get(str(encoding).upper())) is not None:
            pictures = self._gst.parse_bin_from_description(maker, True)
            self._pipeline.add(pictures)
            pictures.sync_state_with_parent()
            pictures.get_static_pad("src").link(target)
            target = pictures.get_static_pad("sink")
        pad.link(target)

    def _lead_aside(self, pad: Any) -> None:
        """KLV is noted where it is put together, and goes nowhere."""
        try:
            end = self._gst.parse_bin_from_description(
                "rtpklvdepay name=klv ! fakesink sync=false async=false", True
            )
        except Exception:  # GLib's: this machine has no such element, and the source said so
            return
        self._beside.watch(end.get_by_name("klv").get_static_pad("src"))
        self._pipeline.add(end)
        end.sync_state_with_parent()
        pad.link(end.get_static_pad("sink"))

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
            if not is_secure(source):
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


def is_secure(source: Source) -> bool:
    """Whether its connection is encrypted, and so has a certificate."""
    return source.target.startswith("rtsps:")


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
