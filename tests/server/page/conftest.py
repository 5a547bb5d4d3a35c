"""A browser, and a server with canned answers for it."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from canned import LINK, OPEN, TOKEN
from chromium import Browser, chromium

PAGE = Path(__file__).resolve().parents[3] / "server" / "skyreid" / "server" / "page"
START_NS = 1_700_000_000_000_000_000
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
CSP = (
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'"
)


def jpeg(view: str) -> bytes:
    """A picture of somebody, as small as a device sends it."""
    height, width = (48, 36) if view == "aerial" else (128, 64)
    picture = np.full((height, width, 3), 90, np.uint8)
    cv2.ellipse(
        picture, (width // 2, height // 2), (width // 4, height // 3), 0, 0, 360, (40, 60, 200), -1
    )
    return bytes(cv2.imencode(".jpg", picture)[1])


class FakeServer:
    """Serves the page's files and whatever ``answers`` says; ``tell`` sends an event."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        self.pictures = "always"
        self.notice = ""
        self.sightings: list[dict[str, Any]] = []
        self.devices = [
            {
                "device": f"dev-{camera}",
                "camera": camera,
                "view": view,
                "status": "online",
                "health": {"fps": 8.0, "dropped": {"quality": 3}},
                "watermark_ns": START_NS,
                "last_message_at_ns": time.time_ns(),
            }
            for camera, view in (("cam1", "aerial"), ("cam6", "ground"))
        ]
        self.cameras = [
            {"id": "cam1", "view": "aerial", "position": {"east_m": -12.0, "north_m": 4.0}},
            {"id": "cam6", "view": "ground", "position": {"east_m": 9.0, "north_m": -14.0}},
        ]
        self.ready = {
            "ready": True,
            "broker_connected": True,
            "journal_writable": True,
            "sightings": 40,
        }
        self.asked: list[str] = []
        self.session: dict[str, Any] | None = OPEN
        """Who is logged in; None: nobody, and `TOKEN` and `LINK` log in as ``offered``."""
        self.offered = OPEN | {
            "name": "ana", "role": "operator", "open": False, "csrf": "a-word",
            "until": "2026-11-30T12:00:00+00:00",
        }  # fmt: skip
        self.changed: list[tuple[str, str, Any, str]] = []
        """What was asked to change: method, path, body, the word against forged requests."""
        self.undone: dict[str, Any] = {}
        """The identity as it is once its return is undone."""
        self.undo_status = 200
        self._streams: list[queue.Queue[str | None]] = []
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                owner.answer(self)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                owner.change(self, body, self.headers.get("Skyreid-CSRF") or "")

            do_PUT = do_DELETE = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Go away; ``start`` comes back at the same address."""
        if self._server is None:
            return
        self.end_streams()
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def end_streams(self) -> None:
        """As a server does with those of a log-in that holds no more."""
        for stream in self._streams:
            stream.put(None)
        self._streams.clear()

    def tell(self, event: str, data: dict[str, Any]) -> None:
        for stream in self._streams:
            stream.put(f"event: {event}\ndata: {json.dumps(data)}\n\n")

    def listeners(self) -> int:
        return len(self._streams)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.session is None and path.startswith(("/v1/", "/readyz")):
                _send(request, 401, "application/json", b'{"reason": "log in"}')
            elif path == "/v1/events":
                self._stream(request)
            elif path.startswith("/v1/pictures/"):
                view = "aerial" if "/cam1/" in path else "ground"
                _send(request, 200, "image/jpeg", self.picture(path, view))
            elif path.startswith(("/v1/", "/readyz")):
                found = self._json(path)
                body = json.dumps({"detail": "none"} if found is None else found).encode()
                _send(request, 404 if found is None else 200, "application/json", body)
            else:
                file = PAGE / ("index.html" if path == "/" else path.removeprefix("/page/"))
                if file.is_file():
                    _send(request, 200, TYPES[file.suffix], file.read_bytes())
                else:
                    _send(request, 404, "text/plain", b"no such file")

    def change(self, request: BaseHTTPRequestHandler, body: Any, word: str) -> None:
        self.changed.append((request.command, request.path, body, word))
        status = 200
        if request.command == "DELETE":
            self.session = None
        elif request.command == "PUT" and self.session is not None:
            self.session = self.session | body
        elif request.path.endswith("/return/undo"):
            _send(request, self.undo_status, "application/json", json.dumps(self.undone).encode())
            return
        elif body in ({"token": TOKEN}, {"link": LINK}):
            self.session = self.offered
        else:
            status = 401
        said = self.session if status == 200 else {"reason": "this token is unknown"}
        _send(request, status, "application/json", json.dumps(said).encode())

    def picture(self, path: str, view: str) -> bytes:
        return jpeg(view)

    def _json(self, path: str) -> Any:
        if path == "/v1/session":
            return self.session
        if path == "/v1/site":
            site = {"site": "plaza", "pictures": self.pictures, "time_zone": "Europe/Berlin"}
            site["notice"] = self.notice
            return {**site, "cameras": self.cameras, "generated_at_ns": time.time_ns()}
        if path == "/v1/identities":
            return {"identities": list(self.people.values()), "total": len(self.people)}
        if path.startswith("/v1/identities/"):
            return self.people.get(path.rsplit("/", 1)[1])
        if path == "/v1/sightings":
            return {"sightings": self.sightings}
        if path == "/v1/devices":
            return {"devices": self.devices}
        return self.ready if path == "/readyz" else None

    def _stream(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        request.wfile.write(b": hello\n\n")
        mine: queue.Queue[str | None] = queue.Queue()
        self._streams.append(mine)
        while (text := mine.get()) is not None:
            request.wfile.write(text.encode())
            request.wfile.flush()
        request.close_connection = True


def _send(request: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Content-Security-Policy", CSP)
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()


@pytest.fixture
def browser(opened: Browser) -> Iterator[Browser]:
    opened.resize(1280, 800)
    opened.scheme("dark")
    opened.log("browser")
    opened.log("performance")
    yield opened
    opened.open("about:blank")  # closes the event stream, so that the server can stop
