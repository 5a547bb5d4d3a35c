"""The device's half of "never lose": a real broker, a server that receipts, and things that die."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.device import decode_birth
from skyreid.contract.sighting import Lane
from skyreid.edge.delivery.spool_file import read_stats

Start = Callable[[int], Any]
DEVICE = Path(__file__).with_name("device.py")


class Device:
    def __init__(self, port: int, spool: Path, frames: int, environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(DEVICE), str(port), str(spool), str(frames)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def wait_for_frame(self, number: int) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line == f"frame {number}\n":
                return
        raise AssertionError(f"the device ended after {self.lines[-1:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def finish(self) -> str:
        """Its last line."""
        out, error = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, error
        return out.splitlines()[-1]


@pytest.fixture
def start_device(
    tmp_path: Path, environment: dict[str, str]
) -> Iterator[Callable[[int, int], Device]]:
    made: list[Device] = []

    def start(port: int, frames: int) -> Device:
        made.append(Device(port, tmp_path / "spool.db", frames, environment))
        return made[-1]

    yield start
    for device in made:
        if device.process.poll() is None:
            device.kill()


Devices = Callable[[int, int], Device]


def spooled(tmp_path: Path) -> int:
    return read_stats(tmp_path / "spool.db").sightings


def test_what_a_device_says_arrives_once_in_order_and_leaves_the_spool(
    broker: Any, start_server: Start, start_device: Devices, tmp_path: Path, wait_until: Any
) -> None:
    broker.start()
    server = start_server(broker.port)
    wait_until(lambda: server.subscribed)
    device = start_device(broker.port, 40)
    assert device.finish() == "remaining 0"
    keys = server.first_deliveries(Lane.LIVE)
    assert [seq for _, seq in keys] == list(range(1, 41))
    assert sum(len(b.sightings) for b in server.batches) == 40  # none twice
    assert spooled(tmp_path) == 0
    marks = [b.watermark_ns for b in server.batches]
    assert marks == sorted(marks)
    for k, batch in enumerate(server.batches):
        later = [s.captured_at_ns for b in server.batches[k + 1 :] for s in b.sightings]
        assert batch.watermark_ns <= min(later, default=batch.watermark_ns)
    wait_until(lambda: server.other[-1][:2] == ("status", b"offline"))
    words = [(channel, payload) for channel, payload, _, _ in server.other]
    assert words[0] == ("status", b"online")
    birth = decode_birth(dict(words)["birth"])
    assert birth is not None
    assert (birth.boot, birth.cameras[0].id) == (keys[0][0], "cam1")


def test_a_device_that_dies_is_offline_by_its_will(
    broker: Any, start_server: Start, start_device: Devices, wait_until: Any
) -> None:
    broker.start()
    server = start_server(broker.port)
    device = start_device(broker.port, 10_000)
    device.wait_for_frame(1)
    wait_until(lambda: ("status", b"online") in [o[:2] for o in server.other])
    device.kill()
    wait_until(lambda: ("status", b"offline") in [o[:2] for o in server.other])


def test_a_broker_that_is_down_at_the_start_costs_nothing(
    broker: Any, start_server: Start, start_device: Devices
) -> None:
    device = start_device(broker.port, 30)
    device.wait_for_frame(30)
    broker.start()
    server = start_server(broker.port)
    assert device.finish() == "remaining 0"
    assert [seq for _, seq in server.first_deliveries()] == list(range(1, 31))


def test_a_broker_that_is_killed_in_the_middle_costs_nothing(
    broker: Any, start_server: Start, start_device: Devices
) -> None:
    broker.start()
    server = start_server(broker.port)
    device = start_device(broker.port, 120)
    device.wait_for_frame(40)
    broker.kill()
    device.wait_for_frame(60)
    broker.start()
    assert device.finish() == "remaining 0"
    keys = server.first_deliveries()
    assert sorted(seq for _, seq in keys) == list(range(1, 121))
    for lane in Lane:
        seqs = [seq for _, seq in server.first_deliveries(lane)]
        assert seqs == sorted(seqs)


def test_a_receipt_that_is_lost_makes_the_device_say_it_again(
    broker: Any, start_server: Start, start_device: Devices
) -> None:
    broker.start()
    server = start_server(broker.port)
    server.deaf_for = 3
    device = start_device(broker.port, 30)
    assert device.finish() == "remaining 0"
    assert [seq for _, seq in server.first_deliveries()] == list(range(1, 31))
    assert sum(len(b.sightings) for b in server.batches) > 30


def test_a_device_that_is_killed_delivers_the_rest_in_its_next_life(
    broker: Any, start_server: Start, start_device: Devices, tmp_path: Path, wait_until: Any
) -> None:
    broker.start()
    device = start_device(broker.port, 10_000)  # nobody receipts yet
    device.wait_for_frame(50)
    device.kill()
    held = spooled(tmp_path)
    assert held >= 20
    server = start_server(broker.port)
    wait_until(lambda: server.subscribed)
    assert start_device(broker.port, 5).finish() == "remaining 0"
    keys = server.first_deliveries()
    boots = list(dict.fromkeys(boot for boot, _ in keys))
    of_boot = {b: [seq for boot, seq in keys if boot == b] for b in boots}
    first, second = sorted(boots)
    assert (first.split("-")[0], second.split("-")[0]) == ("1", "2")
    assert of_boot[first] == list(range(1, held + 1))
    assert of_boot[second] == list(range(1, 6))
    lanes = {b.boot: b.lane for b in server.batches if b.sightings}
    assert lanes == {first: Lane.BACKFILL, second: Lane.LIVE}
