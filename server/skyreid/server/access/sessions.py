"""Sessions of the page: a cookie in place of a token, with a word against forged requests (CSRF).

In memory: who restarts the server logs everybody out. A session ends with its token, whatever its
own end is; that is by how long the machine runs, and no clock that is set moves it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from skyreid.server.access.tokens import Token

HOURS = 12
SESSIONS_MAX = 1_000
OF_ONE_TOKEN = 16


@dataclass
class Session:
    """Somebody who is logged in to the page."""

    token: str
    """Id of the token."""
    csrf: str
    until_s: float
    """By the clock of `Sessions`, s."""
    purpose: str = ""
    case: str = ""
    ended: bool = False

    def fits(self, csrf: str) -> bool:
        """Whether a request that changes something came from our page."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


def _up_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Sessions:
    """All of them; safe from any thread."""

    def __init__(self, now_s: Callable[[], float] = _up_s) -> None:
        """``now_s`` seconds of a clock that nobody sets."""
        self._now_s = now_s
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}  # by digest of the cookie, the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, token: Token) -> tuple[str, Session]:
        """The cookie of a new one, and the session; too many of one token, and its oldest goes."""
        now_s, cookie = self._now_s(), secrets.token_urlsafe(32)
        made = Session(token.id, secrets.token_urlsafe(32), now_s + HOURS * 3_600)
        with self._lock:
            for key in [key for key, held in self._open.items() if held.until_s <= now_s]:
                self._drop(key)
            mine = [key for key, held in self._open.items() if held.token == token.id]
            oldest = mine[: len(mine) - OF_ONE_TOKEN + 1] if len(mine) >= OF_ONE_TOKEN else []
            if len(self._open) >= SESSIONS_MAX:
                oldest = [*oldest, next(iter(self._open))]
            for key in oldest:
                self._drop(key)
            self._open[_digest(cookie)] = made
        return cookie, made

    def of(self, cookie: str) -> Session | None:
        """The session of a cookie; None where there is none, or not any more."""
        held = self._open.get(_digest(cookie))
        return held if held is not None and self.holds(held) else None

    def holds(self, session: Session) -> bool:
        """Whether a session holds now: nobody logged out, and its time is not over."""
        return not session.ended and session.until_s > self._now_s()

    def left_s(self, session: Session) -> float:
        """For how long a session holds yet, s."""
        return max(0.0, session.until_s - self._now_s())

    def end(self, cookie: str) -> None:
        """Log out."""
        with self._lock:
            self._drop(_digest(cookie))

    def _drop(self, key: str) -> None:
        held = self._open.pop(key, None)
        if held is not None:
            held.ended = True


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
