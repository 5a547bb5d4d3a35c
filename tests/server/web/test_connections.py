"""The HTTP server's connections, on a real socket in one process: bounded, and never all taken."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

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

    def __init__(self, limit: int, **patience: float) -> None:
        self.metrics = Metrics()
        self.connections = Connections(limit, self.metrics, **patience)
        self._sockets: list[socket.socket] = []

    def play(self, scene: Callable[["Rig"], Awaitable[None]]) -> None:
        async def run() -> None:
            http = make_http(api, self.connections)
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
