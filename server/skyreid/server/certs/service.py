"""The service that devices enrol and renew with: HTTPS, a token once, then their certificate.

It shows the broker's certificate, which a device believes by the authority that its token names.
A connection is left ``TIMEOUT_S`` after it began, however slowly it speaks; there are at most
``CONNECTIONS_MAX``; of a body nothing is read beyond ``MAX_BYTES``.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any

from skyreid.contract.enrolment import (
    MAX_BYTES,
    PATH,
    RENEWAL_PATH,
    EnrolmentAnswer,
    EnrolmentRequest,
    RenewalAnswer,
    RenewalRequest,
    decode,
)
from skyreid.contract.errors import InputError
from skyreid.server.certs.authority import Authority
from skyreid.server.certs.renewal import renew
from skyreid.server.certs.seal_keys import public_key

_log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
CONNECTIONS_MAX = 64


class Enrolment(ThreadingHTTPServer):
    """Serves until ``shutdown``."""

    daemon_threads = True

    def __init__(self, authority: Authority, address: tuple[str, int], days: float) -> None:
        """Listen on ``address``; certificates live ``days``.

        Raises:
            InputError: the address cannot be had.
        """
        self.authority, self.days = authority, days
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._tls()  # what is wrong with the certificate is said at once
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise InputError(f"{address[0]}:{address[1]}: {error.strerror}") from error

    def get_request(self) -> tuple[socket, Any]:
        """The handshake is made by the connection's own thread, not by the one that accepts."""
        connection, peer = super().get_request()
        connection.settimeout(TIMEOUT_S)
        return self._tls().wrap_socket(connection, True, do_handshake_on_connect=False), peer

    def _tls(self) -> ssl.SSLContext:
        """Read for each connection: ``certs renew`` may have been there."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(self.authority.path("broker.pem"), self.authority.path("broker.key"))
        # A bare device has none to show; one that was taken back, or is over, does not pass.
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        for name in ("ca.pem", "crl.pem"):
            tls.load_verify_locations(self.authority.path(name))
        return tls

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, as long as there are few."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See ``process_request``."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that ends on the way is nobody's fault; the rest is a defect, or a disk."""
        if isinstance(sys.exc_info()[1], OSError):
            _log.debug("enrolment: a connection ended", exc_info=True)
        else:
            _log.exception("enrolment failed peer=%s", client_address[0])


class _Reader(RawIOBase):
    """Reads from a connection until a moment, and no longer."""

    def __init__(self, connection: socket, end_s: float) -> None:
        self._connection, self._end_s = connection, end_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it speaks too slowly")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: Enrolment
    timeout = TIMEOUT_S
    server_version, sys_version = "skyreid", ""

    def setup(self) -> None:
        super().setup()
        self.rfile = BufferedReader(_Reader(self.connection, time.monotonic() + TIMEOUT_S))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        answers = {PATH: self._enrol, RENEWAL_PATH: self._renew}
        if self.path not in answers or not length.isascii() or not length.isdigit():
            self._answer(404, b"")
            return
        if int(length) > MAX_BYTES:
            self._answer(413, b"")
            return
        try:
            answer = answers[self.path](self.rfile.read(int(length)))
        except InputError as error:
            _log.warning("%s refused peer=%s: %s", self.path[1:], self.client_address[0], error)
            self._answer(403, str(error).encode())
            return
        self._answer(200, answer.model_dump_json().encode())

    def _enrol(self, body: bytes) -> EnrolmentAnswer:
        authority, asked = self.server.authority, decode(EnrolmentRequest, body)
        name, signed = authority.enrol(asked.secret, asked.csr.encode(), self.server.days)
        _log.info("enrolled device=%s peer=%s", name, self.client_address[0])
        return EnrolmentAnswer(certificate=signed.decode(), seal=public_key(authority))

    def _renew(self, body: bytes) -> RenewalAnswer:
        shown = self.connection.getpeercert(binary_form=True)
        if not shown:
            raise InputError("no certificate was shown: enrol, with a token of certs device")
        asked = decode(RenewalRequest, body)
        csr = asked.csr.encode() or None
        name, signed = renew(self.server.authority, shown, csr, self.server.days)
        if signed is not None:
            _log.info("renewed device=%s peer=%s", name, self.client_address[0])
        return RenewalAnswer(
            certificate=(signed or b"").decode(), seal=public_key(self.server.authority)
        )

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not the requests' own lines: what matters is said above."""
