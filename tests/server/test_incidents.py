"""Incidents, with the server and its broker as real processes: one fault is not everybody's."""

import json
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from skyreid.server.__main__ import main
from skyreid.server.store.beside import read_decisions, read_keys

SOFT_FILES = 400
"""A server keeps 320 for itself, so 80 connections are all that there can be. With 1,024 it took
512 within the ten seconds of their patience to fill it, which a busy machine cannot open."""
HALF_OPEN = 500
# In a process of its own: paho, in this one, selects among descriptors below 1024.
HOLD = """
import resource, socket, sys
host, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * number), hard))
held = []
for _ in range(number):
    held.append(socket.create_connection((host, port), 200))
    held[-1].sendall(b"GET / HTTP/1.1\\r\\nX-a: ")
print("held", flush=True)
sys.stdin.read()
"""


def test_slow_loris_does_not_stop_the_api_nor_storing_nor_the_way_back_to_the_broker(
    server: Any, mosquitto: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_FILES, hard))  # inherited
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    address = urlsplit((server.directory / "address.txt").read_text().strip())
    command = [sys.executable, "-c", HOLD, str(address.hostname), str(address.port)]
    with subprocess.Popen(
        [*command, str(HALF_OPEN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as loris:
        assert loris.stdout is not None
        assert loris.stdout.readline() == "held\n"
        assert server.get("/v1/identities").status_code == 200
        uav = device()
        uav.send("sightings", make.payload([make.sighting(1)]))
        wait("a receipt", lambda: uav.received() == {("1-abcd", 1, 1)})
        mosquitto.kill()
        wait("gone", lambda: not server.get("/readyz").json()["broker_connected"])
        mosquitto.start()
        wait("connected again", lambda: server.get("/readyz").json()["broker_connected"])
        again = device("uav2")
        again.send("sightings", make.payload([make.sighting(2)], device="uav2"))
        wait("a receipt after the broker's end", lambda: len(again.received()) == 1)
        loris.communicate("")
    assert read_keys(server.journal) == {("uav1", "1-abcd", 1), ("uav2", "1-abcd", 2)}
    assert 'skyreid_http_connections_cut_total{reason="full"}' in server.get("/metrics").text
    log = server.log.read_text()
    assert "Too many open files" not in log
    assert len(log) < 20_000


def test_a_damaged_journal_starts_with_what_is_good_and_says_what_is_lost(
    server: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    uav = device()
    for start in range(0, 200, 20):
        batch = [make.sighting(n, person=n) for n in range(start, start + 20)]
        uav.send("sightings", make.payload(batch))
    wait("receipts", lambda: len(uav.received()) == 200)
    uav.send("status", b"offline")
    wait("everything decided", lambda: server.get("/readyz").json()["settled"])
    assert server.stop() == 0
    whole = bytearray(server.journal.read_bytes())
    draw = random.Random(7)
    for _ in range(20):
        whole[draw.randrange(100, len(whole))] ^= 0xFF
    server.journal.write_bytes(whole)

    server.start()
    log = server.log.read_text()
    assert "the journal was damaged and is repaired" in log
    assert "Traceback" not in log
    (damaged,) = server.directory.glob("journal.sqlite.damaged-*")
    assert damaged.read_bytes() == whole
    kept = read_keys(server.journal)
    assert 180 <= len(kept) < 200
    assert f"lost: {200 - len(kept)} sightings" in log
    uav.receipts.clear()
    uav.send("sightings", make.payload([make.sighting(500)]))
    wait("it takes more", lambda: uav.received() == {("1-abcd", 500, 1)})
    assert server.get("/v1/identities").json()["total"] >= 180
    assert server.stop() == 0

    assert main(["rebuild", str(server.settings)]) == 0
    tracks = {t for d in read_decisions(server.journal) for t in d.tracks}
    assert len(tracks) == len(kept) + 1
    assert list(server.directory.glob("journal.sqlite.before-rebuild-*"))
    server.start()
    told = server.get("/readyz").json()
    assert told["sightings"] == len(kept) + 1


def events_after(server: Any, event_id: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many events of ``/v1/events?after=``: id and data."""
    import httpx

    address = (server.directory / "address.txt").read_text().strip()
    found: list[tuple[str, dict[str, Any]]] = []
    with httpx.stream("GET", f"{address}/v1/events?after={event_id}", timeout=60) as stream:
        number = ""
        for line in stream.iter_lines():
            if line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: ") and number:
                found.append((number, json.loads(line[6:])))
                number = ""
            if len(found) == count:
                break
    return found


def test_a_killed_broker_loses_no_sighting_and_its_events_are_in_the_log(
    server: Any, mosquitto: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    consumer = device("consumer", ["skyreid/v1/plaza/identity/#"])
    uav = device()
    uav.send("sightings", make.payload([make.sighting(1, person=1)]))
    uav.send("status", b"offline")
    wait("the first event", lambda: consumer.heard)
    last = json.loads(consumer.heard[0][1])["id"]
    consumer.close()  # a consumer that is away: the broker takes events that nobody gets
    uav.send("status", b"online")
    uav.send("sightings", make.payload([make.sighting(n, person=n) for n in range(2, 12)]))
    uav.send("status", b"offline")
    wait("receipts", lambda: len(uav.received()) == 11)
    wait("all decided", lambda: server.get("/readyz").json()["settled"])
    wait(
        "the broker has every event",
        lambda: "skyreid_outbox_events 0.0" in server.get("/metrics").text,
    )
    mosquitto.kill()  # within the minute in which it saves nothing
    mosquitto.start()
    wait("connected again", lambda: server.get("/readyz").json()["broker_connected"])
    late = device("uav2")
    late.send("sightings", make.payload([make.sighting(1, person=30)], device="uav2"))
    wait("a receipt", lambda: late.received() == {("1-abcd", 1, 1)})
    missed = events_after(server, last, 10)
    assert len({number for number, _ in missed}) == 10
    told = {track["track"] for _, event in missed for track in event["tracks"]}
    assert told == set(range(2, 12))
    stored = read_keys(server.journal)
    assert len(stored) == 12
    for wrong in ("x", "1", "1-", "-1-0", "1-0-0", "9" * 30 + "-0"):
        assert server.get(f"/v1/events?after={wrong}").status_code == 422
