"""The keys that devices seal to: a pair of X25519 for the site, replaced now and then.

``seal.pub`` is what devices get when they enrol, and are told of when it is another one;
``seal/NAME.key`` are the private keys, that of now and those before it: a device seals to what it
knows, and delivers what it has when it comes back. One that was retired long ago is
deleted, and what is sealed to it then nobody opens any more.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from skyreid.contract import files
from skyreid.contract.sealed import key_name
from skyreid.server.broker.opening import FOLDER
from skyreid.server.certs.authority import Authority, utc_now
from skyreid.server.certs.key_files import give, write_key

PUBLIC = "seal.pub"
KEEP_DAYS_MIN = 2
"""Devices that are on seal to the key before for up to a day, and what they sealed has to come."""


def rotate(authority: Authority, keep_days: int = 90) -> tuple[str, list[str]]:
    """Make a new pair, to which devices seal from their next word with the authority on.

    Returns:
        The new key's name, and those that were deleted.
    """
    folder = authority.path(FOLDER)
    folder.mkdir(mode=0o700, exist_ok=True)
    key = X25519PrivateKey.generate()
    name, at = key_name(key.public_key()), utc_now()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    gone = []
    with authority.changing() as state:
        path = folder / f"{name}.key"
        write_key(path, key)
        give(path, folder.stat().st_uid, folder.stat().st_gid, 0o600)  # whoever opens the others
        for each in state.get("seals", []):
            each.setdefault("retired", at.isoformat())
            if each["retired"] < (at - timedelta(days=keep_days)).isoformat():
                (folder / f"{each['name']}.key").unlink(missing_ok=True)
                gone.append(str(each["name"]))
        kept = [each for each in state.get("seals", []) if each["name"] not in gone]
        state["seals"] = [*kept, {"name": name, "since": at.isoformat()}]
        # Last: nobody seals to a key before what opens it is on the disk.
        files.write(authority.path(PUBLIC), public, mode=0o644)
    return name, gone


def public_key(authority: Authority) -> str:
    """What devices seal to, PEM; empty where the authority has none yet."""
    path = authority.path(PUBLIC)
    return path.read_text() if path.exists() else ""
