"""Key pairs, and the signature of a bundle; `bundle.signature` says what is signed, and checks."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyreid.bundle.archive import open_bundle, replace_file
from skyreid.bundle.signature import PURPOSE, SIGNATURE, cryptography_modules, key_id, line, trusted
from skyreid.contract import files
from skyreid.contract.errors import BundleError, InputError, reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


Say = Callable[[str], object]


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
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InputError(f"cannot write {private}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:  # never, not even for a moment, readable by others
            file.write(secret)
        files.write(public, known)
    except BaseException as error:  # half a key, or one whose public half is missing, is none
        private.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {private}: {error.strerror}") from error
        raise
    return key_id(key.public_key())


def sign(bundle: Path, private: Path, *, version: int | None = None) -> str:
    """Sign a bundle directory; an older signature is replaced.

    What is signed are the sums that were verified, from memory: a file that is swapped meanwhile
    makes a bundle whose signature does not hold.

    Args:
        bundle: a directory.
        private: key, PEM.
        version: written into the manifest first, see ``Manifest.version``; None = as it is.

    Returns:
        The key id.

    Raises:
        BundleError: the directory is not a whole bundle.
        InputError: the key cannot be used, or the signature cannot be written.
    """
    if not bundle.is_dir():
        raise BundleError(f"{bundle} is not a directory: sign the bundle before it is zipped")
    key = _private_key(private)
    whole = open_bundle(bundle)  # nobody signs what does not hold together
    if version is not None and version != whole.manifest.version:
        older = (bundle / SIGNATURE).read_bytes() if (bundle / SIGNATURE).exists() else None
        (bundle / SIGNATURE).unlink(missing_ok=True)  # of the sums that change now
        manifest = whole.manifest.model_copy(update={"version": version})
        text = (manifest.model_dump_json(indent=1) + "\n").encode()
        verified = {**whole.files, "manifest.json": text}
        try:
            whole = replace_file(whole, "manifest.json", text)
        except BaseException:
            if older is not None:  # the sums are still those that it signs
                files.write(bundle / SIGNATURE, older)
            raise
        if whole.files != verified:
            raise BundleError(f"{bundle} was changed by somebody else meanwhile: nothing is signed")
    identity = key_id(key.public_key())
    files.write(bundle / SIGNATURE, line(identity, key.sign(PURPOSE + whole.sums)))
    return identity


def _private_key(path: Path) -> Ed25519PrivateKey:
    serialization, ed25519 = cryptography_modules()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read the private key {path}: {reason(error, path)}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(f"{path} is not an Ed25519 key")
    private: Ed25519PrivateKey = key
    return private


def add_verbs(verbs: Any, say: Say) -> None:
    """``keys``, ``sign`` and ``verify-signature``, for the command line; `say` takes a result."""
    keys = verbs.add_parser("keys", help="make a key pair for signatures")
    keys.set_defaults(verb=partial(_keys, say))
    keys.add_argument("private", type=Path, help="PEM file to write, readable by you only")
    keys.add_argument("public", type=Path, help="PEM file to write, for trust.keys of the devices")

    sign = verbs.add_parser("sign", help="sign a bundle directory")
    sign.set_defaults(verb=partial(_sign, say))
    sign.add_argument("bundle", type=Path)
    sign.add_argument("--key", type=Path, required=True, help="private key, PEM")
    sign.add_argument(
        "--bundle-version",
        type=int,
        metavar="N",
        help="written into the manifest first, for trust.min_version of the devices",
    )

    signature = verbs.add_parser("verify-signature", help="check who signed a bundle")
    signature.set_defaults(verb=partial(_verify_signature, say))
    signature.add_argument("bundle", type=Path)
    signature.add_argument(
        "--key", type=Path, action="append", required=True, help="public key, PEM; may be repeated"
    )
    signature.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _keys(say: Say, options: argparse.Namespace) -> int:
    identity = make_keys(options.private, options.public)
    say(f"key {identity}: keep {options.private} secret, give {options.public} to the devices")
    return 0


def _sign(say: Say, options: argparse.Namespace) -> int:
    version = options.bundle_version
    if version is not None and not 0 <= version < 1 << 63:
        raise InputError(f"--bundle-version {version}: a whole number from 0 on")
    identity = sign(options.bundle, options.key, version=version)
    say(f"{options.bundle} signed by key {identity}")
    return 0


def _verify_signature(say: Say, options: argparse.Namespace) -> int:
    opened = open_bundle(options.bundle, trusted(options.key))
    facts = {"bundle": str(opened.path), "sha256": opened.sha256, "signed_by": opened.signed_by}
    said = f"{options.bundle} is whole and signed by key {opened.signed_by}"
    say(json.dumps(facts) if options.json else said)
    return 0
