"""Who may ask: under which name of the server, from which page; and the headers of each answer.

A page of somebody else's in an operator's browser must get nothing, logged in or not. It reaches a
server on loopback in two ways. It gives its own name our address (DNS rebinding): then
the request names a host that is not ours. Or it asks across origins: then the browser says so
(Origin, and Fetch Metadata, https://www.w3.org/TR/fetch-metadata/).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = [
    # The page needs nothing from elsewhere and may not be framed by anybody.
    (
        b"content-security-policy",
        b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        b"object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

Refused = Callable[["Scope", int, str], Awaitable[None]]
"""Request, status, reason."""


async def _untold(_: Scope, _status: int, _reason: str) -> None:
    return None


class Guard:
    """ASGI middleware: refuses foreign hosts and origins; streams pass through unbuffered."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = (), refused: Refused = _untold) -> None:
        """``names`` are host names of the server, beside ``localhost`` and every IP address.

        An address is no danger: a page that rebinds a name sends that name. ``refused`` is told of
        each refusal.
        """
        self._app, self._refused = app, refused
        self._names = frozenset(name.lower() for name in names) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 or 403, or pass the request on."""

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refused = self._refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, add_headers)
            return
        status, reason = refused
        await self._refused(scope, status, reason)
        body = json.dumps({"reason": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await add_headers({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        given: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name, []).append(value.decode("latin-1"))
        hosts = given.get(b"host", [])
        if len(hosts) != 1 or not self._ours(_name_of(hosts[0])):
            return (
                421,
                "this host is none of the server's names; http.names in its settings has them",
            )
        for origin in given.get(b"origin", []):
            there = _netloc_of(origin)
            if there != hosts[0].lower() and _name_of(there) not in self._names - {"localhost"}:
                return 403, "a page of another origin may not ask"
        # What a person follows from elsewhere opens; what a page loads from here does not.
        site, mode = given.get(b"sec-fetch-site", []), given.get(b"sec-fetch-mode", [])
        if "cross-site" in site and mode != ["navigate"]:
            return 403, "a page of another site may not ask"
        return None

    def _ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _name_of(host: str) -> str:
    """The host of ``host[:port]``, lower case, without brackets and without a root's dot."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        name = host
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1].lower()
    return "" if ":" in name else name.lower().removesuffix(".")


def _netloc_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
