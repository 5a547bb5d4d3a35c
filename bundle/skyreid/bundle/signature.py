"""Who made a bundle: a detached Ed25519 signature (RFC 8032) over its SHA256SUMS.

The sums name every byte of a bundle, so that one small signature covers all of it. It is checked
before the sums, and the sums before anything is parsed. `SHA256SUMS.sig` is one line of text:
`ed25519 KEY_ID BASE64`, where the key id is the first 16 hex digits of SHA-256 over the raw public
key; it only says whose key to look for, and is not trusted. A device checks; signing is export's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from skyreid.contract.errors import BundleError, InputError, PlatformError, reason
from skyreid.contract.settings import Section, read_table
from skyreid.contract.settings import check as check_section

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

log = logging.getLogger(__name__)

SIGNATURE = "SHA256SUMS.sig"
PURPOSE = b"skyreid bundle 1\n"
"""Is signed ahead of the sums: a signature made for something else is none for a bundle."""


class Trust(Section):
    """Whose bundles are accepted; also a section of a device's settings."""

    require_signature: bool = False
    """Whether an unsigned bundle is refused; needs ``keys``."""
    keys: tuple[Path, ...] = ()
    """Public keys (PEM, ``skyreid-export keys``); a signed bundle must be signed by one of them.
    Without keys signatures are not looked at. Relative to the settings file."""
    revoked: tuple[
        Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16}|[0-9a-f]{64})$")], ...
    ] = ()
    """Ids of keys (16 hex digits) and digests of bundles (64, ``skyreid-export inspect``) that are
    refused whatever else holds."""
    min_version: int = Field(0, ge=0, lt=1 << 63)
    """Bundles of a lower version (``skyreid-export sign --bundle-version``) are refused, so that
    nobody can bring back an old one; needs ``require_signature``."""

    @model_validator(mode="after")
    def _proves_its_version(self) -> Trust:
        if self.min_version and not self.require_signature:
            raise ValueError(
                "min_version proves nothing of unsigned bundles: set require_signature"
            )
        return self

    def below(self, home: Path) -> Trust:
        """The same with relative paths made to start from the settings file's directory."""
        return self.model_copy(update={"keys": tuple(home / key for key in self.keys)})


ANYONE = Trust()
"""Signatures are neither required nor checked."""


def check(path: Path, sums: bytes, signature: bytes | None, trust: Trust) -> str | None:
    """Hold the signature of a bundle's sums against the trusted keys.

    Args:
        path: of the bundle, for messages.
        sums: content of SHA256SUMS.
        signature: content of SHA256SUMS.sig, None where there is none.
        trust: whose signatures are accepted.

    Returns:
        The id of the key that signed; None where no signature was asked for: there is none, or no
        key was given to check it with.

    Raises:
        BundleError: the signature is missing where one is required, is not one, was made by a key
            that is not trusted, or does not belong to these sums.
        InputError: a signature is required and no key is given, or a key file cannot be used.
    """
    if trust.require_signature and not trust.keys:
        raise InputError("trust.require_signature is set and trust.keys is empty: name a key")
    digest = hashlib.sha256(sums).hexdigest()
    if digest in trust.revoked:
        raise BundleError(f"bundle {path} is revoked: trust.revoked names {digest}: get another")
    if signature is None:
        if trust.require_signature:
            raise BundleError(
                f"bundle {path} is not signed and trust.require_signature is set: "
                "sign it (skyreid-export sign) or get a signed one"
            )
        if trust.keys:
            log.warning(
                "bundle %s is not signed, and accepted though trust.keys names keys: "
                "trust.require_signature is not set",
                path,
            )
        return None
    if not trust.keys:
        return None
    by, value = _parsed(path, signature)
    known = {key_id(key): key for key in map(_public_key, trust.keys)}
    if by not in known:
        raise BundleError(
            f"bundle {path} is signed by key {by}, trusted are {', '.join(sorted(known))}"
        )
    if by in trust.revoked:
        raise BundleError(
            f"bundle {path} is signed by key {by}, which trust.revoked names: get one that is "
            "signed by another"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        known[by].verify(value, PURPOSE + sums)
    except InvalidSignature as error:
        raise BundleError(
            f"bundle {path}: the signature by key {by} is not of this SHA256SUMS; "
            "it was changed after it was signed: get the bundle again"
        ) from error
    return by


def require_version(path: Path, version: int, trust: Trust) -> None:
    """Refuse a bundle that is older than `trust` allows.

    Raises:
        BundleError: naming both versions.
    """
    if version < trust.min_version:
        raise BundleError(
            f"bundle {path} has version {version}, trust.min_version is {trust.min_version}: "
            "get a newer one"
        )


def read_trust(settings: Path | None) -> Trust:
    """The table ``[trust]`` of a device's or server's settings file; without one, anyone.

    Raises:
        SettingsError: the file cannot be read, or the table is wrong.
    """
    if settings is None:
        return ANYONE
    table = read_table(settings, "settings").get("trust", {})
    trust = check_section(Trust, table, f"settings {settings}: trust")
    return trust.below(settings.absolute().parent)


def trusted(keys: Sequence[Path]) -> Trust:
    """Accept only bundles signed by one of `keys`."""
    return Trust(keys=tuple(keys), require_signature=True)


def line(identity: str, value: bytes) -> bytes:
    """What SHA256SUMS.sig says: by which key, and its signature."""
    return f"ed25519 {identity} {base64.b64encode(value).decode()}\n".encode()


def _parsed(path: Path, signature: bytes) -> tuple[str, bytes]:
    words = signature.decode("ascii", "replace").split()
    try:
        if len(words) != 3 or words[0] != "ed25519" or len(words[1]) != 16:
            raise ValueError("not three words")
        value = base64.b64decode(words[2], validate=True)
        if line(words[1], value) != signature:  # base64 and white space have several spellings
            raise ValueError("not as it is written")
        return words[1], value
    except (ValueError, binascii.Error) as error:
        raise BundleError(f"bundle {path}: {SIGNATURE} is damaged: get the bundle again") from error


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _public_key(path: Path) -> Ed25519PublicKey:
    serialization, ed25519 = cryptography_modules()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the public key {path}: {reason(error, path)}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputError(f"{path} is not an Ed25519 key")
    public: Ed25519PublicKey = key
    return public


def cryptography_modules() -> tuple[Any, Any]:
    """The two modules, imported here: who checks no signature needs no cryptography."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise PlatformError("signatures need cryptography: pip install cryptography") from error
    return serialization, ed25519
