"""Erasures: what was asked for and how far it is, and a list of erased keys beside the journal.

A request is a row of the journal, and once it is there the erasure is decided: a kill at any later
moment ends in erased. The list (``journal.sqlite.erased``) outlives the journal itself: when an
older copy is put in its place, whoever was erased since is erased from that one too.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey

Target = str | TrackKey
"""An identity's id, or a tracklet."""


@dataclass(frozen=True)
class Asked:
    """One request. ``state``: ``asked``, ``decided`` (its rows are gone), ``done``, ``refused``."""

    id: int
    asked_at_ns: int
    reason: str
    target: Target
    state: str
    body: dict[str, Any]
    """Once decided, which tracklets, and what was removed; once done, the receipt."""


def parse_target(text: str) -> Target:
    """An id of an identity, or ``DEVICE/BOOT/CAMERA/TRACK``.

    Raises:
        InputError: it is neither.
    """
    device, *rest = text.split("/")
    if not rest and re.fullmatch(r"[0-9A-Z]{8}", device):
        return device
    if len(rest) == 3 and re.fullmatch(r"[0-9]{1,18}", rest[2]):
        return TrackKey(device, rest[0], rest[1], int(rest[2]))
    raise InputError(
        f"{text!r} is neither an identity (8 characters) nor a tracklet (DEVICE/BOOT/CAMERA/TRACK)"
    )


def ask(db: sqlite3.Connection, target: Target, reason: str, at_ns: int) -> int:
    """Write a request down (within a transaction); returns its number."""
    text = target if isinstance(target, str) else json.dumps(target.to_json())
    row = (at_ns, reason, text, "asked", "{}")
    sql = "INSERT INTO erasure (asked_at_ns, reason, target, state, body) VALUES (?, ?, ?, ?, ?)"
    return int(db.execute(sql, row).lastrowid or 0)


def settle(db: sqlite3.Connection, number: int, state: str, body: dict[str, Any]) -> None:
    """Note how far a request is (within a transaction)."""
    db.execute(
        "UPDATE erasure SET state = ?, body = ? WHERE id = ?", (state, json.dumps(body), number)
    )


def read(db: sqlite3.Connection, where: str = "1", *values: object) -> list[Asked]:
    """Requests in order."""
    rows = db.execute(
        "SELECT id, asked_at_ns, reason, target, state, body FROM erasure "
        f"WHERE {where} ORDER BY id",
        values,
    )
    return [
        Asked(number, at_ns, reason, _target(text), state, json.loads(body))
        for number, at_ns, reason, text, state, body in rows
    ]


def unfinished(db: sqlite3.Connection) -> list[Asked]:
    """Requests that are neither done nor refused."""
    return read(db, "state IN ('asked', 'decided')")


def _target(text: str) -> Target:
    return TrackKey.from_json(json.loads(text)) if text.startswith("{") else text


def list_of(journal: Path) -> Path:
    """The list of erased keys beside a journal."""
    return journal.with_name(f"{journal.name}.erased")


def note_erased(journal: Path, identities: Collection[str], keys: Collection[TrackKey]) -> None:
    """Add to the list, down to the disk; what is on it already may be added again.

    Raises:
        OSError: it is not on the disk.
    """
    line = json.dumps({"identities": sorted(identities), "tracks": [k.to_json() for k in keys]})
    path = list_of(journal)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        os.write(handle, f"\n{line}\n".encode())  # behind the half line of a power cut, if any
        os.fsync(handle)
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_erased(journal: Path) -> dict[TrackKey, None]:
    """Every tracklet on the list, in its order."""
    found: dict[TrackKey, None] = {}
    for entry in _lines(list_of(journal)):
        for key in entry["tracks"]:
            found[TrackKey.from_json(key)] = None
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):  # one that a power cut cut off: its erasure is not decided
                yield json.loads(line)
