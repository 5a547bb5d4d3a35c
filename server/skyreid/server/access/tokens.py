"""Bearer tokens (RFC 6750): a name, a role and an end; salted digests beside the journal.

A token is ``sk~ID~SECRET``, the secret 256 random bits, so that one round of a salted SHA-256 keeps
it (a slow hash is for what people choose). The file is read anew whenever it changed: a revoked
token is none with the next request. Once there was a token, a file that is missing or cannot be
read lets nobody in: the journal remembers that there was one. And once a token was over, that is
written down: a clock that is set back makes none good again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.contract.topics import check_identifier
from skyreid.server.access.roles import Role

_log = logging.getLogger(__name__)
ANYONE = "anyone"
"""Who asks where no token was made."""
NOBODY = "nobody"
"""Who asks without a log-in where one is needed."""
SERVER = "server"
"""Who does what no request asked for."""
DAYS = 90
DAYS_MAX = 3_650
LINK_MINUTES = 10
_TOKEN = re.compile(r"sk~([0-9a-f]{12})~([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Token:
    """One token, without its secret."""

    id: str
    name: str
    role: str
    salt: str
    digest: str
    made: str
    end: str
    """ISO 8601, UTC."""
    revoked: str = ""
    """When it was taken back, or found to be over; "" = neither."""

    @property
    def least(self) -> Role:
        """Its role."""
        return Role.of(self.role)

    def trouble(self, now: datetime) -> str:
        """Why it is none any more; "" while it is one."""
        end = datetime.fromisoformat(self.end)
        if self.revoked:
            return "expired" if datetime.fromisoformat(self.revoked) >= end else "revoked"
        return "expired" if end <= now else ""

    def shown(self) -> dict[str, Any]:
        """What is shown of it."""
        whole = asdict(self)
        return {key: whole[key] for key in ("name", "role", "made", "end", "revoked")}


class Checked(NamedTuple):
    """What became of a secret that somebody gave."""

    token: Token | None
    """Whose it is, also where it is good no more."""
    trouble: str
    """``unknown``, ``expired`` or ``revoked``; "" = it is good."""


def file_of(journal: Path) -> Path:
    """The tokens beside a journal."""
    return journal.with_name(f"{journal.name}.tokens")


class Tokens:
    """The tokens of one server; safe from any thread, and beside commands."""

    def __init__(
        self, path: Path, *, made: bool = False, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """``path`` of a file that there may not be yet.

        Args:
            path: of the file.
            made: whether there was a token before, as the journal knows.
            now_ns: nanoseconds since 1970 UTC.
        """
        self._path, self._now_ns = path, now_ns
        self._thread = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._by_id: dict[str, Token] = {}
        self._made = made or path.exists()

    @property
    def made(self) -> bool:
        """Whether a token was ever made: then nobody is let in without one."""
        self._load()
        return self._made

    @property
    def lost(self) -> bool:
        """Whether there was a token and their file is gone."""
        return self.made and not self._path.exists()

    def check(self, text: str) -> Checked:
        """Whose a token is, and whether it is good now."""
        self._load()
        parts = _TOKEN.fullmatch(text)
        token = self._by_id.get(parts[1]) if parts else None
        if parts is None or token is None:
            return Checked(None, "unknown")
        if not hmac.compare_digest(_digest(token.salt, parts[2]), token.digest):
            return Checked(None, "unknown")
        return Checked(token, token.trouble(self._now()))

    def of(self, id: str) -> Checked:
        """How the token of a session is now."""
        self._load()
        token = self._by_id.get(id)
        return Checked(token, "unknown" if token is None else token.trouble(self._now()))

    def listed(self) -> list[Token]:
        """All of them, the newest last.

        Raises:
            InputError: the file cannot be read.
        """
        return _tokens(self._read())

    def create(self, name: str, role: Role, days: float) -> str:
        """Make one; the token itself, which is shown once and kept nowhere.

        Raises:
            InputError: the name cannot be used or is taken, or the file cannot be written.
        """
        try:
            check_identifier(name)
        except ValueError as error:
            raise InputError(f"token {error}") from error
        if name.lower() in (ANYONE, NOBODY, SERVER):
            raise InputError(f"token {name!r}: the audit log says that of others; take another")
        if not 0 < days <= DAYS_MAX:
            raise InputError(f"token {name!r}: {days:g} days; from now to {DAYS_MAX} days")
        secret, salt, now = secrets.token_urlsafe(32), secrets.token_hex(16), self._now()
        made = Token(
            secrets.token_hex(6), name, role.word, salt, _digest(salt, secret), now.isoformat(),
            (now + timedelta(days=days)).isoformat(),
        )  # fmt: skip
        with self._changing() as state:
            kept = [t for t in _tokens(state) if t.name != name or t.trouble(now)]
            if len(kept) != len(state["tokens"]):
                raise InputError(f"token {name!r} is there; revoke it first, or take another name")
            state["tokens"].append(asdict(made))
        return f"sk~{made.id}~{secret}"

    def revoke(self, name: str) -> int:
        """Take every good token of a name back; how many.

        Raises:
            InputError: there is none, or the file cannot be written.
        """
        now, count = self._now(), 0
        with self._changing() as state:
            for each, token in zip(state["tokens"], _tokens(state), strict=True):
                if token.name == name and not token.revoked:
                    each["revoked"], count = now.isoformat(), count + 1
            if not count:
                raise InputError(
                    f"token {name!r}: there is none of this name; token list shows all"
                )
            ids = {t["id"] for t in state["tokens"] if t["name"] == name}
            state["links"] = [link for link in state["links"] if link["token"] not in ids]
        return count

    def make_link(self, name: str) -> str:
        """A word that logs the page in as a token, once and for some minutes.

        Raises:
            InputError: there is no good token of this name, or the file cannot be written.
        """
        word, now = secrets.token_urlsafe(32), self._now()
        with self._changing() as state:
            good = [t for t in _tokens(state) if t.name == name and not t.trouble(now)]
            if not good:
                raise InputError(f"token {name!r}: no good one of this name; token list shows all")
            end = (now + timedelta(minutes=LINK_MINUTES)).isoformat()
            link = {"digest": _digest("", word), "token": good[-1].id, "end": end}
            state["links"] = [*_waiting(state, now), link]
        return word

    def redeem(self, word: str) -> Checked:
        """The token of a link, which is none afterwards.

        Raises:
            InputError: the file cannot be written.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", word):
            return Checked(None, "unknown")
        digest, now = _digest("", word), self._now()
        if all(link["digest"] != digest for link in self._read()["links"]):
            return Checked(None, "unknown")  # and whoever guesses writes no file
        with self._changing() as state:
            waiting = _waiting(state, now)
            found = next((link for link in waiting if link["digest"] == digest), None)
            state["links"] = [link for link in waiting if link is not found]
        return Checked(None, "unknown") if found is None else self.of(found["token"])

    def end_those_over(self, now_ns: int) -> list[str]:
        """Write down which tokens are over, and let go of links that are; names of the tokens.

        Args:
            now_ns: nanoseconds since 1970 UTC, of a clock that is believed: this is for good.

        Raises:
            InputError: the file cannot be read or written.
        """
        now, names = datetime.fromtimestamp(now_ns / 1e9, timezone.utc), list[str]()
        if not self._over(self._read(), now):
            return names
        with self._changing() as state:
            over = self._over(state, now)
            for each in state["tokens"]:
                if each["id"] in over:
                    each["revoked"] = max(now.isoformat(), each["end"])
                    names.append(str(each["name"]))
            state["links"] = _waiting(state, now)
        return names

    def _over(self, state: dict[str, Any], now: datetime) -> set[str]:
        """Ids of tokens, and digests of links, that are over and not yet said to be."""
        ended = {t.id for t in _tokens(state) if not t.revoked and t.trouble(now)}
        waiting = _waiting(state, now)
        return ended | {link["digest"] for link in state["links"] if link not in waiting}

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._now_ns() / 1e9, timezone.utc)

    def _load(self) -> None:
        try:
            told = os.stat(self._path)
            seen = told.st_mtime_ns, told.st_ino, told.st_size
        except OSError as error:
            if self._seen is not None:
                _log.error("tokens %s: %s: nobody is let in", self._path, error.strerror)
            self._made = self._made or not isinstance(error, FileNotFoundError)
            self._by_id, self._seen = {}, None
            return
        if seen == self._seen:
            return
        with self._thread:
            self._made = True
            try:
                self._by_id = {token.id: token for token in _tokens(self._read())}
            except InputError as error:
                _log.error("%s: nobody is let in", error)
                self._by_id = {}
            self._seen = seen

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads(self._path.read_bytes())
            if not isinstance(state["tokens"], list) or not isinstance(state["links"], list):
                raise ValueError("no tokens")
            _tokens(state)
            return dict(state)
        except FileNotFoundError:
            return {"tokens": [], "links": []}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = getattr(error, "strerror", None) or "is no file of tokens"
            raise InputError(f"tokens {self._path}: {why}") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        place = self._path.with_name(f"{self._path.name}.lock")
        with files.FileLock(place, of=f"tokens {self._path}", waiting=lambda _who: None):
            state = self._read()
            yield state
            files.write(self._path, json.dumps(state, indent=1).encode(), mode=0o600)


def _tokens(state: dict[str, Any]) -> list[Token]:
    tokens = [Token(**each) for each in state["tokens"]]
    for token in tokens:
        Role.of(token.role), datetime.fromisoformat(token.end)  # a ValueError, before it is used
    return tokens


def _waiting(state: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    return [link for link in state["links"] if datetime.fromisoformat(link["end"]) > now]


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}:{secret}".encode()).hexdigest()
