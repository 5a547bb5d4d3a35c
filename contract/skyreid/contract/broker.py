"""The MQTT broker's section of settings, once for device and server: address, TLS, login.

Also what is said of a connection that does not come about, so that both ends say the same: one
line, with the setting that mends it, and never a password. And of which kind it is: what heals by
itself is tried again soon, what needs somebody rarely.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import SecretStr, field_validator, model_validator

from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import Section

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_ADDRESS = re.compile(
    r"(mqtts?)://(\[[0-9a-f:.]+(?:%[\w.-]+)?\]|[^\s/:?#\[\]]+)(?::([0-9]{1,5}))?/?", re.IGNORECASE
)
_NO_ADDRESS = "is no broker address: write mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
B = TypeVar("B", bound="BrokerSection")


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    secure: bool
    """Whether it is spoken to over TLS."""


class Trouble(NamedTuple):
    """Why there is no connection, or why nothing can be sent over it."""

    kind: str
    """A word for counters: ``unreachable``, ``lost``, ``busy``, ``nobody``, ``tls``, ``no_answer``,
    ``not_authorised``, ``packet_limit``, ``same_name`` or ``refused``."""
    why: str
    """For one line of a log."""
    human: bool = False
    """Nothing mends it before somebody does something: to be tried again rarely."""


class BrokerSection(Section):
    """How the broker is reached; a role's ``[mqtt]`` adds what is its own."""

    url: str = "mqtt://127.0.0.1:1883"
    """``mqtt://HOST[:PORT]``, or ``mqtts://`` with TLS."""
    ca: Path | None = None
    """PEM file of the authority that signed the broker's certificate (``mqtts``); none = those
    that the system trusts. Relative to the settings file, as the next two."""
    certificate: Path | None = None
    """PEM file of our certificate (``mqtts``), for brokers that ask for one."""
    key: Path | None = None
    """PEM file of its key, without a passphrase (``mqtts``)."""
    username: str | None = None
    """For brokers that ask for a name and a password."""
    password: SecretStr | None = None
    """Better given in the environment, ``SKYREID_EDGE_MQTT__PASSWORD`` and
    ``SKYREID_SERVER_MQTT__PASSWORD``."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        broker_address(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self: B) -> B:
        files = [name for name in ("ca", "certificate", "key") if getattr(self, name) is not None]
        if files and not self.address.secure:
            raise ValueError(
                f"{', '.join(files)} given, and {self.url} is not encrypted: write mqtts://"
            )
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: give both, or neither")
        if self.password is not None and self.username is None:
            raise ValueError("a password without a username: give both, or neither")
        return self

    @property
    def address(self) -> Address:
        """What ``url`` says."""
        return broker_address(self.url)

    @property
    def login(self) -> tuple[str, str] | None:
        """User name and password; None where there is none."""
        if self.username is None:
            return None
        return self.username, "" if self.password is None else self.password.get_secret_value()

    def below(self: B, directory: Path) -> B:
        """The same with relative paths starting from ``directory``."""
        names = ("ca", "certificate", "key")
        given = {name: getattr(self, name) for name in names}
        return self.model_copy(
            update={name: directory / path for name, path in given.items() if path is not None}
        )

    def tls(self) -> ssl.SSLContext | None:
        """What a TLS connection is made with; None where the address is not ``mqtts``.

        Raises:
            SettingsError: a file is missing, or is not what it should be.
        """
        if not self.address.secure:
            return None
        for name in ("ca", "certificate", "key"):
            path = getattr(self, name)
            try:
                if path is not None:
                    path.read_bytes()
            except OSError as error:
                raise SettingsError(f"mqtt.{name} {path}: {error.strerror}") from error
            except ValueError as error:  # a NUL in the path
                raise SettingsError(f"mqtt.{name} {str(path)!r}: {error}") from error
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, ValueError) as error:
            raise SettingsError(f"mqtt.ca {self.ca} is no certificate in PEM: {error}") from error
        if self.certificate is not None:
            try:
                # An empty passphrase, or OpenSSL would ask on the terminal for that of the key.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (ssl.SSLError, ValueError) as error:
                raise SettingsError(
                    f"mqtt.certificate {self.certificate} and mqtt.key {self.key} are no pair of "
                    f"PEM files without a passphrase: {error}"
                ) from error
        return context


def broker_address(url: str) -> Address:
    """Host, port and whether TLS is used.

    Raises:
        ValueError: not ``mqtt://HOST[:PORT]`` or ``mqtts://HOST[:PORT]`` (pydantic-friendly).
    """
    if "@" in url:  # not shown: where in it a password begins and ends can only be guessed
        raise ValueError(
            f"an address with @ {_NO_ADDRESS}; name and password go into username and password"
        )
    parts = _ADDRESS.fullmatch(url)
    if parts is None or not url.isprintable():
        raise ValueError(f"{url[:300]!r} {_NO_ADDRESS}")
    scheme, host = parts[1].lower(), parts[2].strip("[]").lower()
    port = int(parts[3] or _PORTS[scheme])
    if not 1 <= port <= 65_535:
        raise ValueError(f"{url!r} {_NO_ADDRESS}: a port is 1 to 65535")
    try:
        host.encode("idna")  # as a resolver will, long after anybody looks
    except UnicodeError:
        raise ValueError(f"{url[:300]!r} {_NO_ADDRESS}: {host[:300]!r} is no host name") from None
    return Address(host, port, scheme == "mqtts")


def explain_unreachable(error: BaseException | None) -> str:
    """Why no connection came about, for one line of a log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"has a certificate that is not accepted: {why}; mqtt.ca says who may sign it"
    if isinstance(error, ssl.SSLError):
        mends = "mqtts:// needs a port that speaks it"
        if "ALERT" in (getattr(error, "reason", None) or ""):  # the broker's word about us
            mends = "it may not accept ours: mqtt.certificate, mqtt.key"
        elif isinstance(error, ssl.SSLEOFError):
            # With TLS 1.3 a client is through before its certificate is looked at: what is written
            # meanwhile meets a closed connection, and then the broker's word is not read.
            mends = "it may not accept ours (mqtt.certificate, mqtt.key), or not speak it there"
        return f"does not agree on TLS: {error.strerror}; {mends}"
    if isinstance(error, OSError):
        return f"cannot be reached: {error.strerror or error}"
    return "cannot be reached"


def explain_refused(reason: str) -> str:
    """What is said of a broker that answered with a refusal."""
    return f"refused: {reason}; mqtt.username, mqtt.password and its access list decide"


def explain_lost(reason: str, *, answered: bool) -> str:
    """What is said of a connection that ended, ``answered`` once the broker had accepted it."""
    if answered:
        return f"connection lost: {reason}"
    return (
        f"ended the connection before it answered: {reason}; it may ask for a certificate "
        "(mqtt.certificate, mqtt.key), or for TLS (mqtts://)"
    )


_NOT_AUTHORISED = frozenset((0x86, 0x87, 0x8A, 0x8C))
_BUSY = frozenset((0x88, 0x89, 0x8B, 0x96, 0x97, 0x9C, 0x9D, 0x9F))
_TOO_LARGE, _TAKEN_OVER = 0x95, 0x8E


def unreachable(error: BaseException | None, *, secure: bool = False) -> Trouble:
    """No connection came about: DNS, TCP or, where ``secure``, TLS; ``error`` says which."""
    if isinstance(error, ssl.SSLError):
        return Trouble("tls", explain_unreachable(error), human=True)
    if secure and isinstance(error, ConnectionResetError):
        why = f"ended the TLS handshake: {error.strerror}; mqtts:// needs a port that speaks it"
        return Trouble("tls", why, human=True)
    return Trouble("unreachable", explain_unreachable(error))


def refused(code: int, reason: str) -> Trouble:
    """The broker answered with a refusal: a reason code of MQTT 5, and its name."""
    if code in _NOT_AUTHORISED:
        return Trouble("not_authorised", explain_refused(reason), human=True)
    if code in _BUSY:
        return Trouble("busy", f"refused for now: {reason}")
    return Trouble("refused", f"refused: {reason} (code {code:#04x})", human=True)


def lost(
    code: int, reason: str, *, answered: bool, client_id: str, cause: BaseException | None = None
) -> Trouble:
    """A connection ended.

    Args:
        code: of the broker's DISCONNECT; 0x80 where it did not say one.
        reason: its name.
        answered: the broker had accepted the connection.
        client_id: ours, which nobody else may use.
        cause: what reading or writing raised.
    """
    if isinstance(cause, ssl.SSLError):
        return unreachable(cause)
    if not answered:
        return Trouble("no_answer", explain_lost(reason, answered=False), human=True)
    if code == _TAKEN_OVER:
        why = (
            f"gave the connection to another client that is called {client_id} too: give each "
            "device a device.id of its own"
        )
        return Trouble("same_name", why, human=True)
    if code == _TOO_LARGE:
        why = "ended the connection: a message is larger than its limit (max_packet_size)"
        return Trouble("packet_limit", why, human=True)
    if code in _NOT_AUTHORISED:
        return refused(code, reason)
    return Trouble("lost", explain_lost(reason, answered=True))
