"""One sighting from frame to page: device and server in one process, only MQTT left out.

Follows which of our files have a function executed while sightings are made, delivered, stored,
matched and shown, after the first dozen has passed. The drawing in docs/design.md names them.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from skyreid.contract import topics
from skyreid.contract.broker import Trouble
from skyreid.contract.receipt import decode_receipt
from skyreid.contract.site import read_site
from skyreid.edge import app as edge
from skyreid.edge.config import EdgeSettings
from skyreid.edge.delivery.connection import Event, Received, Up
from skyreid.server import app as server
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.ingest import Queue
from skyreid.server.broker.outbox import Outbox
from skyreid.server.config import ServerSettings
from skyreid.server.counters import Metrics
from skyreid.server.live import Hub
from skyreid.server.store.journal import Journal
from skyreid.server.web.answers import Lookup, ShownSite
from skyreid.server.web.api import make_api

ROOT = Path(__file__).parents[2]
ROOMS = ("contract", "bundle", "train", "export", "edge", "server")
FILES_MAX = 46
"""It may fall and not rise: 40 is where it should be."""
SHAPES_MAX = 5
BOTH_ENDS_OF_MQTT = {"edge/delivery/connection.py", "server/broker/ingest.py"}
WARM = 12
"""Sightings after which everything that is made once has been made."""


class Trace:
    """Which of our files run, in every thread that begins after it is made."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.on = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if self.on and event == "call":
            self.files.add(frame.f_code.co_filename)

    @property
    def ours(self) -> set[str]:
        """As ``edge/people/tracker.py``, without the namespace's folders."""
        found = set()
        for name in self.files:
            for room in ROOMS:
                folder = ROOT / room / "skyreid" / room
                if name.startswith(f"{folder}/"):
                    found.add(f"{room}/{Path(name).relative_to(folder)}")
        return found

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


class Server:
    """The server on a journal; what it publishes is handed to ``tell``."""

    def __init__(self, folder: Path, tell: Callable[[str, bytes], None]) -> None:
        settings = ServerSettings.model_validate(
            {
                "site": folder / "site.toml",
                "journal": {"path": folder / "journal.sqlite", "batch_wait_ms": 0},
                # On a busy machine 10 ms pass within a step, and everything would be settled there.
                "matching": {"stall_s": 30.0, "period_s": 1e-6},
                "mqtt": {"replayed": True},  # no retention, which sweeps beside a sighting's way
                "people": {"returns": False},  # nor who had been here: asked later, of identities
            }
        )
        self.site, self._tell, self._count = read_site(settings.site), tell, 0
        self.journal = Journal(settings.journal.path, self.site.id, pictures_max_bytes=1)
        self.queue, hub, metrics = Queue(1000, 10**8), Hub(4), Metrics()
        outbox = Outbox(self.journal, self.site.id, lambda topic, body: self._publish(topic, body))
        self.writer = server.make_writer(
            settings, self.site, self.journal, self.queue, self, outbox, hub, metrics  # type: ignore[arg-type]
        )  # fmt: skip
        lookup = Lookup(settings.journal.path, ShownSite.of(self.site))
        self._api = make_api(self.writer, lookup, hub, metrics)

    connected = True

    def acknowledge(self, messages: Sequence[Message]) -> None:
        pass

    def publish(self, topic: str, payload: bytes, **_: object) -> int:
        return self._publish(topic, payload)

    def _publish(self, topic: str, payload: Any) -> int:
        self._tell(topic, payload)
        self._count += 1
        return self._count

    def take(self, topic: str, payload: bytes) -> None:
        self.queue.put(Message(topic, payload, {}, time.time_ns(), 1, 1))
        self.writer.step(0.0)

    def page(self) -> dict[str, Any]:
        """What the page asks for."""
        import httpx

        async def ask() -> dict[str, Any]:
            transport = httpx.ASGITransport(app=self._api)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:
                answer: dict[str, Any] = (await web.get("/v1/identities")).json()
                return answer

        return asyncio.run(ask())


class Link:
    """Stands for publisher, broker and ingest: what the device sends is with the server at once."""

    def __init__(self, folder: Path, trace: Trace) -> None:
        self._trace = trace
        self.server = Server(folder, self._told)
        self.notify: Callable[[Event], None] = lambda event: None
        self.shown: dict[str, Any] = {}
        self._ended = False

    def start(self, _: object, notify: Callable[[Event], None]) -> None:
        self.notify = notify
        notify(Up(self))

    def stop(self) -> None:
        self._trace.on = False

    unacknowledged_max = 1_000_000
    state, troubles = "connected", Counter[str]()

    def room(self, channel: Any, properties: object = None) -> int:
        return 1 << 20

    def hang_up(self, why: Trouble) -> None:
        raise AssertionError(why)

    complain = hang_up

    def send(self, channel: Any, payload: bytes, **_: object) -> int:
        if channel == "sightings":
            self.server.take(topics.device("plaza", "dev6", channel), payload)
            stored = self.server.writer.stored
            self._trace.on = WARM <= stored < 2 * WARM
            if self._trace.on:
                self.shown = self.server.page()
            elif stored >= 2 * WARM and not self._ended:
                self._ended = True
                signal.raise_signal(signal.SIGTERM)  # the device's own way to end
        return 1

    def _told(self, topic: str, payload: bytes) -> None:
        if topic == topics.command("plaza", "dev6", "receipt"):
            self.notify(Received(decode_receipt(payload)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    calibration = ROOT / "examples" / "clip" / "calib.json"
    (tmp_path / "site.toml").write_text(
        f'id = "plaza"\n[[camera]]\nid = "cam6"\nview = "ground"\nposes = "{calibration}"\n'
    )
    return tmp_path


def drawn() -> tuple[set[str], list[str]]:
    """Files and shapes that the drawing in docs/design.md names."""
    page = (ROOT / "docs" / "design.md").read_text()
    drawing = page.split("## A sighting's life")[1].split("\n## ")[0]
    files = set(
        re.findall(r"\b((?:contract|bundle|edge|server)/[\w/]+\.py)\b", drawing.split("```")[1])
    )
    return files, re.findall(r"^\d\. \*\*(.+?)\*\*", drawing, re.MULTILINE)


def test_one_sighting_passes_few_files_and_the_drawing_names_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gi")
    trace = Trace()
    link = Link(folder, trace)
    monkeypatch.setattr(edge, "_publisher", lambda plan: link)
    bundles = ROOT / "examples" / "bundle"
    settings = EdgeSettings.model_validate(
        {
            "site": folder / "site.toml",
            "device": {"id": "dev6"},
            "camera": {
                "id": "cam6",
                "source": str(ROOT / "examples" / "clip" / "cam6.mp4"),
                "file_start_ns": 1_700_000_000_000_000_000,
            },
            "detector": {"model": bundles / "detector"},
            "embedder": {"bundles": [bundles / "vdt-tiny"]},
            "spool": {"path": folder / "spool.db"},
            "health": {"period_s": 1e6},
        }
    )
    plan = edge.plan(settings, settings_directory=folder)
    with trace.everywhere():
        assert edge.run(plan, progress=False) == 0
    assert link.server.writer.stored >= 2 * WARM
    assert link.shown["total"] >= 2
    link.server.journal.close()
    files, shapes = drawn()
    passed = trace.ours | BOTH_ENDS_OF_MQTT
    assert sorted(passed - files) == []
    assert sorted(files - passed) == []
    assert len(passed) <= FILES_MAX
    assert len(shapes) <= SHAPES_MAX
