"""A packet that paho refuses and MQTT allows is read; what cannot be read is an error, no guess."""

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import MQTTErrorCode

from skyreid.server.broker.ingest import SHORT_LIFE_S, SHORT_LIVES_MAX, TAKEN_OVER, Broker, Queue
from skyreid.server.broker.packet import Publish, read_publish

QOS_1 = 0x32


def text(letters: str | bytes) -> bytes:
    data = letters if isinstance(letters, bytes) else letters.encode()
    return struct.pack(">H", len(data)) + data


def user(name: str | bytes, value: str | bytes) -> bytes:
    return b"\x26" + text(name) + text(value)


def publish(properties: bytes, payload: bytes = b"{}", topic: str = "a/b") -> bytes:
    assert len(properties) < 128
    return text(topic) + struct.pack(">HB", 7, len(properties)) + properties + payload


def broker(trouble: list[str] | None = None) -> Broker:
    return Broker(
        "plaza",
        ("127.0.0.1", 1),
        Queue(10, 10_000),
        tls=None,
        login=None,
        keepalive_s=30,
        session_expiry_s=86_400,
        on_taken=lambda mid: None,
        on_dropped=lambda count: None,
        on_trouble=lambda kind: None if trouble is None else trouble.append(kind),
    )


def test_a_property_with_u_feff_loses_neither_the_connection_nor_the_message() -> None:
    one = broker()
    client: Any = one._client
    client._in_packet |= {"command": QOS_1, "packet": publish(user("\ufeff", "x") + user("k", "v"))}
    assert client._handle_publish() == 0
    client._in_packet |= {"command": QOS_1, "packet": publish(user("k", "v"))}
    assert client._handle_publish() == 0
    strange, plain = one._queue.take(2, first_s=1, more_s=0)
    assert (strange.topic, strange.payload, strange.mid, strange.qos) == ("a/b", b"{}", 7, 1)
    assert strange.properties == {"\ufeff": "x", "k": "v"}
    assert plain.properties == {"k": "v"}


@pytest.mark.parametrize(
    "properties",
    [
        user("k", "\ufeff"),
        user(b"\xed\xa0\x80", "x"),  # a surrogate
        user("k", "a\x00b"),
        user("k", b"\xff\xfe"),
        b"\x03" + text("\ufeff"),  # content type
        b"\x08" + text("a/\ufeff"),  # response topic
        b"\x01\x01" + b"\x01\x01",  # the same one twice
        b"\x0b\x81\x01" + user("k", "\ufeff"),  # after a subscription identifier
        b"\x7f",  # of no MQTT that we know
    ],
)
def test_whatever_stands_in_a_property_the_payload_arrives(properties: bytes) -> None:
    one = broker()
    client: Any = one._client
    client._in_packet |= {"command": QOS_1, "packet": publish(properties, b"payload")}
    assert client._handle_publish() == 0
    (message,) = one._queue.take(1, first_s=1, more_s=0)
    assert (message.payload, message.mid, message.qos) == (b"payload", 7, 1)


def test_a_packet_whose_lengths_lie_is_no_packet() -> None:
    whole = publish(user("\ufeff", "x"))
    for end in range(len(whole) - 2):
        with pytest.raises(ValueError, match="bytes at"):
            read_publish(QOS_1, whole[:end])
    with pytest.raises(ValueError, match="more than four"):
        read_publish(QOS_1, text("a") + b"\0\7" + b"\xff" * 5)
    client: Any = broker()._client  # it ended the thread of the connection, and the server
    client._in_packet |= {"command": QOS_1, "packet": whole[:5]}
    assert client._handle_publish() == MQTTErrorCode.MQTT_ERR_PROTOCOL


def test_a_packet_says_whether_it_came_before() -> None:
    whole = publish(user("k", "v"))
    assert [read_publish(command, whole).dup for command in (QOS_1, QOS_1 | 0x08)] == [False, True]
    assert read_publish(0x30, text("a") + b"\0" + b"x") == Publish("a", b"x", {}, 0, 0, False)


@given(st.integers(0, 255), st.binary(max_size=60))
def test_random_bytes_are_read_or_refused(command: int, body: bytes) -> None:
    try:
        read_publish(command, body)
    except ValueError:
        pass


def test_what_the_broker_would_refuse_is_not_sent_to_it() -> None:
    trouble: list[str] = []
    one = broker(trouble)
    client: Any = one._client
    sent: list[str] = []
    client.publish = lambda topic, *_, **__: sent.append(topic) or SimpleNamespace(mid=3)
    client.subscribe = lambda _: None
    good = SimpleNamespace(is_failure=False)
    one._connected(client, None, SimpleNamespace(session_present=True), good,
                   SimpleNamespace(MaximumPacketSize=1000))  # fmt: skip
    assert one.packet_max == 1000
    assert one.publish("t", b"x" * 900, properties={}, content_type="") == 3
    assert one.publish("t", b"x" * 900, properties={"k": "v" * 50}, content_type="") is None
    assert one.publish("t", b"x" * 1000, properties={}, content_type="") is None
    assert (sent, trouble) == (["t"], ["unsendable", "unsendable"])


class Lives:
    """Connections of one broker that end, by a clock of our own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trouble: list[str] = []
        self.broker, self.now_s = broker(self.trouble), 0.0
        self.aims: list[bool] = []
        client: Any = self.broker._client
        client.subscribe = lambda _: None
        client.connect_async = lambda *_, clean_start, **__: self.aims.append(clean_start)
        monkeypatch.setattr("skyreid.server.broker.ingest.time.monotonic", lambda: self.now_s)

    def end(
        self, after_s: float, *, value: int = 0x80, accepted: bool = True, again: bool | None = None
    ) -> None:
        """``again``: a message came over it, and whether it had come before."""
        client = self.broker._client
        flags, properties = SimpleNamespace(session_present=True), SimpleNamespace()
        answer = SimpleNamespace(is_failure=not accepted)
        self.broker._connected(client, None, flags, answer, properties)
        if again is not None:
            self.broker._take(Publish("a/b", b"", {}, 7, 1, again))
            self.broker._queue.take(1, first_s=0, more_s=0)
        self.now_s += after_s
        why = SimpleNamespace(is_failure=True, value=value)
        self.broker._disconnected(client, None, None, why, None)


def test_a_session_that_goes_on_killing_its_connections_is_begun_anew_loudly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = Lives(monkeypatch)
    for _ in range(SHORT_LIVES_MAX - 1):
        one.end(0.1, again=True)  # what lies before that which cannot be read
    assert one.aims == []
    one.end(0.1)
    assert (one.aims, one.trouble) == ([True], ["renewed"])
    assert "it is given up, devices send again what has no receipt" in caplog.text
    one.end(SHORT_LIFE_S + 1)  # the new one lived: it is kept from now on
    assert one.aims == [True, False]


def test_a_broker_that_is_killed_again_and_again_keeps_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With it went what a device had just said, and what it said next was stored before that."""
    one = Lives(monkeypatch)
    for _ in range(3 * SHORT_LIVES_MAX):
        for _ in range(SHORT_LIVES_MAX - 1):
            one.end(0.1, again=True)  # too short for anything new
        one.end(0.1, again=False)
    assert (one.aims, one.trouble) == ([], [])


def test_a_broker_that_was_connected_once_was_even_after_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Lives(monkeypatch)
    one.end(0.1, accepted=False)
    refused = SimpleNamespace(is_failure=True)
    one.broker._subscribed(one.broker._client, None, 1, [refused] * 5, None)
    assert (one.broker.connected, one.broker.was_connected) == (False, False)
    granted = SimpleNamespace(is_failure=False)
    one.broker._subscribed(one.broker._client, None, 1, [granted] * 6, None)
    assert (one.broker.connected, one.broker.was_connected) == (True, True)
    one.end(0.1)
    assert (one.broker.connected, one.broker.was_connected) == (False, True)


def test_other_ends_do_not_cost_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Lives(monkeypatch)
    for _ in range(3 * SHORT_LIVES_MAX):
        one.end(0.1, value=TAKEN_OVER)  # a second server with our name
        one.end(0.1, accepted=False)  # a password that is wrong
    for _ in range(3):
        for _ in range(SHORT_LIVES_MAX - 1):
            one.end(0.1)
        one.end(SHORT_LIFE_S + 1)
    assert (one.aims, one.trouble) == ([], [])
