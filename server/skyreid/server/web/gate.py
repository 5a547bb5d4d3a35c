"""The gate before every route: who asks, whether they may, and a line of the audit log for it.

Who asks is known by a bearer token or by the cookie of a session. Where no token was ever made,
whoever is this machine's user may do everything (the first hour); with the first token nobody is
let in without one. What a route asks for stands in `access.roles`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from skyreid.contract.topics import IDENTIFIER
from skyreid.server.access.limits import Limit
from skyreid.server.access.options import AccessOptions
from skyreid.server.access.roles import RULES, WITHOUT_PURPOSE, Role, Rule, rule_of
from skyreid.server.access.sessions import Session, Sessions
from skyreid.server.access.tokens import ANYONE, NOBODY, Checked, Tokens
from skyreid.server.audit.line import Entry, plain
from skyreid.server.audit.log import AuditLog
from skyreid.server.counters import Metrics
from skyreid.server.web.request import (
    BODY_MAX_BYTES,
    again,
    answer,
    body_of,
    cookie_of,
    headers_of,
    is_this_machine,
    only,
    peer_of,
)

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

_log = logging.getLogger(__name__)
CALLER = "skyreid.caller"
"""Where a request's scope says who asks."""
WATCH_S = 600.0
"""Who watches the live page for one reason is written down so often."""
WATCHED_MAX = 10_000
REFUSALS_PER_MIN = 120
"""Of one name are written down; of the others the number."""
PURPOSE_MAX = 200
PURPOSE, CASE, CSRF = "skyreid-purpose", "skyreid-case", "skyreid-csrf"
_SAFE = ("GET", "HEAD")
BEFORE = ("erase", "token", "undo")
"""Acts of which a line is on the disk before they are begun: what cannot be written is not done."""
_IDENTITY = re.compile(r"[0-9A-Z]{8}")


@dataclass(frozen=True)
class Access:
    """What the gate goes by; one for a server."""

    tokens: Tokens
    audit: AuditLog
    metrics: Metrics
    options: AccessOptions = field(default_factory=AccessOptions)
    purpose_required: bool = False
    secure: bool = False
    """Whether the API is served over TLS."""
    sessions: Sessions = field(default_factory=Sessions)
    now_s: Callable[[], float] = time.monotonic
    """By which so many a minute are counted."""

    @property
    def cookie(self) -> str:
        """The name of a session's cookie; the prefix makes a browser refuse it without TLS."""
        return "__Host-skyreid" if self.secure else "skyreid"


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str
    role: Role
    still: Callable[[], bool]
    """Whether the log-in holds now; asked by what goes on for long."""
    session: Session | None = None
    open: bool = False
    """Whether nobody logs in here."""


class _Asked(NamedTuple):
    """What is asked for."""

    method: str
    path: str
    """Of the route, as ``/v1/identities/{identity}``; "" where there is none."""
    rule: Rule
    what: str
    """The same with the ids that may be written down."""


class _Refusal(NamedTuple):
    """Why somebody gets nothing."""

    status: int
    reason: str
    who: str = NOBODY
    role: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Gate:
    """ASGI middleware around the application; streams pass through unbuffered."""

    def __init__(self, app: FastAPI, access: Access) -> None:
        """``app`` with all of its routes; each has to have its rule.

        Raises:
            ValueError: a route has none, or a rule has no route.
        """
        self._app, self._access = app, access
        found = {
            (method, route.path)  # type: ignore[attr-defined]
            for route in app.routes
            for method in getattr(route, "methods", None) or ("GET",)
            if method != "HEAD"
        }
        if found != RULES.keys():
            wrong = sorted(f"{method} {path}" for method, path in found ^ RULES.keys())
            raise ValueError(f"routes without a rule, or rules without a route: {wrong}")
        options = access.options
        self._limits = {
            "search": Limit(options.searches_per_min, access.now_s),
            "picture": Limit(options.pictures_per_min, access.now_s),
        }
        self._listed, self._unlisted = Limit(REFUSALS_PER_MIN, access.now_s), dict[str, int]()
        self._watched: dict[tuple[str, str, str, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 401, 403 or 429, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        asked = self._asked(scope, headers)
        found = self._judge(scope, headers, asked)
        if isinstance(found, _Refusal):
            await self._refuse(scope, send, asked, found)
            return
        scope[CALLER] = found
        if asked.method not in (*_SAFE, "DELETE"):
            body = await body_of(receive)
            if body is None:
                await answer(send, 413, f"a body of at most {BODY_MAX_BYTES} bytes, at once")
                return
            receive = again(body, receive)
        if not asked.rule.act:
            await self._app(scope, receive, send)
            return
        await self._written(scope, receive, send, asked, headers)

    async def refused(self, scope: Scope, status: int, reason: str) -> None:
        """Note a refusal of the guard before this gate."""
        await self._note(scope, self._asked(scope, {}), _Refusal(status, reason))

    # --- who, and whether ---

    def _asked(self, scope: Scope, headers: Mapping[str, list[str]]) -> _Asked:
        from starlette.routing import Match

        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["path"]
        if (rule := RULES.get((method, path))) is not None and "{" not in path:
            query = scope["query_string"].decode("latin-1")
            return _Asked(method, path, rule_of(rule, path, query, headers.keys()), path)
        for route in self._app.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                path = route.path  # type: ignore[attr-defined]
                rule = RULES.get((method, path), Rule(Role.VIEWER))
                return _Asked(method, path, rule, _ids(path, child.get("path_params", {})))
        return _Asked(method, "", Rule(Role.VIEWER), "no route")

    def _judge(
        self, scope: Scope, headers: Mapping[str, list[str]], asked: _Asked
    ) -> Caller | _Refusal:
        access, rule = self._access, asked.rule
        caller = self._who(scope, headers)
        if isinstance(caller, _Refusal):
            return caller if rule.least is not None else PUBLIC
        who = caller.name, caller.role.word
        if rule.least is not None and caller.role < rule.least:
            return _Refusal(403, f"this needs the role {rule.least.word}, yours is {who[1]}", *who)
        if asked.method not in _SAFE and caller.session is not None:
            if not caller.session.fits(only(headers, CSRF)):
                return _Refusal(403, f"the header {CSRF} is missing or wrong", *who)
        if access.purpose_required and asked.rule.act not in WITHOUT_PURPOSE:
            missing = [
                name
                for name, said in zip((PURPOSE, CASE), _why(headers, caller), strict=True)
                if not said
            ]
            if missing:
                return _Refusal(
                    400,
                    f"this site asks what for: give the header {' and '.join(missing)}, or log in "
                    "to the page and say it there",
                    *who,
                )
        if rule.bounded:
            wait_s = self._limits[rule.bounded].take(caller.name)
            if wait_s:
                later = ((b"retry-after", b"%d" % (int(wait_s) + 1)),)
                return _Refusal(
                    429,
                    f"too many of these a minute: access.{rule.bounded}"
                    f"{'es' if rule.bounded == 'search' else 's'}_per_min",
                    *who,
                    later,
                )
        return caller

    def _who(self, scope: Scope, headers: Mapping[str, list[str]]) -> Caller | _Refusal:
        access = self._access
        if not access.tokens.made:
            if is_this_machine(scope, headers):
                return Caller(ANYONE, Role.ADMIN, lambda: not access.tokens.made, open=True)
            return _Refusal(
                401,
                "no token was made, and without one only the server's own user may ask, from this "
                "machine and through no proxy: skyreid-server token create makes one",
            )
        given = headers.get("authorization", [])
        if given:
            scheme, _, secret = given[0].strip().partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer":
                return _unknown("Authorization: Bearer TOKEN is the only one")
            return self._holds(access.tokens.check(secret.strip()), None)
        session = access.sessions.of(cookie_of(headers, access.cookie))
        if session is None:
            return _unknown("log in: a token is needed")
        return self._holds(access.tokens.of(session.token), session)

    def _holds(self, checked: Checked, session: Session | None) -> Caller | _Refusal:
        token, trouble = checked
        if token is None:
            return _unknown("this token is not known")
        if trouble:
            return _unknown(f"this token is {trouble}", token.name)
        tokens, sessions = self._access.tokens, self._access.sessions
        return Caller(
            token.name,
            token.least,
            lambda: not tokens.of(token.id).trouble and (not session or sessions.holds(session)),
            session,
        )

    # --- what is written down ---

    async def _written(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        asked: _Asked,
        headers: Mapping[str, list[str]],
    ) -> None:
        """Pass a request on, with a line before it where it changes something and one after."""
        caller: Caller = scope[CALLER]
        purpose, case = _why(headers, caller)
        act, role, peer = asked.rule.act, caller.role.word, peer_of(scope)
        entry = Entry(act, caller.name, role, asked.what, 0, peer, purpose, case)
        watching = (caller.name, asked.path, purpose, case) if act == "watch" else None
        if watching and time.monotonic() - self._watched.get(watching, -WATCH_S) < WATCH_S:
            await self._app(scope, receive, send)
            return
        if act in BEFORE and not await self._append(entry, durable=True):
            await answer(send, 503, "the audit log cannot be written: nothing was done")
            return
        failed = False

        async def tell(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start":
                status = message["status"]
                who: Caller = scope[CALLER]  # a log-in has said who by now
                said = replace(entry, who=who.name, role=who.role.word, answer=status)
                if act == "login" and status >= 400:
                    await self._note(scope, asked, _Refusal(status, "no log-in", who.name))
                elif not await self._append(said):
                    failed = True
                    await answer(send, 503, "the audit log cannot be written")
                elif watching and status < 400:  # not before: a line that is not there tells none
                    if len(self._watched) > WATCHED_MAX:
                        self._watched.clear()
                    self._watched[watching] = time.monotonic()
            if not failed:
                await send(message)

        await self._app(scope, receive, tell)

    async def _append(self, entry: Entry, *, durable: bool = False) -> bool:
        loop, audit = asyncio.get_running_loop(), self._access.audit
        try:
            await loop.run_in_executor(None, lambda: audit.append(entry, durable=durable))
        except OSError as error:
            self._access.metrics.audit_failures.inc()
            _log.error("audit log: %s", error.strerror or error)
            return False
        return True

    async def _refuse(self, scope: Scope, send: Send, asked: _Asked, refusal: _Refusal) -> None:
        await self._note(scope, asked, refusal)
        await answer(send, refusal.status, refusal.reason, refusal.headers)

    async def _note(self, scope: Scope, asked: _Asked, refusal: _Refusal) -> None:
        """Count a refusal and write it down; of a flood of them only the number."""
        self._access.metrics.refused.labels(str(refusal.status)).inc()
        if self._listed.take(refusal.who):
            self._unlisted[refusal.who] = self._unlisted.get(refusal.who, 0) + 1
            return
        what, more = f"{asked.method} {asked.what}", self._unlisted.pop(refusal.who, 0)
        if more:
            what += f", after {more} more that are not listed"
        await self._append(
            Entry("refused", refusal.who, refusal.role, what, refusal.status, peer_of(scope))
        )


PUBLIC = Caller(NOBODY, Role.VIEWER, lambda: True)
"""Who asks for what is nobody's."""


def _unknown(reason: str, who: str = NOBODY) -> _Refusal:
    return _Refusal(401, reason, who, "", ((b"www-authenticate", b"Bearer"),))


def _why(headers: Mapping[str, list[str]], caller: Caller) -> tuple[str, str]:
    """Purpose and case: of the request, else of the session."""
    held = caller.session
    said = []
    for name, kept in ((PURPOSE, held.purpose if held else ""), (CASE, held.case if held else "")):
        given = plain(only(headers, name).encode("latin-1").decode("utf-8", "replace")).strip()
        said.append((given or plain(kept).strip())[:PURPOSE_MAX])
    return said[0], said[1]


def _ids(path: str, given: Mapping[str, Any]) -> str:
    """A route's path with the values that can be public ids; nothing else that was typed."""
    for name, value in given.items():
        if path.endswith(f"{{{name}}}") or f"{{{name}}}/" in path:
            form = _IDENTITY if name == "identity" else IDENTIFIER
            text = str(value) if form.fullmatch(str(value)) else "?"
            path = path.replace(f"{{{name}}}", text)
    return path
