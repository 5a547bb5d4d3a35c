"""One line of the audit log: JSON that names the hash of the line before, and its own.

``hash`` is the SHA-256 of the line up to it, ``prev`` that of the line before: whoever changes,
drops or inserts a line has to write every later one anew, and then the head that left the machine
fits no more. Nothing biometric is in it: of a person it has the public id, of a token the name.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from skyreid.contract.errors import InputError

FIRST = "0" * 64
"""What the first line of all names as the hash before it."""
TORN = "torn"
"""The act that closes a line which a kill or a power cut left unfinished."""
CUT = "cut"
"""The act that says how many lines at the beginning retention took."""
TEXT_MAX = 300
_SECRET = re.compile(r"sk~[^\s\"]*")
_TAIL = b',"hash":"'


class Head(NamedTuple):
    """The last line: its number, counted from 1, and its hash. (0, `FIRST`) where there is none."""

    n: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """What happened, before it has a number."""

    act: str
    """One word: ``search``, ``picture``, ``erase``, ``refused``, ..."""
    who: str = ""
    """A token's name, ``local:USER`` for a command, ``anyone`` where no token was made."""
    role: str = ""
    what: str = ""
    """Public ids, or a route; never what was typed into an address."""
    answer: int = 0
    """HTTP status; 0 = none."""
    peer: str = ""
    """Address of who asked."""
    purpose: str = ""
    case: str = ""


class Line(NamedTuple):
    """A line that was read."""

    n: int
    prev: str
    hash: str
    sound: bool
    """Whether its own hash fits its bytes."""
    said: dict[str, Any]


def plain(text: str) -> str:
    """Free text as it may stand in a line: one line, bounded, without anything like a token."""
    shown = "".join(c if c.isprintable() else " " for c in text[: 2 * TEXT_MAX])
    return _SECRET.sub("sk~...", shown)[:TEXT_MAX]


def write_line(entry: Entry, before: Head, at_ns: int) -> tuple[bytes, Head]:
    """The bytes of the next line, with its end, and what is the head then."""
    seconds, rest_ns = divmod(at_ns, 10**9)
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest_ns // 1000:06d}Z"
    said: dict[str, Any] = {"n": before.n + 1, "at": at, "act": entry.act}
    for name in ("who", "role", "what", "peer", "purpose", "case"):
        if value := getattr(entry, name):
            said[name] = plain(value)
    if entry.answer:
        said["answer"] = entry.answer
    said["prev"] = before.hash
    body = json.dumps(said, separators=(",", ":"), ensure_ascii=True).encode()[:-1]
    own = hashlib.sha256(body).hexdigest()
    return body + _TAIL + own.encode() + b'"}\n', Head(before.n + 1, own)


def read_line(raw: bytes) -> Line:
    """A line without its end.

    Raises:
        InputError: it is none.
    """
    try:
        said = json.loads(raw)
        n, prev, own = said["n"], said["prev"], said["hash"]
        good = type(n) is int and n > 0 and isinstance(prev, str) and isinstance(own, str)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("no line of an audit log") from error
    if not good:
        raise InputError("no line of an audit log")
    body, tail, _ = raw.rpartition(_TAIL)
    sound = bool(tail) and hashlib.sha256(body).hexdigest() == own
    return Line(n, prev, own, sound and raw == body + _TAIL + own.encode() + b'"}', said)


def torn(fragment: bytes) -> str:
    """What a `TORN` line says of the unfinished one before it."""
    return f"{len(fragment)} bytes, {hashlib.sha256(fragment).hexdigest()}"
