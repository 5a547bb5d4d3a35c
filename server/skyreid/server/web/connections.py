"""The connections of the HTTP server, bounded in number and in patience.

Each costs a file descriptor, and without descriptors neither the broker's socket nor the journal
can be opened. So there are fewer connections than descriptors, with a reserve; who sends no whole
request in time, or does not read its answer, is cut off; and where all places are taken the longest
silent connection gives way, so that holding places keeps nobody out.
"""

from __future__ import annotations

import asyncio
import resource
import time
from asyncio.sslproto import SSLProtocol
from functools import cache
from typing import TYPE_CHECKING, Any

from skyreid.contract.errors import SettingsError
from skyreid.server.counters import Metrics
from skyreid.server.web.neighbour import user_of
from skyreid.server.web.request import USER

if TYPE_CHECKING:
    import ssl

    import uvicorn
    from starlette.types import ASGIApp, Receive, Scope, Send

BACKLOG = 32
"""Connections that the kernel holds for us. asyncio accepts so many before it looks at any."""
RESERVED_FILES = 320
"""Descriptors left for everything else: 40 threads that read a journal (3 each), four rounds of
accepting, and some for the broker, the writer, the pages and the log."""
REQUEST_S = 10.0
"""A connection without a whole request for so long is closed: a new one, or one kept alive."""
UNREAD_S = 20.0
"""An answer of which nothing could be sent for so long is given up."""
_SWEEP_S = 1.0
_HEADER_MAX_BYTES = 16_384

Peer = tuple[str, int]


def connections_within(wanted: int, descriptors: int) -> int:
    """How many connections there may be where a process may have so many open files.

    Raises:
        SettingsError: none.
    """
    room = descriptors - RESERVED_FILES
    if room < 1:
        raise SettingsError(
            f"this process may open {descriptors} files, {RESERVED_FILES} are needed beside the "
            "connections of the API: raise the limit (ulimit -n, LimitNOFILE=1024)"
        )
    return min(wanted, room)


def descriptors() -> int:
    """How many files this process may open: the soft RLIMIT_NOFILE."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 31 if soft == resource.RLIM_INFINITY else soft


class Connections:
    """Who is connected. Belongs to the event loop of the HTTP server."""

    def __init__(
        self,
        limit: int,
        metrics: Metrics,
        *,
        request_s: float = REQUEST_S,
        unread_s: float = UNREAD_S,
    ) -> None:
        """``limit`` connections at once; the times are seconds of patience, see the constants."""
        self.limit = limit
        self._metrics, self._request_s, self._unread_s = metrics, request_s, unread_s
        # Both by peer; the first in the order in which they began to wait.
        self._waiting: dict[Peer, tuple[asyncio.Transport, float]] = {}
        self._serving: dict[Peer, asyncio.Transport] = {}
        self._unread: dict[Peer, tuple[asyncio.Transport, float]] = {}
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._serving)

    def opened(self, transport: asyncio.Transport) -> None:
        """Somebody connected: the longest silent one makes room, or nobody can."""
        if len(self) >= self.limit:
            if not self._waiting:
                self._cut(transport, "full")
                return
            silent, (oldest, _since) = next(iter(self._waiting.items()))
            del self._waiting[silent]
            self._cut(oldest, "full")
        self._waiting[_peer(transport)] = transport, time.monotonic()
        self._count()
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def closed(self, transport: asyncio.Transport) -> None:
        """A connection ended."""
        peer = _peer(transport)
        for held in (self._waiting, self._unread):
            if peer in held and held[peer][0] is transport:
                del held[peer]
        if self._serving.get(peer) is transport:
            del self._serving[peer]
        self._count()

    def begins(self, peer: Peer) -> None:
        """A whole request came."""
        if peer in self._waiting:
            self._serving[peer] = self._waiting.pop(peer)[0]

    def ends(self, peer: Peer) -> None:
        """Its answer is made; perhaps another request follows."""
        if peer in self._serving:
            self._waiting[peer] = self._serving.pop(peer), time.monotonic()

    def unread(self, transport: asyncio.Transport, *, full: bool) -> None:
        """The peer does not read, and the buffer is full; or it is not any more."""
        if full:
            self._unread.setdefault(_peer(transport), (transport, time.monotonic()))
        else:
            self._unread.pop(_peer(transport), None)

    def _sweep(self) -> None:
        now = time.monotonic()
        for transport, since in list(self._waiting.values()):
            if now - since < self._request_s:
                break  # the others came later
            # The end of an answer may still be on its way: that has the longer patience.
            if not transport.get_write_buffer_size() or now - since >= self._unread_s:
                self._cut(transport, "silent")
        for transport, since in list(self._unread.values()):
            if now - since >= self._unread_s:
                self._cut(transport, "unread")
        self._sweeping = bool(len(self))
        if self._sweeping:
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _cut(self, transport: asyncio.Transport, reason: str) -> None:
        self._metrics.http_cut.labels(reason).inc()
        transport.abort()

    def _count(self) -> None:
        self._metrics.http_connections.set(len(self))


class Attended:
    """ASGI middleware that tells ``Connections`` which of them are being answered."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        """Wraps the whole application."""
        self._app, self._connections = app, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        peer = scope.get("client")
        if peer is None:
            await self._app(scope, receive, send)
            return
        self._connections.begins(tuple(peer))
        try:
            await self._app(scope, receive, send)
        finally:
            self._connections.ends(tuple(peer))


def make_http(
    app: ASGIApp, connections: Connections, *, tls: ssl.SSLContext | None = None
) -> uvicorn.Server:
    """The HTTP server of an application, which is behind its guard and its gate.

    Needs uvicorn. With ``tls`` it speaks TLS and nothing else; a connection counts from its first
    byte, not from the end of the handshake, for which it has as long as for a request.
    """
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Known(H11Protocol):  # type: ignore[misc]
        """uvicorn's protocol, whose requests can ask whose process is at the other end."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            ends, given = (self.client, self.server), self.app_state or {}
            user = cache(lambda: user_of(*ends) if all(ends) else None)
            self.app_state: dict[str, Any] = {**given, USER: user}

    class Bounded(Known):
        """With what asyncio tells it told to ``connections`` too."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            connections.opened(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            connections.unread(self.transport, full=True)

        def resume_writing(self) -> None:
            super().resume_writing()
            connections.unread(self.transport, full=False)

    class Handshaken(SSLProtocol):
        """asyncio's TLS, where it is the connection below that is counted."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._below = transport
            connections.opened(transport)
            super().connection_made(transport)

        def connection_lost(self, exc: BaseException | None) -> None:
            connections.closed(self._below)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            connections.unread(self._below, full=True)

        def resume_writing(self) -> None:
            super().resume_writing()
            connections.unread(self._below, full=False)

    def secured(**given: Any) -> asyncio.BaseProtocol:
        loop = asyncio.get_running_loop()
        assert tls is not None
        h11 = Known(**given)
        nobody: Any = None  # waits for the end of the handshake
        limit_s: Any = REQUEST_S
        return Handshaken(loop, h11, tls, nobody, True, None, True, limit_s)

    return uvicorn.Server(
        uvicorn.Config(
            Attended(app, connections),
            loop="asyncio",
            http=Bounded if tls is None else secured,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the peer is who is connected, whatever a header says
            backlog=BACKLOG,
            h11_max_incomplete_event_size=_HEADER_MAX_BYTES,
            timeout_graceful_shutdown=2,
        )
    )


def _peer(transport: asyncio.Transport) -> Peer:
    # Known to the transport after its socket is closed, too; None where it was gone at once.
    host, port = (transport.get_extra_info("peername") or ("", id(transport)))[:2]
    return str(host), int(port)
