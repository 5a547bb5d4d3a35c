"""What the edge's tests share: clips made on the spot, a real broker, a server that receipts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ports import free_port, listens
from tiny_networks import write_detector, write_embedder

from skyreid.contract import topics
from skyreid.contract.receipt import Receipt, Status, encode_receipt, ranges_of
from skyreid.contract.sighting import (
    Box,
    Clock,
    Kind,
    Lane,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import decode_batch, encode_sighting
from skyreid.edge.delivery.rows import Row

SITE, DEVICE = "square", "dev1"
MODEL = ModelRef("0123456789abcdef", 4, "b" * 64, "test")
START_NS = 1_700_000_000_000_000_000


def sighting(seq: int, *, track: int = 1, revision: int = 1, at_ns: int | None = None) -> Sighting:
    at_ns = START_NS + seq * 100_000_000 if at_ns is None else at_ns
    return Sighting(
        seq=seq,
        camera="cam1",
        view=View.AERIAL,
        track=track,
        revision=revision,
        kind=Kind.UPDATE,
        first_seen_ns=START_NS,
        captured_at_ns=at_ns,
        clock=Clock.FILE,
        clock_error_ms=0,
        box=Box(1, 2, 30, 60, 320, 240),
        quality=0.5,
        crops=1,
        embedding=np.array([0.5, 0.5, 0.5, 0.5], np.float32),
        spread=1.0,
    )


def make_row(seq: int) -> Row:
    return Row(seq, START_NS + (seq - 1) * 100_000_000, encode_sighting(sighting(seq)))


@pytest.fixture(scope="session")
def row() -> Callable[[int], Row]:
    """A row for the spool by its seq."""
    return make_row


@pytest.fixture(scope="session")
def model() -> ModelRef:
    return MODEL


def wait_until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Poll; generous, because the machine may be busy with something else."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"not true within {timeout_s:g} s: {true}"
        time.sleep(0.02)


@pytest.fixture(scope="session", name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until


def gst_run(description: str) -> None:
    """Run a pipeline to its end."""
    from skyreid.edge.video.platform import load_gst

    gst, _, _ = load_gst()
    pipeline = gst.parse_launch(description)
    bus = pipeline.get_bus()
    pipeline.set_state(gst.State.PLAYING)
    message = bus.timed_pop_filtered(
        120 * 1_000_000_000, gst.MessageType.EOS | gst.MessageType.ERROR
    )
    assert message is not None
    pipeline.set_state(gst.State.NULL)
    bus.set_flushing(True)
    assert message.type == gst.MessageType.EOS, message.parse_error()


@pytest.fixture(name="gst_run")
def _gst_run(needs_gst: None) -> Callable[[str], None]:
    return gst_run


@pytest.fixture(scope="session")
def needs_gst() -> None:
    """GStreamer with an H.264 encoder, or the test is skipped; in CI its absence is a failure."""
    from skyreid.contract.errors import PlatformError
    from skyreid.edge.video.platform import load_gst

    try:
        gst, _, _ = load_gst()
        lacking = [n for n in ("x264enc", "mp4mux", "avdec_h264") if not gst.ElementFactory.find(n)]
        reason = f"GStreamer has no {', '.join(lacking)}" if lacking else ""
    except PlatformError as error:
        reason = str(error)
    if reason and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


ENCODE = "x264enc speed-preset=ultrafast tune=zerolatency key-int-max=5"


@pytest.fixture(scope="session")
def make_clip(
    needs_gst: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int, int], Path]:
    """An H.264 clip of (width, height, frames) at 10 frames a second."""

    def make(width: int, height: int, frames: int) -> Path:
        path = tmp_path_factory.mktemp("clip") / f"{width}x{height}.mp4"
        gst_run(
            f"videotestsrc num-buffers={frames} pattern=smpte ! video/x-raw,format=I420,"
            f"width={width},height={height},framerate=10/1 ! {ENCODE} ! h264parse ! mp4mux ! "
            f'filesink location="{path}"'
        )
        return path

    return make


@pytest.fixture(scope="session")
def clip(make_clip: Callable[[int, int, int], Path]) -> Path:
    """12 frames of 322x240: rows in memory are longer than the picture is wide."""
    return make_clip(322, 240, 12)


class Broker:
    """A mosquitto of its own on a free port of the loopback, with the contract's persistence."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            reason = "mosquitto is not installed"
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(reason)
            pytest.skip(reason)
        self._program, self._directory = program, directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\n"
            f"persistence true\npersistence_location {directory}/\n"
            "autosave_on_changes true\nautosave_interval 1\n"
            "max_queued_messages 0\nmax_queued_bytes 67108864\n"
        )
        if os.geteuid() == 0:  # mosquitto steps down from root, then cannot write here
            with open(directory / "mosquitto.conf", "a") as conf:
                conf.write("user root\n")

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._directory / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: listens(self.port))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Not started yet."""
    directory = tmp_path / "broker"
    directory.mkdir()
    made = Broker(directory)
    yield made
    made.kill()


class Server:
    """Takes sightings and writes receipts, as the real one does; remembers everything."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.batches: list[SightingBatch] = []
        self.other: list[tuple[str, bytes, bool, dict[str, str]]] = []
        self.deaf_for = 0
        """So many batches with sightings get no receipt."""
        self.subscribed = False
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="server", protocol=MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda c, *_: c.subscribe([("skyreid/v1/+/dev/+/#", 1)])
        self.client.on_subscribe = self._ready
        self.client.on_message = self._message
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self.client.connect_async("127.0.0.1", port, clean_start=False, properties=session)
        self.client.loop_start()

    def _ready(self, *_: object) -> None:
        self.subscribed = True

    def _message(self, client: object, _data: object, message: object) -> None:
        topic = topics.parse_device(message.topic)  # type: ignore[attr-defined]
        payload = bytes(message.payload)  # type: ignore[attr-defined]
        if topic.channel != "sightings":
            extra = dict(getattr(message.properties, "UserProperty", ()))  # type: ignore[attr-defined]
            self.other.append((topic.channel, payload, message.retain, extra))  # type: ignore[attr-defined]
            return
        batch = decode_batch(payload, site=topic.site, device=topic.device)
        self.batches.append(batch)
        if not batch.sightings:
            return
        if self.deaf_for > 0:
            self.deaf_for -= 1
            return
        ranges = ranges_of([s.seq for s in batch.sightings], Status.STORED)
        self.send("receipt", encode_receipt(Receipt(batch.boot, ranges)))

    def send(self, channel: str, payload: bytes) -> None:
        self.client.publish(topics.command(SITE, DEVICE, channel), payload, qos=1)  # type: ignore[arg-type]

    def first_deliveries(self, lane: Lane | None = None) -> list[tuple[str, int]]:
        """(boot, seq) in order of arrival, each once: what a journal would keep."""
        seen: dict[tuple[str, int], Lane] = {}
        for batch in list(self.batches):
            for item in batch.sightings:
                seen.setdefault((batch.boot, item.seq), batch.lane)
        return [key for key, of in seen.items() if lane in (None, of)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def start_server() -> Iterator[Callable[[int], Server]]:
    """Start a ``Server`` at a port; they are closed in the end."""
    made: list[Server] = []

    def start(port: int) -> Server:
        made.append(Server(port))
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
def environment() -> dict[str, str]:
    """For child processes: they find the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


@pytest.fixture(name="free_port")
def _free_port() -> int:
    """A port of the loopback that nobody listens at."""
    return free_port()


@pytest.fixture(scope="session")
def new_port() -> Callable[[], int]:
    """Says a port of the loopback that nobody listens at, another each time."""
    return free_port


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    write_embedder(path / "tiny")
    write_detector(path / "blind")
    write_detector(path / "hangs", hangs=True)
    return path
