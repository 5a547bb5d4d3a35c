"""Incidents, with the server and its broker as real processes: one fault is not everybody's."""

import random
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from skyreid.server.__main__ import main
from skyreid.server.store.journal import read_decisions, read_keys

SOFT_FILES = 1024
HALF_OPEN = 1100
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
