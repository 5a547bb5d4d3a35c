"""kill -9 in the middle of a run: every sighting is in the journal in the end, exactly once."""

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import kills
import paho.mqtt.publish
import pytest
from bookkeeping import produced, stored, wait_until
from chain import Chain
from settings_files import SITE

Make = Callable[..., Chain]


@pytest.fixture
def clip(repository: Path) -> Path:
    return repository / "examples/clip"


def run_to_the_end(chain: Chain) -> None:
    wait_until("the devices end", lambda: not any(p.alive for p in chain.edges.values()), 200)
    for part in chain.edges.values():
        assert part.process.returncode == 0, part.tail(30)


def some_are_stored(chain: Chain) -> Callable[[], bool]:
    return lambda: chain.journal.exists() and len(stored(chain)) >= 5


def test_the_server_is_killed(make_chain: Make, clip: Path) -> None:
    chain = make_chain(clip)
    chain.start_broker()
    server = chain.start_server()
    cameras = list(chain.cameras)
    for camera in cameras:
        chain.start_edge(camera)
    wait_until("some sightings are stored", some_are_stored(chain), 90)
    chain.kill(server)
    time.sleep(2.0)  # the devices go on without it
    chain.start_server()
    run_to_the_end(chain)
    sent = produced(chain, cameras)
    assert max(sent.values()) == 1
    wait_until("all is stored", lambda: stored(chain) == set(sent), 60)
    wait_until("all is decided", lambda: chain.get("/readyz")["settled"], 60)
    first = chain.get("/v1/sightings?limit=1000")["sightings"][-1]  # from before the kill
    path = "/".join(str(first[name]) for name in ("device", "boot", "camera", "track"))
    assert chain.get(f"/v1/similar/{path}?k=3")["similar"], "search knows those of before the kill"


def test_ten_kills_of_devices_broker_and_server_lose_nothing_that_was_said(tmp_path: Path) -> None:
    """`bench/kills.py` with a seed; the last 0.15 s of a killed device were lost."""
    field = kills.Field(tmp_path / "field", seed=1)
    try:
        field.run(10)
        outcome = field.outcome()
    finally:
        field.chain.stop()
    assert field.killed.keys() == {"device", "broker", "server"}
    assert {name: outcome[name] for name in kills.BAD} == dict.fromkeys(kills.BAD, 0)
    assert outcome["journal"] == "ok"
    recorded = outcome["recorded"]
    assert isinstance(recorded, int)
    assert recorded > 200


def test_a_device_without_a_broker_spools_and_delivers_later(make_chain: Make, clip: Path) -> None:
    chain = make_chain(clip, edge_options=("--mqtt.drain_timeout_s", "1"))
    camera = next(iter(chain.cameras))
    part = chain.start_edge(camera)
    wait_until("the device ends", lambda: not part.alive, 120)
    assert part.process.returncode == 0, part.tail(30)
    assert "spool" in part.tail(30)
    sent = produced(chain, [camera])
    assert sent
    chain.start_broker()
    chain.start_server()
    chain.start_edge(camera, record=False)
    wait_until("what was spooled is stored", lambda: stored(chain) >= set(sent), 120)


def test_garbage_is_set_aside_and_the_daemon_lives(make_chain: Make, clip: Path) -> None:
    chain = make_chain(clip)
    chain.start_broker()
    chain.start_server()
    topic = f"skyreid/v1/{SITE}/dev/stranger/sightings"
    paho.mqtt.publish.multiple(
        [(topic, payload, 1, False) for payload in (b"", b"garbage", b"\x08\x01" * 40)],
        "127.0.0.1",
        chain.broker_port,
    )

    def counted() -> bool:
        with urllib.request.urlopen(chain.address + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        values = [float(x.split()[-1]) for x in lines if x.startswith("skyreid_rejected_total{")]
        return sum(values) >= 3

    wait_until("the rejected are counted", counted, 20)
    assert chain.get("/healthz") is not None
    assert chain.server is not None
    assert chain.server.alive
