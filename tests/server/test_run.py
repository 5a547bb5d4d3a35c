"""The server as a process, with a real broker: nothing lost, nothing twice, nothing kills it."""

import json
import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from skyreid.contract.device import Birth, BirthCamera, encode_birth
from skyreid.server.store.beside import read_decisions, read_keys
from skyreid.server.store.journal import open_to_read


def test_sightings_are_stored_receipted_matched_and_told(
    server: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    uav, street = device("uav1", ["skyreid/v1/plaza/identity/#"]), device("street1")
    uav.send("status", b"online")
    camera = BirthCamera(id="cam1", view="aerial")
    uav.send("birth", encode_birth(Birth(boot="1-abcd", model=make.model, cameras=(camera,))))
    uav.send("sightings", make.payload([make.sighting(n, person=n) for n in (1, 2, 3)]))
    street.send(
        "sightings", make.payload([make.sighting(9, camera="cam6", person=4)], device="street1")
    )
    for client in (uav, street):
        client.send("status", b"offline")
    assert wait("receipts", lambda: len(uav.received()) == 3 and uav.received())
    assert uav.received() == {("1-abcd", n, 1) for n in (1, 2, 3)}
    wait("everything decided", lambda: server.get("/readyz").json()["settled"])
    wait("events", lambda: len(uav.heard) >= 4)
    event = json.loads(uav.heard[0][1])
    assert event["specversion"] == "1.0"
    assert event["source"] == "skyreid/plaza"
    assert event["type"] == "skyreid.v1.identity.assigned"
    assert uav.heard[0][0] == f"skyreid/v1/plaza/identity/{event['subject']}"
    listed = server.get("/v1/identities").json()
    assert {i["id"] for i in listed["identities"]} == {
        json.loads(body)["subject"] for _, body, _ in uav.heard
    }
    devices = {d["device"]: d for d in server.get("/v1/devices").json()["devices"]}
    assert devices["uav1"]["status"] == "offline"
    assert devices["uav1"]["camera"] == "cam1"
    assert devices["street1"]["view"] == "ground"
    assert server.stop() == 0


def test_what_is_no_message_is_set_aside_and_the_server_lives(
    server: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    uav = device("uav1", ["skyreid/v1/plaza/rejected/#"])
    garbage = os.urandom(500)
    whole = make.payload([make.sighting(1)])
    uav.send("sightings", b"\xff" + garbage)
    uav.send("sightings", make.payload([make.sighting(5)], device="another"))
    uav.send("sightings", make.payload([make.sighting(6, quality=7.0), make.sighting(7)]))
    uav.send("sightings", make.payload([make.sighting(2**64 - 1)]))
    uav.send("sightings", make.payload([make.sighting(8, camera="cam6", view=1)]))
    uav.send("sightings", whole[:-9])
    uav.send("status", b"tired")
    uav.send("health", b"[")
    uav.send("picture", b"GIF89a", boot="1-abcd", camera="cam1", track="1", seq="1")
    uav.send("sightings", whole)
    wait("nine refusals", lambda: len(uav.heard) == 9)
    reasons = [topic.rsplit("/", 1)[1] for topic, _, _ in uav.heard]
    assert reasons == [
        *("parse", "envelope", "sighting", "sighting", "view", "parse", "status", "json"),
        "picture",
    ]
    _topic, payload, properties = uav.heard[0]
    assert payload == b"\xff" + garbage
    assert properties["reason"] == "parse"
    assert properties["topic"] == "skyreid/v1/plaza/dev/uav1/sightings"
    wait("the receipt of the good one", lambda: ("1-abcd", 1, 1) in uav.received())
    assert uav.received() == {
        *(("1-abcd", n, 2) for n in (6, 2**64 - 1)),
        *(("1-abcd", n, 1) for n in (1, 7)),
    }
    text = server.get("/metrics").text
    assert "skyreid_broker_dropped_messages 0.0" in text  # NaN until the broker has said so
    assert 'skyreid_rejected_total{reason="parse"} 2.0' in text
    assert 'skyreid_sightings_stored_total{lane="live"} 2.0' in text
    assert server.get("/healthz").status_code == 200
    assert read_keys(server.journal) == {("uav1", "1-abcd", 1), ("uav1", "1-abcd", 7)}


def test_a_repeated_sighting_is_stored_once_and_receipted_again(
    server: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    uav = device()
    payload = make.payload([make.sighting(n) for n in (4, 5, 6, 9)])
    uav.send("sightings", payload)
    wait("the first receipt", lambda: len(uav.received()) == 4)
    uav.receipts.clear()
    uav.send("sightings", payload)
    wait("the second receipt", lambda: len(uav.received()) == 4)
    (receipt,) = uav.receipts
    assert [(r.first, r.last) for r in receipt.ranges] == [(4, 6), (9, 9)]
    assert "skyreid_sightings_duplicate_total 4.0" in server.get("/metrics").text
    with open_to_read(server.journal) as db:
        assert db.execute("SELECT count(*) FROM sighting").fetchone() == (4,)


def test_kill_9_loses_nothing_and_doubles_nothing(
    server: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    uav = device("uav1", ["skyreid/v1/plaza/identity/#"])
    sent = 0
    for kill in (True, True, False):
        for _ in range(40):
            batch = [make.sighting(sent + n, person=sent + n) for n in range(4)]
            uav.send("sightings", make.payload(batch))
            sent += 4
        if kill:
            wait("some are stored", lambda: read_keys(server.journal))
            server.kill()
            batch = [make.sighting(sent + n) for n in range(4)]
            uav.send("sightings", make.payload(batch))  # while nobody is there
            sent += 4
            server.start()
    uav.send("status", b"offline")
    wait("every receipt", lambda: len(uav.received()) == sent)
    assert read_keys(server.journal) == {("uav1", "1-abcd", n) for n in range(sent)}
    wait("everything decided", lambda: server.get("/readyz").json()["settled"])
    tracks = [t for d in read_decisions(server.journal) if d.kind == "assign" for t in d.tracks]
    assert len(tracks) == len(set(tracks)) == sent
    wait("every identity told", lambda: len({body for _, body, _ in uav.heard}) >= sent)
    ids = [json.loads(body)["id"] for _, body, _ in uav.heard]
    by_id = {json.loads(body)["id"]: body for _, body, _ in uav.heard}
    assert all(body == by_id[i] for i, (_, body, _) in zip(ids, uav.heard, strict=True))


def test_a_broker_that_is_away_is_waited_for(
    server: Any, mosquitto: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    mosquitto.kill()
    server.start(ready=False)
    said = server.get("/readyz")
    assert said.status_code == 503
    assert said.json()["broker_connected"] is False
    assert server.get("/healthz").status_code == 200
    # The page may answer before the connection was tried at all.
    wait("it is said", lambda: "trying again until it answers" in server.log.read_text())
    mosquitto.start()
    wait("connected", lambda: server.get("/readyz").json()["ready"])
    mosquitto.kill()
    wait("gone", lambda: not server.get("/readyz").json()["broker_connected"])
    # Degraded and no more: an orchestrator must not take the page away now.
    assert server.get("/readyz").status_code == 200
    for path in ("/readyz", "/healthz"):
        assert server.get(path).json()["degraded"] == [
            "broker: not connected, devices keep their sightings"
        ]
    wait("it is said", lambda: server.log.read_text().count("cannot be reached") == 2)
    mosquitto.start()
    wait("connected again", lambda: server.get("/readyz").json()["broker_connected"])
    uav = device()
    uav.send("sightings", make.payload([make.sighting(1)]))
    wait("a receipt", lambda: uav.received() == {("1-abcd", 1, 1)})
    told = [line for line in server.log.read_text().splitlines() if "trying again until" in line]
    reasons = [re.sub(r".*127.0.0.1:\d+ ([a-z ]+): .*", r"\1", line) for line in told]
    assert reasons == ["cannot be reached", "connection lost", "cannot be reached"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_with_an_open_event_stream(server: Any, number: int) -> None:
    import httpx

    server.start()
    address = (server.directory / "address.txt").read_text().strip()
    with httpx.stream("GET", address + "/v1/events", timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": skyreid"
        assert server.stop(number) == 0
        assert list(lines) == [""]
    assert not (server.directory / "address.txt").exists()
    assert "Traceback" not in server.log.read_text()


def test_two_servers_do_not_share_a_journal(server: Any) -> None:
    import subprocess
    import sys

    server.start()
    second = subprocess.run(
        [sys.executable, "-m", "skyreid.server", "run", str(server.settings)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=200,
    )
    assert second.returncode == 2
    assert "is in use by process" in second.stderr
    assert "Traceback" not in second.stderr
    assert server.get("/healthz").status_code == 200
