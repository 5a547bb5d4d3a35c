"""Certificates of a test's own: an authority, and what it signs."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Writes ``NAME.pem`` and ``NAME.key`` into a folder; its own certificate is ``ca``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self._write(name, self._key, self._name, x509.BasicConstraints(True, None))

    def sign(self, name: str, *, over: bool = False) -> tuple[Path, Path]:
        """Certificate and key of somebody, good as a server called localhost too; ``over``: not any
        more."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._write(name, key, _name(name), _LOCALHOST, over=over)
        return made, self._folder / f"{name}.key"

    def revoke(self, name: str) -> Path:
        """The list ``crl.pem`` of whom nobody believes any more: this one."""
        revoked = x509.load_pem_x509_certificate((self._folder / f"{name}.pem").read_bytes())
        now = datetime.datetime.now(datetime.timezone.utc)
        entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number)
        signed = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - _DAY)
            .next_update(now + _DAY)
            .add_revoked_certificate(entry.revocation_date(now).build())
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / "crl.pem"
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return path

    def _write(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        extension: x509.ExtensionType,
        *,
        over: bool = False,
    ) -> Path:
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now - _DAY if over else now + _DAY)
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        path.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path


_DAY = datetime.timedelta(days=1)
_LOCALHOST = x509.SubjectAlternativeName([x509.DNSName("localhost")])


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
