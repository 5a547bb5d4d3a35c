"""What the server costs behind a real broker: mosquitto and ``skyreid-server run`` as processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from skyreid.contract import topics
from skyreid.contract.device import Birth, BirthCamera, Health, encode_birth, encode_health
from skyreid.contract.errors import InputError, PlatformError
from skyreid.contract.sighting import Lane
from skyreid.server.bench.load import A_MESSAGE, BOOT, CAMERA, MODEL, SITE, batches
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.promised import PROMISED
from skyreid.server.store.beside import read_keys

LIMIT_S = 600.0
ONE_CAMERA = {CAMERA: "ground"}
ASKS = 3
FLEET = 1_000
HEALTH_EVERY_S = 10.0
PAGE_ASKS_EVERY_S = 4.0
BROKER = f"""
listener {{port}} 127.0.0.1
allow_anonymous true
user root
{PROMISED}"""
SERVER = """
site = "site.toml"
[mqtt]
url = "mqtt://127.0.0.1:{port}"
[journal]
path = "journal.sqlite"
[http]
port = 0
address_file = "address.txt"
[devices]
messages_per_s = 1e6
max = 100000
"""


class Chain:
    """A broker and a server in a folder; both end with the ``with`` block."""

    def __init__(
        self, folder: Path, cameras: Mapping[str, str] = ONE_CAMERA, settings: str = ""
    ) -> None:
        """``cameras`` and the view of each are the site's; ``settings`` are some more."""
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise PlatformError("mosquitto is not installed; --without-broker measures the rest")
        self._folder, self._program = folder, program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._processes: list[subprocess.Popen[bytes]] = []
        listed = (f'[[camera]]\nid = "{c}"\nview = "{view}"\n' for c, view in cameras.items())
        (folder / "site.toml").write_text(f'id = "{SITE}"\n{"".join(listed)}')
        (folder / "server.toml").write_text(SERVER.format(port=self._port) + settings)
        (folder / "broker.conf").write_text(BROKER.format(port=self._port, folder=folder))

    def __enter__(self) -> Chain:
        self._start(self._program, "-c", "broker.conf")
        wait(lambda: _listens(self._port), "mosquitto listens")
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    @property
    def journal(self) -> Path:
        """The server's."""
        return self._folder / "journal.sqlite"

    def start_server(self, cores: Collection[int] | None = None) -> subprocess.Popen[bytes]:
        """The server, once it is subscribed; ``cores`` are its."""
        (self._folder / "address.txt").unlink(missing_ok=True)
        server = self._start(sys.executable, "-m", "skyreid.server", "run", "server.toml")
        if cores is not None:  # before it has any thread
            os.sched_setaffinity(server.pid, cores)
        wait((self._folder / "address.txt").is_file, "the server answers")
        wait(lambda: b'"broker_connected":true' in self.get("/readyz"), "it is connected")
        return server

    def get(self, path: str) -> bytes:
        """The body of an answer; of a 503, too.

        A server that has no time to read a request hangs up on it, and is asked again.
        """
        address = (self._folder / "address.txt").read_text().strip()
        for left in reversed(range(ASKS)):
            try:
                with urllib.request.urlopen(address + path, timeout=60) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                return error.read()
            except ConnectionResetError:
                if left == 0 or self._processes[-1].poll() is not None:
                    raise
        raise AssertionError

    def listen(self) -> None:
        """Be a page for as long as the server lives: events, and the devices now and then."""
        asked_s = 0.0
        for line in self.told():
            now_s = time.monotonic()
            if line.startswith(b"event: devices") and now_s - asked_s >= PAGE_ASKS_EVERY_S:
                asked_s = now_s
                try:
                    self.get("/v1/devices?limit=1000")
                except OSError:
                    return

    def told(self) -> Iterator[bytes]:
        """The lines of ``/v1/events``, for as long as the server lives."""
        address = (self._folder / "address.txt").read_text().strip()
        try:
            with urllib.request.urlopen(address + "/v1/events", timeout=60) as stream:
                yield from stream
        except OSError:
            return

    @property
    def stored(self) -> int:
        """Sightings in the journal."""
        return len(read_keys(self.journal))

    @contextmanager
    def publisher(self) -> Iterator[Any]:
        """A connected client."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(500)
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        try:
            yield client
        finally:
            client.disconnect()
            client.loop_stop()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self._folder / "log", "ab") as log:
            process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        self._processes.append(process)
        return process


def ingest_per_cpu_s(chain: Chain, messages: int) -> float:
    """Sightings that a server takes from a broker and stores, a CPU second of its process."""
    load = batches(messages, lane=Lane.BACKFILL, placed=False)
    server = chain.start_server()
    start_s = cpu_s(server.pid)
    with chain.publisher() as client:
        _publish(client, load)
        wait(lambda: chain.stored >= messages * A_MESSAGE, "everything is stored")
    return messages * A_MESSAGE / (cpu_s(server.pid) - start_s)


def queue_per_s(chain: Chain, messages: int) -> float:
    """Messages a second that a broker takes for a server that is away, of the last fifth."""
    server = chain.start_server()
    server.kill()
    server.wait()
    load = batches(messages)
    last = messages // 5
    with chain.publisher() as client:
        _publish(client, load[:-last])
        start_s = time.monotonic()
        _publish(client, load[-last:])
        return last / (time.monotonic() - start_s)


def fleet_cores(chain: Chain, seconds: float) -> float:
    """Cores of a server with 1,000 devices, whose health comes every 10 s, and one open page."""
    server = chain.start_server()
    names = [f"fleet-{n}" for n in range(FLEET)]
    camera = BirthCamera(id=CAMERA, view="ground")
    birth = encode_birth(Birth(boot=BOOT, model=MODEL, cameras=(camera,)))
    page = threading.Thread(target=chain.listen, daemon=True)
    page.start()
    with chain.publisher() as client:
        for name in names:
            client.publish(topics.device(SITE, name, "birth"), birth, qos=1)
        wait(lambda: b'"devices":1000' in chain.get("/readyz"), "every device is known")
        start_s, spent_s = time.monotonic(), cpu_s(server.pid)
        sent = 0
        while (passed_s := time.monotonic() - start_s) < seconds:
            for _ in range(int(passed_s * FLEET / HEALTH_EVERY_S) - sent):
                health = encode_health(Health(fps=float(sent % 30), frames=sent))
                client.publish(topics.device(SITE, names[sent % FLEET], "health"), health)
                sent += 1
            time.sleep(0.02)
        cores = (cpu_s(server.pid) - spent_s) / passed_s
    if not page.is_alive():
        raise InputError("bench: the page that was open meanwhile was cut off")
    return cores


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(client: Any, message: Message) -> Any:
    """Publish a message; what paho knows of it."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = list(message.properties.items())
    return client.publish(message.topic, message.payload, 1, properties=properties)


def _publish(client: Any, load: Sequence[Message]) -> None:
    for told in [send(client, message) for message in load]:
        told.wait_for_publish(LIMIT_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(condition: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
    """Wait for something, ``LIMIT_S`` at most."""
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise InputError(f"bench: not within {LIMIT_S:g} s: {what}")
        time.sleep(every_s)
