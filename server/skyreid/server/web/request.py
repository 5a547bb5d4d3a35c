"""A request as the gate reads it, before any framework: headers, cookie, peer, a bounded body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from skyreid.server.web.neighbour import is_ours

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

BODY_MAX_BYTES = 8_192
BODY_S = 10.0
"""A body that has not come after so long is given up."""
USER = "skyreid.user"
"""In a connection's state: a function that says whose process is at the other end."""
_OF_PROXIES = frozenset(
    ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
)


def headers_of(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def only(headers: Mapping[str, list[str]], name: str) -> str:
    given = headers.get(name, [])
    # Spaces of HTTP alone: of UTF-8 read as Latin-1, other "spaces" are half a letter.
    return given[0].strip(" \t") if len(given) == 1 else ""


def cookie_of(headers: Mapping[str, list[str]], name: str) -> str:
    """The value of a cookie; "" where there is none, or more than one."""
    pairs = [part.partition("=") for row in headers.get("cookie", []) for part in row.split(";")]
    found = [value.strip() for key, _, value in pairs if key.strip() == name]
    return found[0] if len(found) == 1 else ""


def peer_of(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def is_this_machine(scope: Scope, headers: Mapping[str, list[str]]) -> bool:
    """Whether who asks is here, as the server's own user.

    A proxy here asks for whoever asks it. It says so, or speaks HTTP 1.0 as nginx does by itself,
    or is another user's; what passes for us in spite of all that our own user has started.
    """
    try:
        near = ip_address(peer_of(scope)).is_loopback
    except ValueError:
        return False
    if not near or headers.keys() & _OF_PROXIES or scope["http_version"] == "1.0":
        return False
    user: Callable[[], int | None] | None = scope.get("state", {}).get(USER)
    return user is not None and is_ours(user())


async def body_of(receive: Receive) -> bytes | None:
    """A whole body; None where it is too large or does not come."""
    got = b""

    async def read() -> bool:
        nonlocal got
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            got += message.get("body", b"")
            if len(got) > BODY_MAX_BYTES:
                return False
            if not message.get("more_body", False):
                return True

    try:
        return got if await asyncio.wait_for(read(), BODY_S) else None
    except asyncio.TimeoutError:
        return None


def again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def answer(
    send: Send, status: int, reason: str, more: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    body = json.dumps({"reason": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})
