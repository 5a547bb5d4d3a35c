"""Sightings to send, a real mosquitto on a free loopback port, the server as a process."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_life import Life
from ports import free_port, listens

from skyreid.contract import topics
from skyreid.contract.receipt import Receipt, decode_receipt
from skyreid.contract.sighting import (
    Box,
    Clock,
    Ground,
    Kind,
    Lane,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import encode_batch

START_NS = 1_700_000_000_000_000_000
DIM = 16
SITE_TOML = """
id = "plaza"
pictures = "{pictures}"
[[camera]]
id = "cam1"
view = "aerial"
[[camera]]
id = "cam6"
view = "ground"
"""


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 200.0) -> Any:
    """Poll for something true; the limit only ends a test that has failed, it asserts no speed."""
    end = time.monotonic() + timeout_s
    while not (got := condition()):
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return got


class Make:
    """Builds sightings and batches; ``person`` chooses the embedding."""

    start_ns = START_NS
    model = ModelRef("0123456789abcdef", DIM, "ab" * 32, "tiny")

    @staticmethod
    def sighting(seq: int = 1, **changes: Any) -> Sighting:
        person = changes.pop("person", 0)
        at_s = changes.pop("at_s", 1.0)
        vector = np.random.default_rng(person).normal(size=DIM).astype(np.float32)
        whole = Sighting(
            seq=seq,
            camera="cam1",
            view=View.AERIAL,
            track=seq,
            revision=0,
            kind=Kind.END,
            first_seen_ns=START_NS,
            captured_at_ns=START_NS + int(at_s * 1e9),
            clock=Clock.FILE,
            clock_error_ms=0,
            box=Box(10, 20, 30, 80, 1280, 720),
            quality=0.8,
            crops=4,
            embedding=vector / np.linalg.norm(vector),
            spread=0.9,
            ground=Ground(1.0, 2.0, 0.1, 0.0, 0.1),
        )
        if changes.get("camera") == "cam6":
            changes.setdefault("view", View.GROUND)
        return dataclasses.replace(whole, **changes)

    @classmethod
    def batch(cls, sightings: Sequence[Sighting], **changes: Any) -> SightingBatch:
        whole = SightingBatch(
            site="plaza",
            device="uav1",
            boot="1-abcd",
            lane=Lane.LIVE,
            sent_at_ns=START_NS,
            model=cls.model,
            sightings=tuple(sightings),
        )
        return dataclasses.replace(whole, **changes)

    def payload(self, sightings: Sequence[Sighting], **changes: Any) -> bytes:
        return encode_batch(self.batch(sightings, **changes))


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def wait() -> Callable[..., Any]:
    return wait_for


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE_TOML.format(pictures="always"))
    return path


class Mosquitto:
    """A broker with the shipped settings, on a port of its own."""

    def __init__(self, directory: Path, shipped: Path) -> None:
        self.port = free_port()
        self._directory = directory
        directory.mkdir()
        text = shipped.read_text().replace("listener 1883 ", f"listener {self.port} ")
        text = text.replace("sys_interval 5", "sys_interval 1")
        if os.geteuid() == 0:  # Debian's drops to a user that may not write here
            text += "\nuser root\n"
        (directory / "mosquitto.conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed")
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", "mosquitto.conf"], cwd=self._directory, stdout=log, stderr=log
            )
        wait_for("mosquitto listens", lambda: listens(self.port))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def mosquitto(tmp_path: Path, repository: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "mosquitto", repository / "docker" / "mosquitto.conf")
    broker.start()
    yield broker
    broker.kill()


class FakeDevice:
    """A client that speaks as a device and remembers what it is told."""

    def __init__(self, port: int, device: str, extra: Sequence[str] = ()) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self.device = device
        self.receipts: list[Receipt] = []
        self.heard: list[tuple[str, bytes, dict[str, str]]] = []
        self._filters = [topics.command("plaza", device, "receipt"), *extra]
        self._granted = False
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=device, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_connect = lambda c, *_: c.subscribe([(f, 1) for f in self._filters])
        self._client.on_subscribe = lambda *_: setattr(self, "_granted", True)
        self._client.on_message = lambda _c, _d, message: self._take(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for("the device is connected", lambda: self._granted)

    def send(self, channel: Any, payload: bytes, **user: str) -> None:
        """Publish and wait until the broker has it."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.PUBLISH)
        if user:
            properties.UserProperty = list(user.items())
        retain = channel in ("status", "birth")
        topic = topics.device("plaza", self.device, channel)
        told = self._client.publish(topic, payload, 1, retain, properties)
        told.wait_for_publish(200)

    def received(self) -> set[tuple[str, int, int]]:
        """(boot, seq, status) of every receipt so far."""
        return {
            (receipt.boot, seq, int(r.status))
            for receipt in self.receipts
            for r in receipt.ranges
            for seq in range(r.first, r.last + 1)
        }

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, message: Any) -> None:
        if message.topic == self._filters[0]:
            self.receipts.append(decode_receipt(message.payload))
        else:
            pairs = getattr(message.properties, "UserProperty", ())
            self.heard.append((message.topic, message.payload, dict(pairs)))


@pytest.fixture
def device(mosquitto: Mosquitto) -> Iterator[Callable[..., FakeDevice]]:
    made: list[FakeDevice] = []

    def connect(name: str = "uav1", extra: Sequence[str] = ()) -> FakeDevice:
        made.append(FakeDevice(mosquitto.port, name, extra))
        return made[-1]

    yield connect
    for client in made:
        client.close()


class ServerProcess:
    """``skyreid-server run`` as its users start it."""

    def __init__(self, directory: Path, site: Path, broker_port: int) -> None:
        self.directory = directory
        self.journal = directory / "journal.sqlite"
        self.settings = directory / "server.toml"
        self.log = directory / "server.log"
        self._address_file = directory / "address.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.settings.write_text(
            f'site = "{site}"\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker_port}"\n'
            '[journal]\npath = "journal.sqlite"\n'
            '[http]\nport = 0\naddress_file = "address.txt"\n'
            "[matching]\nstall_s = 1.0\nperiod_s = 0.05\n"
        )

    def start(self, *options: str, ready: bool = True) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "skyreid.server", "run", str(self.settings), *options],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        wait_for("the server answers", self._answers)
        if ready:
            wait_for("the server is ready", lambda: self.get("/readyz").json()["ready"])

    def get(self, path: str) -> Any:
        import httpx

        return httpx.get(self._address_file.read_text().strip() + path, timeout=30)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._address_file.unlink(missing_ok=True)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(200)
        self._process = None
        return code

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        return self._address_file.is_file()


@pytest.fixture
def server(tmp_path: Path, site_file: Path, mosquitto: Mosquitto) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path, site_file, mosquitto.port)
    yield process
    process.kill()


@pytest.fixture
def life(tmp_path: Path, site_file: Path) -> Iterator[Callable[..., Life]]:
    """Begins a life of a server without processes and sockets; the one before ends with it."""
    made: list[Life] = []

    def begin(**matching: Any) -> Life:
        for old in made:
            old.journal.close()
        made.append(Life(tmp_path, **matching))
        return made[-1]

    yield begin
    for old in made:
        old.journal.close()
