"""Key pairs, and the signature of a bundle; `bundle.signature` says what is signed, and checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.bundle.archive import SUMS, open_bundle
from skyreid.bundle.signature import PURPOSE, SIGNATURE, cryptography_modules, key_id, line
from skyreid.contract import files
from skyreid.contract.errors import BundleError, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def make_keys(private: Path, public: Path) -> str:
    """Write a new key pair as PEM, the private one readable by its owner only.

    Returns:
        The key id.

    Raises:
        InputError: a file exists already, or cannot be written.
    """
    serialization, ed25519 = cryptography_modules()
    key = ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    known = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path in (private, public):
        if path.exists():
            raise InputError(f"{path} exists already: a key is never overwritten, name another")
    try:
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
        public.write_bytes(known)
    except OSError as error:
        raise InputError(f"cannot write a key: {error}") from error
    return key_id(key.public_key())


def sign(bundle: Path, private: Path) -> str:
    """Sign a bundle directory; an older signature is replaced.

    Returns:
        The key id.

    Raises:
        BundleError: the directory is not a whole bundle.
        InputError: the key cannot be used, or the signature cannot be written.
    """
    if not bundle.is_dir():
        raise BundleError(f"{bundle} is not a directory: sign the bundle before it is zipped")
    key = _private_key(private)
    open_bundle(bundle)  # nobody signs what does not hold together
    sums = (bundle / SUMS).read_bytes()
    identity = key_id(key.public_key())
    files.write(bundle / SIGNATURE, line(identity, key.sign(PURPOSE + sums)))
    return identity


def _private_key(path: Path) -> Ed25519PrivateKey:
    serialization, ed25519 = cryptography_modules()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read the private key {path}: {error}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(f"{path} is not an Ed25519 key")
    private: Ed25519PrivateKey = key
    return private
