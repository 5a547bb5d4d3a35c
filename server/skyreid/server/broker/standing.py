"""Whether the broker keeps to the revocation list, how old that is, and when our certificate ends.

The authority makes a certificate that stands on its newest list and on none before, the canary. A
broker that lets it in does not keep to that list: it was told of no list, or has not read the
newest, and whoever was revoked is in. So the question is asked of the broker itself.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from skyreid.contract.broker import Address

_log = logging.getLogger(__name__)

LOOK_S, AGAIN_S = 300.0, 30.0
"""How often it is looked, and how soon once more before anything is said: a list that was written
this moment is read within the next."""
TIMEOUT_S, WORD_S = 10.0, 2.0
"""For an answer; for a refusal, which comes at once."""
OLD = 0.5
"""Of the list's life, from which on its age is said."""
DAYS_MIN = 30.0
_CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"
_CONNACK, _DISCONNECT = b"\x20", b"\xe0\x00"


@dataclass(frozen=True)
class Standing:
    """How it stands; NaN and None = nobody can tell."""

    in_force: bool | None = None
    """Whether the broker refuses who is on the newest list."""
    list_age: float = math.nan
    """Of the list, as a part of its life; at 1 nobody gets in any more."""
    days_left: float = math.nan
    """Until the server's certificate ends."""

    def notices(self) -> list[str]:
        """What somebody has to do something about."""
        said = []
        if self.in_force is False:
            said.append(
                "certificates: the broker does not keep to the newest revocation list, who is "
                "revoked gets in: give it crlfile, and reload it (systemctl reload mosquitto)"
            )
        if self.list_age >= OLD:
            said.append(
                f"certificates: the revocation list is at {100 * self.list_age:.0f} % of its life; "
                "once it is over the broker lets nobody in: certs revoke writes a new one"
            )
        if self.days_left < DAYS_MIN:
            said.append(
                f"certificates: the server's ends in {self.days_left:.0f} days: certs renew"
            )
        return said


def look(address: Address, authority: Path | None, certificate: Path | None) -> Standing:
    """How it stands with the broker at ``address``."""
    return Standing(
        None if authority is None else keeps_to_list(address, authority),
        math.nan if authority is None else list_age(authority / "crl.pem"),
        math.nan if certificate is None else days_left(certificate),
    )


def keeps_to_list(address: Address, authority: Path) -> bool | None:
    """Whether the broker refuses the canary, for being revoked; None where nobody can tell."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(authority / "ca.pem")
        context.load_cert_chain(authority / "canary.pem", authority / "canary.key", password="")
        with (
            socket.create_connection(address[:2], TIMEOUT_S) as bare,
            context.wrap_socket(bare, server_hostname=address.host) as line,
        ):
            # The broker's word about a certificate comes after the handshake (TLS 1.3), and is lost
            # where it closes on something that was sent meanwhile.
            line.settimeout(WORD_S)
            try:
                answer = line.recv(1)
            except TimeoutError:
                line.settimeout(TIMEOUT_S)
                line.sendall(_CONNECT)
                answer = line.recv(1)
                line.sendall(_DISCONNECT)
    except ssl.SSLError as error:
        return True if "REVOKED" in (error.reason or "") else None
    except OSError:
        return None
    return False if answer == _CONNACK else None


def list_age(path: Path, now: datetime | None = None) -> float:
    """Age of a revocation list, as a part of its life; NaN where it cannot be read."""
    from cryptography import x509

    try:
        read = x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError):
        return math.nan
    begin, end = read.last_update_utc, read.next_update_utc
    if end is None or end <= begin:
        return math.nan
    return ((now or datetime.now(timezone.utc)) - begin) / (end - begin)


def days_left(path: Path) -> float:
    """Days until a certificate in PEM ends; NaN where it cannot be read."""
    from cryptography import x509

    try:
        end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return math.nan
    return (end - datetime.now(timezone.utc)).total_seconds() / 86_400


class Watcher:
    """Looks now and then, in a thread of its own, and says what has changed."""

    def __init__(
        self, look: Callable[[], Standing], tell: Callable[[Standing, list[str]], None]
    ) -> None:
        """``tell`` takes how it stands and what is to be said of it, each time; from the thread."""
        self._look, self._tell = look, tell
        self._said: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="certificates", daemon=True)

    def start(self) -> None:
        """Begin; the first look is at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look that goes on is not waited for."""
        self._stop.set()

    def turn(self) -> None:
        """Look once, and where it is bad once more."""
        standing = self._look()
        if standing.in_force is False:
            self._stop.wait(AGAIN_S)
            standing = self._look()
        notices = standing.notices()
        for notice in notices:
            if notice not in self._said:
                _log.error("%s", notice)
        self._said = notices
        self._tell(standing, notices)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn()
            self._stop.wait(LOOK_S)
