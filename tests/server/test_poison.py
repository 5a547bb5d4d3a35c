"""Messages that cannot be processed, with real processes: set aside once, and that is all."""

import hashlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from skyreid.contract.receipt import batch_properties
from skyreid.server.store.beside import read_keys


def text(letters: str) -> bytes:
    return struct.pack(">H", len(letters.encode())) + letters.encode()


def send_raw(port: int, topic: str, payload: bytes, name: str, value: str) -> None:
    """One QoS 1 PUBLISH with a user property, written by hand: no library looks at its letters."""
    user = b"\x26" + text(name) + text(value)
    publish = text(topic) + struct.pack(">HB", 1, len(user)) + user + payload
    connect = text("MQTT") + b"\x05\x02" + struct.pack(">H", 60) + b"\0" + text("raw")
    assert len(publish) < 128
    with socket.create_connection(("127.0.0.1", port), 30) as raw:
        raw.sendall(bytes([0x10, len(connect)]) + connect)
        assert raw.recv(1) == b"\x20"
        raw.sendall(bytes([0x32, len(publish)]) + publish)
        while (got := raw.recv(1)) != b"\x40":  # PUBACK: the broker has it
            assert got
        raw.sendall(b"\xe0\x00")


def test_a_user_property_with_u_feff_does_not_stop_the_server(
    server: Any, mosquitto: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    for n in range(8):  # paho ends the connection on each of them
        topic = "skyreid/v1/plaza/dev/uav1/health"
        send_raw(mosquitto.port, topic, b'{"fps": %d}' % n, "\ufeff", "x")
    uav = device()
    uav.send("sightings", make.payload([make.sighting(1)]))
    wait("the sighting's receipt", lambda: uav.received() == {("1-abcd", 1, 1)})
    assert server.get("/readyz").json()["ready"]
    server.kill()
    server.start()  # nothing of it comes again
    uav.send("sightings", make.payload([make.sighting(2)]))
    wait("the next receipt", lambda: ("1-abcd", 2, 1) in uav.received())
    log = server.log.read_text()
    assert log.count("broker connected") == 2
    assert "connection lost" not in log


def test_a_message_just_below_the_brokers_limit_is_set_aside_and_comes_no_more(
    server: Any, device: Any, make: Any, wait: Callable[..., Any]
) -> None:
    server.start()
    uav = device("uav1", ["skyreid/v1/plaza/rejected/#"])
    big = b"\x08\x01" * 149_900
    uav.send("sightings", big, **batch_properties("1-abcd", [7, 8]))
    uav.send("sightings", make.payload([make.sighting(1)]))
    expected = {("1-abcd", 1, 1), ("1-abcd", 7, 2), ("1-abcd", 8, 2)}
    wait("receipts", lambda: uav.received() == expected)
    (topic, payload, said) = wait("what was set aside", lambda: uav.heard)[0]
    assert topic == "skyreid/v1/plaza/rejected/size"
    assert payload == big[:4096]
    assert (said["bytes"], said["sha256"]) == (str(len(big)), hashlib.sha256(big).hexdigest())
    assert {r.reason for receipt in uav.receipts for r in receipt.ranges} == {"", "size"}
    server.kill()
    server.start()
    uav.send("sightings", make.payload([make.sighting(2)]))
    wait("the next receipt", lambda: ("1-abcd", 2, 1) in uav.received())
    assert len(uav.heard) == 1
    assert read_keys(server.journal) == {("uav1", "1-abcd", 1), ("uav1", "1-abcd", 2)}
    assert server.log.read_text().count("broker connected") == 2
