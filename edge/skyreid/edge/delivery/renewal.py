"""The device's certificate goes on by itself, and so does the key that it seals to.

At two thirds of a certificate's life a new key is made here and a certificate for it is asked for,
with the one that there is. The new pair lies beside the old one until the service has seen it in
use; only then it takes its place. A kill at any point leaves a pair that is good: `settle` puts the
files in order at the next start. Once a day it is asked to which key is sealed.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract import files
from skyreid.contract.enrolment import (
    MAX_BYTES,
    RENEWAL_PATH,
    RenewalAnswer,
    RenewalRequest,
    decode,
)
from skyreid.contract.errors import InputError, MessageError, SkyreidError, reason
from skyreid.contract.sealed import Sealer, key_name, parse_public_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate, Name

log = logging.getLogger(__name__)

DUE = 2 / 3
"""Of a certificate's life, after which it is renewed."""
LOOK_S, ASK_S = 3600.0, 86_400.0
"""How often is looked whether it is due, and asked to which key is sealed."""
TIMEOUT_S = 20.0


class Refused(InputError):
    """The service was reached, and does not do what it was asked."""


def due(certificate: Path, now: datetime) -> bool:
    """Whether it is to be renewed.

    Raises:
        InputError: it cannot be read.
    """
    begin, end = _life(certificate)
    return now >= begin + (end - begin) * DUE


def days_left(certificate: Path, now: datetime | None = None) -> float:
    """Days until a certificate in PEM ends; below 0 once it has.

    Raises:
        InputError: it cannot be read.
    """
    left = _life(certificate)[1] - (now or datetime.now(timezone.utc))
    return left.total_seconds() / 86_400


def _life(certificate: Path) -> tuple[datetime, datetime]:
    from cryptography import x509

    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"mqtt.certificate {certificate}: {reason(error, certificate)}") from error
    return read.not_valid_before_utc, read.not_valid_after_utc


def settle(certificate: Path, key: Path) -> None:
    """Put in order what a kill left in the middle of a renewal; nothing where there was none."""
    pem, secret = _next(certificate), _next(key)
    if not pem.exists():
        return
    if secret.exists() and _is_pair(pem, secret):
        files.write(key, secret.read_bytes(), mode=0o600)
        files.write(certificate, pem.read_bytes())
    pem.unlink()
    secret.unlink(missing_ok=True)


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _is_pair(certificate: Path, key: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        return False
    return True


class Renewal:
    """Renews one device's pair, a step at a time."""

    def __init__(self, service: tuple[str, int], ca: Path, certificate: Path, key: Path) -> None:
        """Of the pair ``certificate`` and ``key``; ``ca`` is who may answer at ``service``."""
        self._service, self._ca = service, ca
        self._certificate, self._key = certificate, key

    def renew(self) -> None:
        """Make a new key, have it signed, use it, and put it in the old one's place.

        Raises:
            InputError: the service cannot be reached, or refuses; the old pair is as it was.
        """
        new = _next(self._certificate), _next(self._key)
        if not new[0].exists():  # else it was signed, and an answer was lost
            self._sign(*new)
        try:
            self._ask("", *new)  # from now on the old one ends
        except Refused:
            new[0].unlink()
            raise
        settle(self._certificate, self._key)

    def _sign(self, pem: Path, secret_file: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        now = x509.load_pem_x509_certificate(self._certificate.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        files.write(secret_file, secret, mode=0o600)  # before it is asked: it may not be writable
        csr = x509.CertificateSigningRequestBuilder().subject_name(now.subject)
        request = csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        answer = self._ask(request.decode(), self._certificate, self._key)
        signed = answer.certificate.encode()
        authority = x509.load_pem_x509_certificate(self._ca.read_bytes())
        check_signed(signed, authority, key.public_key(), now.subject, self._service[0])
        files.write(pem, signed)

    def seal_key(self) -> bytes:
        """The key that the site's devices seal to now, PEM; empty where it has none.

        Raises:
            InputError: the service cannot be reached, or refuses.
        """
        pem = self._ask("", self._certificate, self._key).seal.encode()
        if pem:
            try:
                parse_public_key(pem)
            except ValueError as error:
                raise InputError(f"{self._service[0]} answered with no public key") from error
        return pem

    def _ask(self, csr: str, certificate: Path, key: Path) -> RenewalAnswer:
        context = ssl.create_default_context(cafile=self._ca)
        context.load_cert_chain(certificate, key, password="")
        body = RenewalRequest(csr=csr).model_dump_json().encode()
        answer = post(*self._service, RENEWAL_PATH, body, context)
        try:
            return decode(RenewalAnswer, answer)
        except MessageError as error:
            raise InputError(f"{self._service[0]} answered with no renewal") from error


def check_signed(
    signed: bytes, authority: Certificate, key: EllipticCurvePublicKey, name: Name, host: str
) -> None:
    """Refuse an answer that is not the certificate which was asked for.

    Args:
        signed: what was answered.
        authority: certificate of who should have signed it.
        key: public key that it should be of.
        name: subject that it should have.
        host: who answered.

    Raises:
        InputError: it is another one.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        ours = x509.load_pem_x509_certificate(signed)
        ours.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InputError(f"{host} answered with no certificate of its authority") from error
    if ours.public_key() != key:
        raise InputError(f"{host} answered with the certificate of another key")
    if ours.subject != name:
        said = ours.subject.rfc4514_string()
        raise InputError(f"{host} answered with the certificate of another device, {said}")


def post(host: str, port: int, path: str, body: bytes, context: ssl.SSLContext) -> bytes:
    """Ask the service of an authority.

    Raises:
        InputError: it cannot be reached, or is not who it should be.
        Refused: it refuses.
    """
    where = f"{host}:{port}"
    link = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    over = "this device's certificate, which is over or was taken back: enrol anew, with a token of"
    try:
        link.connect()
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"{where} is not of the authority that is believed: {error.verify_message}"
        ) from error
    except OSError as error:
        raise InputError(
            f"{where} cannot be reached: {reason(error)}; is certs serve running?"
        ) from error
    try:  # what is wrong with our certificate is said only now
        link.request("POST", path, body, {"Content-Type": "application/json"})
        said = link.getresponse()
        answer = said.read(MAX_BYTES)
    except ssl.SSLError as error:
        raise Refused(
            f"{where} does not accept {over} skyreid-server certs device ({error.reason})"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{where} ended the connection ({reason(error)}); it may not accept {over} certs device"
        ) from error
    finally:
        link.close()
    if said.status != 200:
        why = answer[:300].decode("utf-8", "replace")
        raise Refused(f"{where} refuses: {why if why.isprintable() else said.status}")
    return answer


class Keeper:
    """Looks again and again whether something is to be renewed."""

    def __init__(
        self,
        renewal: Renewal,
        certificate: Path,
        *,
        on_renewed: Callable[[], None],
        sealed_to: Path | None,
        sealer: Sealer | None,
    ) -> None:
        """Set up.

        Args:
            renewal: how it is done.
            certificate: whose life is looked at.
            on_renewed: called when there is a new pair; the old one is of no use any more.
            sealed_to: file of the site's key, rewritten when it is another one.
            sealer: what is to seal to it.
        """
        self._renewal, self._certificate, self._on_renewed = renewal, certificate, on_renewed
        self._sealed_to, self._sealer = sealed_to, sealer
        self._asked_s = float("-inf")
        self._told = ""

    def turn(self, now: datetime) -> None:
        """Look once. What fails is told in the log, once each way, and tried again."""
        try:
            if due(self._certificate, now):
                self._renewal.renew()
                self._on_renewed()
                log.info("certificate renewed days=%.0f", days_left(self._certificate, now))
            if self._sealer is not None and time.monotonic() - self._asked_s >= ASK_S:
                self._take(self._renewal.seal_key())
                self._asked_s = time.monotonic()
            self._told = ""
        except (SkyreidError, OSError, ValueError) as error:
            if str(error) != self._told:
                self._told = str(error)
                left = days_left(self._certificate, now)
                log.error("certificate not renewed, %.1f days are left: %s", left, error)

    def _take(self, pem: bytes) -> None:
        if self._sealer is None or self._sealed_to is None or not pem:
            return
        key = parse_public_key(pem)
        # First: a folder that cannot be written must not keep it at a key that will be deleted.
        if key_name(key) != self._sealer.key:
            self._sealer.use(key)
            log.info("sealed to key %s from now on", self._sealer.key)
        if not self._sealed_to.exists() or pem.strip() != self._sealed_to.read_bytes().strip():
            files.write(self._sealed_to, pem)

    def run(self, stop: threading.Event) -> None:
        """Look, until told to stop."""
        while True:
            self.turn(datetime.now(timezone.utc))
            if stop.wait(LOOK_S):
                return


@contextmanager
def keeping(keeper: Keeper | None) -> Iterator[None]:
    """Look beside what is done meanwhile; None = nothing is to be renewed."""
    stop = threading.Event()
    if keeper is None:
        yield
        return
    # A daemon: a service that does not answer must not hold up the end of the process.
    thread = threading.Thread(target=keeper.run, args=(stop,), name="renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
