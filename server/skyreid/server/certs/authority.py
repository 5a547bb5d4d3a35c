"""The authority: a folder with its key, what it signed, whom it revoked and which tokens wait.

Certificates are ECDSA on P-256 (RFC 5280, FIPS 186-5). A device's names come from its token, never
from its request. The revocation list lies beside the broker that reads it: it holds as long as
the authority, and never locks everybody out by being old. With each list a certificate is made that
stands on it and on none before, the canary: a broker that lets it in has not read the list.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skyreid.contract import files
from skyreid.contract.broker import broker_address
from skyreid.contract.errors import InputError, reason
from skyreid.contract.topics import check_identifier
from skyreid.server.certs.key_files import pem, write_key, write_open, write_secret

CA_DAYS = 3650
TOKEN_HOURS = 24
EARLY = timedelta(hours=1)
"""A device's clock may be behind the authority's by so much."""
NAME_MAX = 64
"""Characters of a common name (RFC 5280, ub-common-name)."""
KICK = timedelta(minutes=10)
"""Life of a certificate that is made to end another's connection."""


class Authority:
    """The folder of one site's authority. Commands and the service lock it for each change."""

    def __init__(self, folder: Path) -> None:
        """Open what `Authority.make` made.

        Raises:
            InputError: it is not there, or cannot be read.
        """
        self.folder = folder
        try:
            self._key = serialization.load_pem_private_key(self.path("ca.key").read_bytes(), None)
            self.certificate = x509.load_pem_x509_certificate(self.path("ca.pem").read_bytes())
            self.site = str(self._read()["site"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"authority {folder}: {reason(error)}; skyreid-server certs init makes one"
            ) from error
        if not isinstance(self._key, ec.EllipticCurvePrivateKey):
            raise InputError(f"authority {folder}: ca.key is no key of an elliptic curve")

    @classmethod
    def make(cls, folder: Path, site: str, hosts: Sequence[str], days: int) -> Authority:
        """Make a new one, with certificates of the broker and the server.

        Raises:
            InputError: there is one already, or a name cannot be used.
        """
        _check(site)
        if len(_authority_of(site)) > NAME_MAX:
            room = NAME_MAX - len(_authority_of(""))
            raise InputError(f"site {site!r}: of {room} characters at most, for certificates")
        _check_hosts(hosts)
        if (folder / "ca.key").exists():
            raise InputError(f"authority {folder} exists: give another folder")
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in new:
            each.chmod(0o755)  # mosquitto's user reads in it, whatever the umask
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(_authority_of(site))
        now = utc_now()
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        usage = _usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own, critical=False)
            .sign(key, hashes.SHA256())
        )
        write_key(folder / "ca.key", key)
        write_open(folder / "ca.pem", pem(certificate))
        state = {"site": site, "hosts": list(hosts), "certificates": [], "tokens": []}
        write_secret(folder / "state.json", json.dumps(state, indent=1).encode())
        made = cls(folder)
        made.renew(days)
        made.write_list()
        return made

    @property
    def server_name(self) -> str:
        """The server's name, which no device may have."""
        return f"skyreid-server-{self.site}"

    @property
    def canary_name(self) -> str:
        """Of whom no broker lets in; no device may have it either."""
        return f"skyreid-canary-{self.site}"

    def path(self, name: str) -> Path:
        """Of one of its files."""
        return self.folder / name

    def renew(self, days: int) -> None:
        """Give broker, server and the server's API new keys and certificates."""
        hosts = self._read()["hosts"]
        for name, common, usage in (
            ("broker", hosts[0], ExtendedKeyUsageOID.SERVER_AUTH),
            ("http", hosts[0], ExtendedKeyUsageOID.SERVER_AUTH),
            ("server", self.server_name, ExtendedKeyUsageOID.CLIENT_AUTH),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            names = () if name == "server" else hosts
            certificate = self._sign(common, key.public_key(), usage, timedelta(days=days), names)
            write_key(self.path(f"{name}.key"), key)
            write_open(self.path(f"{name}.pem"), pem(certificate))

    def add_tokens(self, devices: Sequence[str]) -> list[str]:
        """Let devices enrol; a secret for each, of which only a digest is kept.

        Raises:
            InputError: a name cannot be a device's; then none may.
        """
        for device in devices:
            _check(device)
            if device in (self.server_name, self.canary_name):
                raise InputError(f"device {device!r}: this is a name of the server's")
        end = (utc_now() + timedelta(hours=TOKEN_HOURS)).isoformat()
        made = [secrets.token_urlsafe(32) for _ in devices]
        with self.changing() as state:
            state["tokens"] = [t for t in state["tokens"] if t["end"] > utc_now().isoformat()]
            state["tokens"] += [
                {"digest": _digest(secret), "device": device, "end": end}
                for secret, device in zip(made, devices, strict=True)
            ]
        return made

    def enrol(self, secret: str, csr: bytes, days: float) -> tuple[str, bytes]:
        """Sign the key of whoever knows a secret: once. The same key again gets the same answer.

        Returns:
            the device's name, and its certificate in PEM

        Raises:
            InputError: the secret is none, is used or is too old, or the request cannot be used.
        """
        key = key_of_request(csr)
        digest, now = _digest(secret), utc_now()
        with self.changing() as state:
            token = next((t for t in state["tokens"] if t["digest"] == digest), None)
            if token is None or token["end"] < now.isoformat():
                raise InputError("the token is not known, or is too old: certs device makes one")
            spki = key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            whose = hashlib.sha256(spki).hexdigest()
            if token.get("key", whose) != whose:
                raise InputError("the token has been used: certs device makes one")
            if "certificate" not in token:
                life = timedelta(days=days)
                made = self.make_certificate(
                    token["device"], key, ExtendedKeyUsageOID.CLIENT_AUTH, life
                )
                state["certificates"].append(entry_of(token["device"], made))
                token |= {"key": whose, "certificate": pem(made).decode()}
            return str(token["device"]), str(token["certificate"]).encode()

    def revoke(self, device: str) -> int:
        """Take every certificate and token of a device back; how many certificates.

        Raises:
            InputError: there is none.
        """
        with self.changing() as state:
            named = [c for c in state["certificates"] if c["name"] == device]
            waiting = [t for t in state["tokens"] if t["device"] == device]
            if not named and not waiting:
                known = sorted({c["name"] for c in state["certificates"]})
                raise InputError(f"device {device!r} has no certificate; these have: {known}")
            for each in named:
                each.setdefault("revoked", utc_now().isoformat())
            state["tokens"] = [t for t in state["tokens"] if t["device"] != device]
        self.write_list()
        return len(named)

    def impersonate(self, name: str) -> None:
        """Write ``kick.pem`` and ``kick.key``: for some minutes, whoever has them is ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self.make_certificate(name, key.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH, KICK)
        write_key(self.path("kick.key"), key)
        files.write(self.path("kick.pem"), pem(made))

    def listed(self) -> list[dict[str, Any]]:
        """Certificates: ``name``, ``serial``, ``end``, and ``revoked`` where they are."""
        return list(self._read()["certificates"])

    def ca_der(self) -> str:
        """Its certificate, DER in base 64."""
        return b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()

    def _sign(
        self,
        name: str,
        key: Any,
        usage: x509.ObjectIdentifier,
        life: timedelta,
        hosts: Sequence[str] = (),
    ) -> x509.Certificate:
        made = self.make_certificate(name, key, usage, life, hosts)
        with self.changing() as state:
            state["certificates"].append(entry_of(name, made))
        return made

    def make_certificate(
        self,
        name: str,
        key: Any,
        usage: x509.ObjectIdentifier,
        life: timedelta,
        hosts: Sequence[str] = (),
    ) -> x509.Certificate:
        now = utc_now()
        end = min(now + life, self.certificate.not_valid_after_utc)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())  # type: ignore[arg-type]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(issuer, critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]

    def write_list(self) -> None:
        with self._locked():  # or one of two that revoke at once writes a list without the other's
            self._write_list_of(self._read()["certificates"])

    def _write_list_of(self, certificates: Sequence[dict[str, Any]]) -> None:
        now, canary = utc_now(), self._make_canary()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - EARLY)
            .next_update(self.certificate.not_valid_after_utc)
        )
        for each in certificates:
            if "revoked" in each:
                entry = x509.RevokedCertificateBuilder().serial_number(int(each["serial"], 16))
                at = datetime.fromisoformat(each["revoked"])
                builder = builder.add_revoked_certificate(entry.revocation_date(at).build())
        for serial in {canary.serial_number, *self._canary_before()}:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256())  # type: ignore[arg-type]
        write_open(self.path("crl.pem"), signed.public_bytes(serialization.Encoding.PEM))
        write_open(self.path("canary.pem"), pem(canary))

    def _make_canary(self) -> x509.Certificate:
        path = self.path("canary.key")
        if not path.exists():
            write_key(path, ec.generate_private_key(ec.SECP256R1()))
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        usage, life = ExtendedKeyUsageOID.CLIENT_AUTH, timedelta(days=CA_DAYS)
        return self.make_certificate(self.canary_name, key.public_key(), usage, life)

    def _canary_before(self) -> list[int]:
        """On the list too: a kill may leave it as the one that is shown."""
        path = self.path("canary.pem")
        return (
            [x509.load_pem_x509_certificate(path.read_bytes()).serial_number]
            if path.exists()
            else []
        )

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path("state.json").read_bytes()))
        except (OSError, ValueError) as error:
            raise InputError(f"authority {self.folder}: state.json: {reason(error)}") from error

    def _locked(self) -> files.FileLock:
        return files.FileLock(
            self.path("state.lock"),
            of=f"authority {self.folder}",
            waiting=lambda _who: None,  # a service signs for several at once
        )

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        with self._locked():
            state = self._read()
            yield state
            write_secret(self.path("state.json"), json.dumps(state, indent=1).encode())


def key_of_request(csr: bytes) -> ec.EllipticCurvePublicKey:
    """Whose key a request in PEM (PKCS #10) is of.

    Raises:
        InputError: it is none, or by a key that is too small.
    """
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
        good = request.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise InputError("the request is no PKCS #10 in PEM") from error
    if not good or not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size < 256:
        raise InputError("the request is not signed by an elliptic curve's key of 256 bits")
    return key


def entry_of(name: str, certificate: x509.Certificate) -> dict[str, Any]:
    end = certificate.not_valid_after_utc.isoformat()
    return {"name": name, "serial": f"{certificate.serial_number:x}", "end": end}


def _check(name: str) -> None:
    try:
        check_identifier(name)
    except ValueError as error:
        raise InputError(str(error)) from error


def _authority_of(site: str) -> str:
    return f"skyreid authority of {site}"


def _check_hosts(hosts: Sequence[str]) -> None:
    try:
        for host in hosts:
            broker_address(f"mqtts://[{host}]" if ":" in host else f"mqtts://{host}")
            _host(host)
    except ValueError as error:
        raise InputError(f"--host {host!r}: no name and no address ({error})") from error
    if len(hosts[0]) > NAME_MAX:
        raise InputError(f"--host {hosts[0]!r}: the first has {NAME_MAX} characters at most")


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def utc_now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: given.get(name, False) for name in names.split()})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
