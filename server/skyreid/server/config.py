"""Settings of ``skyreid-server``: every key, its unit and its default."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from skyreid.bundle.signature import Trust
from skyreid.contract.broker import BrokerSection
from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import Seconds, Section, Settings, load
from skyreid.server.access.options import AccessOptions
from skyreid.server.audit.options import AuditOptions
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.people.options import PeopleOptions
from skyreid.server.store.retention_options import RetentionOptions

PROGRAM = "skyreid-server"


def _check_host_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-.]{0,251}[A-Za-z0-9])?", value):
        raise ValueError(
            f"{value!r} is no host name: write it without scheme, port and dot at the end"
        )
    return value.lower()


HostName = Annotated[str, AfterValidator(_check_host_name)]


class MqttSection(BrokerSection):
    """The broker, and what is read ahead of the journal."""

    keepalive_s: int = Field(30, ge=5, le=3600)
    """Seconds of silence after which a ping is sent."""
    session_expiry_s: int = Field(7 * 86_400, ge=86_400, le=(1 << 32) - 1)
    """Seconds for which the broker keeps messages for a server that is away; a day at least.
    The largest, 4294967295, means for ever."""
    queue_messages: int = Field(2_000, ge=1)
    """Messages read ahead of the journal; beyond it the socket is left alone (back-pressure)."""
    queue_mb: int = Field(64, ge=1)
    """The same, in megabytes."""
    replayed: bool = False
    """For a server that ``skyreid-server replay`` feeds: a message came when the replay says so.
    Never of a site's own server: whoever may publish could say any time."""


class JournalSection(Section):
    """Where everything is kept."""

    path: Path
    """SQLite file, made when absent; relative to the settings file."""
    batch_messages: int = Field(256, ge=1)
    """Messages stored in one transaction at most."""
    batch_wait_ms: int = Field(20, ge=0, le=10_000)
    """Milliseconds for which a transaction waits for more messages."""
    events_kept: int = Field(1_000_000, ge=1_000)
    """Events that the broker has taken and that are kept for ``/v1/events?after=``."""


class HttpSection(Section):
    """The API and the page. Until a token is made this machine's own user may do everything."""

    host: str = "127.0.0.1"
    """Address to listen on; one that other machines reach needs TLS and a token."""
    certificate: Path | None = None
    """PEM file of the certificate, with those that lead to its authority, for TLS; relative to the
    settings file, as the next. Read anew at SIGHUP."""
    key: Path | None = None
    """PEM file of its key, without a passphrase."""
    port: int = Field(8080, ge=0, le=65_535)
    """0 = any free port (see ``address_file``)."""
    address_file: Path | None = None
    """``http://HOST:PORT`` is written here once it answers; relative to the settings file."""
    names: tuple[HostName, ...] = ()
    """Host names under which it is asked, beside ``localhost`` and every IP address; any other name
    is refused, so that a page of somebody else's cannot rebind its own to this server."""
    connections: int = Field(512, ge=8, le=65_536)
    """Open at once, at most; half of them may be listeners to events. Fewer where the limit of open
    files is low."""
    events_queue: int = Field(256, ge=1)
    """Events held for a slow listener before it is cut off."""

    @model_validator(mode="before")
    @classmethod
    def _is_of_today(cls, given: Any) -> Any:
        if isinstance(given, dict) and "insecure_public" in given:
            raise ValueError(
                "insecure_public is gone, take it out: an address that other machines reach needs "
                "http.certificate and http.key (TLS) and a token (skyreid-server token create)"
            )
        return given

    @model_validator(mode="after")
    def _stays_at_home(self) -> HttpSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: give both, or neither")
        if self.public and self.certificate is None:
            raise ValueError(
                f"host {self.host!r} can be reached from other machines: set certificate and key "
                "(TLS), or use 127.0.0.1"
            )
        return self

    @property
    def public(self) -> bool:
        """Whether other machines can reach it."""
        return not _is_loopback(self.host)

    def tls(self) -> ssl.SSLContext | None:
        """What connections are taken with; None without a certificate.

        Raises:
            SettingsError: the files cannot be used.
        """
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.renew(context)
        return context

    def renew(self, context: ssl.SSLContext) -> None:
        """Take the files as they are now for the next connections.

        Raises:
            SettingsError: they cannot be used, and those before are in force.
        """
        assert self.certificate is not None
        try:
            # First into another one: half of a pair that does not fit would be in force.
            for each in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
                # An empty passphrase, or OpenSSL would ask on the terminal for that of the key.
                each.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(
                f"http.certificate {self.certificate} and http.key {self.key} are no pair of PEM "
                f"files without a passphrase: {why}"
            ) from error


class MatchingSection(MatchingOptions):
    """How sightings become identities, and who is waited for."""

    bundle: Path | None = None
    """Bundle of the devices' embedder: score calibration starts from its manifest's priors."""
    stall_s: Seconds = Field(10.0, gt=0)
    """A device that gets no further for so many seconds of wall time holds nobody up."""
    hold_s: Seconds = Field(2.0, ge=0)
    """The others wait so long, in capture time, beyond the device in the middle, not longer."""
    period_s: Seconds = Field(0.2, gt=0)
    """Wall seconds between two rounds of matching, at least, but where every device has spoken."""


class DevicesSection(Section):
    """Who is let in, and how much one of them may say."""

    admission: Literal["listed", "open"] = "listed"
    """``listed``: devices with a camera of the site file, and those that ``skyreid-server devices
    admit`` names. ``open``: any that sends sightings or a birth; so it is where the site file lists
    no camera."""
    max: int = Field(1_000, ge=1)
    """So many are let in at most; those that are named do not count."""
    messages_per_s: float = Field(300.0, gt=0)
    """What one may send in the long run; what is more has no receipt, and is sent again."""


class AuthoritySection(Section):
    """What the server takes from the folder that ``skyreid-server certs init`` made."""

    folder: Path | None = None
    """The folder, or a copy without ``ca.key``; relative to the settings file. From it come the
    private keys that open what devices seal (``seal``)."""
    sealed_only: bool = False
    """Sightings and pictures that come in clear are not taken; their devices keep the sightings."""


class PicturesSection(Section):
    """Pictures of people; whether devices send any is said by the site file."""

    max_mb: int = Field(1_000, ge=1)
    """Megabytes kept; the oldest go first."""


class ServerSettings(Settings):
    """The whole of ``server.toml``."""

    model_config = SettingsConfigDict(env_prefix="SKYREID_SERVER_")

    site: Path
    """Site file, the same one that the devices have; relative to the settings file."""
    mqtt: MqttSection = Field(default_factory=MqttSection)
    journal: JournalSection
    http: HttpSection = Field(default_factory=HttpSection)
    access: AccessOptions = Field(default_factory=AccessOptions)
    audit: AuditOptions = Field(default_factory=AuditOptions)
    matching: MatchingSection = Field(default_factory=MatchingSection)
    people: PeopleOptions = Field(default_factory=PeopleOptions)
    devices: DevicesSection = Field(default_factory=DevicesSection)
    authority: AuthoritySection = Field(default_factory=AuthoritySection)
    pictures: PicturesSection = Field(default_factory=PicturesSection)
    retention: RetentionOptions = Field(default_factory=RetentionOptions)
    trust: Trust = Trust()
    """Whose bundle ``matching.bundle`` may be."""


def read_settings(path: Path, options: Sequence[str], *, verb: str) -> ServerSettings:
    """Read the settings file; relative paths in it become relative to the file.

    Raises:
        SettingsError: anything in it is wrong.
    """
    given = load(ServerSettings, path, options, program=f"{PROGRAM} {verb} {path}")
    home = path.parent
    http, matching, audit = given.http, given.matching, given.audit
    authority = given.authority
    if authority.folder is not None:
        authority = authority.model_copy(update={"folder": home / authority.folder})
    for name in ("address_file", "certificate", "key"):
        if getattr(http, name) is not None:
            http = http.model_copy(update={name: home / getattr(http, name)})
    if audit.head_file is not None:
        audit = audit.model_copy(update={"head_file": home / audit.head_file})
    if matching.bundle is not None:
        matching = matching.model_copy(update={"bundle": home / matching.bundle})
    return given.model_copy(
        update={
            "site": home / given.site,
            "mqtt": given.mqtt.below(home),
            "journal": given.journal.model_copy(update={"path": home / given.journal.path}),
            "http": http,
            "audit": audit,
            "matching": matching,
            "authority": authority,
            "trust": given.trust.below(home),
        }
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
