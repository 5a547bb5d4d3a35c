"""The HTTP server's connections, on a real socket in one process: bounded, and never all taken."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority

from skyreid.contract.errors import SettingsError
from skyreid.server.counters import Metrics
from skyreid.server.web.connections import (
    RESERVED_FILES,
    Connections,
    connections_within,
    make_http,
)

HALF = b"GET / HTTP/1.1\r\nX-a: "
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
LONG = b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def api(scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/long":
        for _ in range(2000):
            piece = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
            await send(piece)
    await send({"type": "http.response.body", "body": b"fine"})


class Rig:
    """A served application, and who talks to it."""

    def __init__(self, limit: int, *, tls: ssl.SSLContext | None = None, **patience: float) -> None:
        self.metrics, self.tls = Metrics(), tls
        self.connections = Connections(limit, self.metrics, **patience)
        self._sockets: list[socket.socket] = []

    def play(self, scene: Callable[["Rig"], Awaitable[None]]) -> None:
        async def run() -> None:
            http = make_http(api, self.connections, tls=self.tls)
            listening = socket.create_server(("127.0.0.1", 0))
            self.address = listening.getsockname()
            http.install_signal_handlers = lambda: None
            served = asyncio.create_task(http._serve([listening]))
            while not http.started:
                await asyncio.sleep(0.01)
            try:
                await asyncio.wait_for(scene(self), 120)
            finally:
                for each in self._sockets:
                    each.close()
                http.should_exit = True
                await served

        asyncio.run(run())

    async def connect(self, first: bytes = b"") -> socket.socket:
        loop = asyncio.get_running_loop()
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.setblocking(False)
        self._sockets.append(made)
        await loop.sock_connect(made, self.address)
        await loop.sock_sendall(made, first)
        return made

    async def answer(self, of: socket.socket) -> bytes:
        """What comes, or nothing where the connection was cut."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.get_running_loop().sock_recv(of, 65536)
        return b""

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.01)

    def cut(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "skyreid_http_connections_cut_total", {"reason": reason}
        )
        return value or 0.0


def test_half_open_requests_that_take_every_place_keep_nobody_out() -> None:
    async def scene(rig: Rig) -> None:
        held = [await rig.connect(HALF) for _ in range(40)]
        await rig.until(lambda: rig.cut("full") == 32)
        assert len(rig.connections) == 8
        asking = await rig.connect(WHOLE)
        assert b"200 OK" in await rig.answer(asking)
        assert await rig.answer(held[0]) == b""  # the longest silent one gave way
        await rig.until(lambda: len(rig.connections) <= 8)

    Rig(8).play(scene)


def test_a_request_that_does_not_come_to_its_end_is_cut_off() -> None:
    async def scene(rig: Rig) -> None:
        half = await rig.connect(HALF)
        silent = await rig.connect()
        kept_alive = await rig.connect(WHOLE)
        assert b"200 OK" in await rig.answer(kept_alive)
        body = await rig.connect(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
        )
        assert b"200 OK" in await rig.answer(body)
        await rig.until(lambda: len(rig.connections) == 0)
        assert await rig.answer(half) == await rig.answer(silent) == b""
        assert rig.cut("silent") >= 3

    Rig(8, request_s=0.2).play(scene)


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async def scene(rig: Rig) -> None:
        await rig.connect(LONG)
        await rig.until(lambda: rig.cut("unread") == 1)
        await rig.until(lambda: len(rig.connections) == 0)

    Rig(8, unread_s=0.2).play(scene)


def test_who_is_answered_is_not_cut_for_another() -> None:
    async def scene(rig: Rig) -> None:
        busy = [await rig.connect(LONG) for _ in range(2)]
        await rig.until(lambda: len(rig.connections) == 2)
        for each in busy:
            assert b"200 OK" in await rig.answer(each)
        late = await rig.connect(WHOLE)
        assert await rig.answer(late) == b""
        assert rig.cut("full") == 1
        for each in busy:
            assert await rig.answer(each)

    Rig(2).play(scene)


def test_connections_leave_descriptors_for_broker_and_journal() -> None:
    assert connections_within(512, 1 << 20) == 512
    assert connections_within(512, 1024) == 512
    assert connections_within(1000, 1024) == 1024 - RESERVED_FILES
    with pytest.raises(SettingsError, match="LimitNOFILE=1024"):
        connections_within(8, RESERVED_FILES)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """What a server with a certificate of a test's own speaks with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "ca").sign("server"))
    return context


async def asked_over_tls(rig: Rig, trust: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(
        *rig.address, ssl=trust, server_hostname="localhost"
    )
    writer.write(WHOLE)
    got = await reader.read(4096)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return got


def test_handshakes_that_are_never_finished_keep_nobody_out(
    tls: ssl.SSLContext, tmp_path: Path
) -> None:
    trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")

    async def scene(rig: Rig) -> None:
        for _ in range(40):
            await rig.connect()  # not a byte of a handshake
        await rig.until(lambda: rig.cut("full") == 32)
        assert len(rig.connections) == 8
        assert b"200 OK" in await asked_over_tls(rig, trust)
        plain = await rig.connect(WHOLE)
        assert await rig.answer(plain) == b""

    Rig(8, tls=tls).play(scene)


def test_a_handshake_that_does_not_come_is_cut_off(tls: ssl.SSLContext) -> None:
    async def scene(rig: Rig) -> None:
        silent = [await rig.connect(first) for first in (b"", b"\x16\x03\x01")]
        await rig.until(lambda: rig.cut("silent") == 2)
        await rig.until(lambda: len(rig.connections) == 0)
        assert [await rig.answer(each) for each in silent] == [b"", b""]

    Rig(8, tls=tls, request_s=0.2).play(scene)


def test_an_answer_over_tls_that_nobody_reads_is_given_up(
    tls: ssl.SSLContext, tmp_path: Path
) -> None:
    trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")

    async def scene(rig: Rig) -> None:
        raw = await rig.connect()
        reader, writer = await asyncio.open_connection(
            sock=raw, ssl=trust, server_hostname="localhost", limit=4096
        )
        writer.write(LONG)
        assert await reader.read(100)
        await rig.until(lambda: rig.cut("unread") == 1)
        await rig.until(lambda: len(rig.connections) == 0)
        writer.transport.abort()

    Rig(8, tls=tls, unread_s=0.2).play(scene)
