"""Whose process asks from this machine: a proxy's connection is on loopback, too."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from small_site import Served

from skyreid.server.counters import Metrics
from skyreid.server.web.connections import Connections, make_http
from skyreid.server.web.neighbour import user_of

NOBODY = 65534


@pytest.mark.parametrize(
    ("family", "to"),
    [
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "127.0.0.1"),  # as ::ffff:127.0.0.1
    ],
)
def test_the_other_end_is_this_process(family: socket.AddressFamily, to: str) -> None:
    dual = family == socket.AF_INET6
    anywhere = ("::" if dual else "127.0.0.1", 0)
    with socket.create_server(anywhere, family=family, dualstack_ipv6=dual) as listening:
        asks = socket.create_connection((to, listening.getsockname()[1]))
        served, _ = listening.accept()
        with closing(asks), closing(served):
            there, here = served.getpeername()[:2], served.getsockname()[:2]
            assert user_of(there, here) == os.geteuid()
            assert user_of(there, (here[0], here[1] ^ 1)) is None
    assert user_of(there, here) is None  # nobody is there any more


def test_a_row_of_another_user_is_read_and_what_is_no_row_is_nobodys(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    row = "   0: 0100007F:{} 0100007F:1F90 {} 00000000:00000000 00:00000000 00000000 {} 0 77 1\n"
    table = row.format("C001", "06", 0) + row.format("C001", "01", 33) + row.format("C002", "06", 0)
    (tmp_path / "tcp").write_text(head + table)
    (tmp_path / "tcp6").write_text(head + "nothing of the kind\n")
    assert user_of(("127.0.0.1", 0xC001), ("127.0.0.1", 0x1F90), tmp_path) == 33
    assert user_of(("127.0.0.1", 0xC002), ("127.0.0.1", 0x1F90), tmp_path) is None
    assert user_of(("127.0.0.1", 0xC001), ("127.0.0.1", 0x1F90), tmp_path / "missing") is None


@contextmanager
def listening_at(small: Served) -> Iterator[tuple[str, int]]:
    """The small site on a real socket."""
    http = make_http(small.served, Connections(9, Metrics()))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=http.run, args=([listening],))
        thread.start()
        yield listening.getsockname()
        http.should_exit = True
        thread.join()


def answer(asks: socket.socket, version: str) -> str:
    asks.sendall(f"GET /v1/site HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return asks.makefile("rb").readline().decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user takes root")
def test_a_proxy_that_says_nothing_is_not_the_servers_user(serve: object) -> None:
    """nginx hands on as itself, without a word of who asked it."""
    small: Served = serve()  # type: ignore[operator]
    with listening_at(small) as address:
        assert httpx.get(f"http://127.0.0.1:{address[1]}/v1/site").status_code == 200
        os.seteuid(NOBODY)
        try:
            asks = socket.create_connection(address)
        finally:
            os.seteuid(0)
        with closing(asks):
            assert " 401 " in answer(asks, "1.1")
        with closing(socket.create_connection(address)) as asks:  # as nginx's proxy_pass does
            assert " 401 " in answer(asks, "1.0")
        assert [line["answer"] for line in small.lines()] == [401, 401]
