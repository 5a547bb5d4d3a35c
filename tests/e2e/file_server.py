"""A file over TLS on loopback, from a server that can be told to misbehave."""

import os
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certificates import Authority

DATA = os.urandom(300_000)

Behaviour = Callable[[BaseHTTPRequestHandler, int], None]
"""How a request is answered, and the byte that it asks for first."""


class Server:
    """Serves `data` over TLS on loopback, as `behave` says for each request in turn."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder, "authority")
        certificate, key = authority.sign("server")
        self.authority = authority.ca
        self.data = DATA
        self.asked: list[str | None] = []
        self.behave: list[Behaviour] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                how = outer.behave.pop(0) if outer.behave else whole
                how(self, first)

            def log_message(self, *args: object) -> None:
                return

        def whole(handler: BaseHTTPRequestHandler, first: int) -> None:
            begin(handler, first, len(outer.data))
            handler.wfile.write(outer.data[first:])

        self._http = _Quiet(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.address = f"https://localhost:{self._http.server_port}/model.onnx"
        self.context = ssl.create_default_context(cafile=str(authority.ca))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def begin(handler: BaseHTTPRequestHandler, first: int, total: int) -> None:
    """The head of an answer that goes on from a byte."""
    handler.send_response(206 if first else 200)
    handler.send_header("Content-Length", str(total - first))
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
    handler.end_headers()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *about: object) -> None:
        """A client that hung up is what is tested."""


def cut(at: int, data: bytes = DATA) -> Behaviour:
    """Promise all, and hang up at a byte."""

    def how(handler: BaseHTTPRequestHandler, first: int) -> None:
        begin(handler, first, len(data))
        handler.wfile.write(data[first:at])

    return how
