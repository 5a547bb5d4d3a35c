"""Opens what devices sealed, with the private keys that lie in the authority's folder.

A key is read when a record names it first, so that one that ``certs rotate`` has made needs no
restart, and one that is put back where it was missing is found within ``AGAIN_S``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract.errors import SettingsError, reason
from skyreid.contract.sealed import Opener, key_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_log = logging.getLogger(__name__)

FOLDER = "seal"
"""Of the private keys, in the authority's."""
AGAIN_S = 5.0
_MISSING_MAX = 256
TELL_S, _TOLD_MAX = 60.0, 8
"""So many names that nobody has are told of in so long: a device can think of ever new ones."""


class KeyRing:
    """The private keys of a folder, ``NAME.key``, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, X25519PrivateKey] = {}
        self._missing: dict[str, float] = {}
        self._told, self._told_since_s = 0, float("-inf")

    def names(self) -> list[str]:
        """Of the keys that are there.

        Raises:
            SettingsError: the folder, or one of them, cannot be read.
        """
        try:
            names = sorted(path.stem for path in self._folder.iterdir() if path.suffix == ".key")
            for name in names:
                path = self._folder / f"{name}.key"
                self._keys[name] = _read(path, name)
                if self._folder.stat().st_mode & 0o001 and path.stat().st_mode & 0o004:
                    _log.warning("%s opens what devices seal, and anybody here can read it", path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"authority.folder: {reason(error)}") from error
        return names

    def find(self, name: str) -> X25519PrivateKey | None:
        """The key of a name; None where it is not there, which is said in the log."""
        if (known := self._keys.get(name)) is not None:
            return known
        now_s = time.monotonic()
        if now_s < self._missing.get(name, float("-inf")):
            return None
        path = self._folder / f"{name}.key"
        try:
            self._keys[name] = _read(path, name)
        except (OSError, ValueError) as error:
            if len(self._missing) >= _MISSING_MAX:
                self._missing.clear()
            if name not in self._missing and self._may_tell(now_s):
                _log.error("sealed to key %s, which cannot be had: %s", name, error)
            self._missing[name] = now_s + AGAIN_S
        return self._keys.get(name)

    def _may_tell(self, now_s: float) -> bool:
        if now_s - self._told_since_s >= TELL_S:
            self._told, self._told_since_s = 0, now_s
        self._told += 1
        return self._told <= _TOLD_MAX


def _read(path: Path, name: str) -> X25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is no private key in PEM without a passphrase") from error
    if not isinstance(key, X25519PrivateKey) or key_name(key.public_key()) != name:
        raise ValueError(f"{path} is not the key of X25519 that its name says")
    return key


@dataclass(frozen=True)
class Opening:
    """What is done with sealed messages, and with those that are not."""

    opener: Opener | None = None
    """None = nothing sealed can be opened."""
    keys: int = 0
    """Private keys that were there at the start."""
    required: bool = False
    """Whether what is about people has to be sealed. A device that it is refused of has it still,
    and seals it when it starts with the site's key."""


def opening_of(folder: Path | None, site: str, *, required: bool) -> Opening:
    """How a server opens, of whose authority ``folder`` is.

    Raises:
        SettingsError: a key that is there cannot be read.
    """
    if folder is None:
        return Opening(required=required)
    ring = KeyRing(folder / FOLDER)
    names = ring.names()
    _log.info("sealed records open with keys %s", ", ".join(names) or "none")
    return Opening(Opener(site, ring.find), len(names), required)
