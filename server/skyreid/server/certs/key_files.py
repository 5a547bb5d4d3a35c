"""How the authority writes its files: keys for their owner alone, the rest for whoever reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from skyreid.contract import files
from skyreid.contract.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def write_key(path: Path, key: PrivateKeyTypes) -> None:
    """Whoever could read the key before, mosquitto's user above all, can read the new one.

    Raises:
        InputError: it is written, and cannot be given back to whose it was.
    """
    before = path.stat() if path.exists() else None
    write_secret(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    if before is not None:
        give(path, before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode))


def give(path: Path, user: int, group: int, mode: int) -> None:
    """Let a user and a group have a file or a folder.

    Raises:
        InputError: this user may not.
    """
    try:
        if (path.stat().st_uid, path.stat().st_gid) != (user, group):
            os.chown(path, user, group)
        os.chmod(path, mode)
    except OSError as error:
        raise InputError(
            f"{path} is new and cannot be given to user {user} and group {group}: "
            f"{error.strerror}; do so before anybody is to read it, or run this as the user who may"
        ) from error


def write_secret(path: Path, data: bytes) -> None:
    """For this user alone."""
    files.write(path, data, mode=0o600)


def write_open(path: Path, data: bytes) -> None:
    """What mosquitto's user has to read, whatever the umask: a list it cannot read holds nobody."""
    files.write(path, data, mode=0o644)


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)
