"""The server's MQTT client: messages in, acknowledged only when told to; messages out.

The only file that knows paho-mqtt. A persistent MQTT 5 session with a fixed client id: while the
server is away the broker keeps what devices send, and what was not acknowledged comes again. So
does a packet that ends the connection: packets are read by ``packet``, not by paho, nothing is sent
that the broker said it would refuse, and a session that goes on killing its connections is given up
for a new one (the devices still have what has no receipt).
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from skyreid.contract import topics
from skyreid.contract.broker import explain_lost, explain_refused, explain_unreachable
from skyreid.contract.topics import DeviceChannel
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.packet import Publish, read_publish

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_log = logging.getLogger(__name__)

BROKER_DROPPED = "$SYS/broker/publish/messages/dropped"
RECEIVE_MAXIMUM = 1_000
PACKET_OVERHEAD = 64
"""Bytes of a PUBLISH beside topic, payload and user properties, at most."""
SHORT_LIFE_S, SHORT_LIVES_MAX = 5.0, 5
"""So many connections in a row that ended so soon, and brought nothing that had not come before,
are an unreadable session's."""
TAKEN_OVER = 0x8E
"""What a broker says to a client when another one comes with its id."""
Trouble = Literal["unsendable", "renewed"]
"""A message larger than the broker takes, not sent; a session given up for a new one."""
CHANNELS: tuple[DeviceChannel, ...] = ("sightings", "birth", "status", "health", "picture")
RECEIVED_AT = "received_at_ns"
"""The user property with which `skyreid-server replay` says when a message came first."""


class Queue:
    """Messages read and not stored yet, bounded in number and bytes.

    ``put`` blocks while it is full: the paho thread then leaves the socket alone, the broker keeps
    the messages, and the devices' spools keep the rest. Nothing is dropped here.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._items: deque[Message] = deque()
        self._bytes = 0
        self._in_hand = 0
        self._wanted = 1
        self._closed = False
        self._changed = threading.Condition()

    def put(self, message: Message) -> None:
        """Add a message, waiting for room; after ``close`` it is let go (not acknowledged)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._full())
            if not self._closed:
                self._items.append(message)
                self._bytes += len(message.payload)
                # Whoever takes waits for the first and for the last, and is not woken for others.
                if len(self._items) in (1, self._wanted) or self._full():
                    self._changed.notify_all()

    def take(self, limit: int, *, first_s: float, more_s: float) -> list[Message]:
        """Up to ``limit`` messages: waits ``first_s`` for the first, ``more_s`` for the others."""
        with self._changed:
            self._wanted = limit
            self._changed.wait_for(lambda: self._closed or bool(self._items), first_s)
            if self._items and not self._closed:
                self._changed.wait_for(
                    lambda: self._closed or len(self._items) >= limit or self._full(), more_s
                )
            taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            self._bytes -= sum(len(message.payload) for message in taken)
            self._in_hand += len(taken)
            self._changed.notify_all()
            return taken

    def done(self) -> None:
        """What was taken has been dealt with."""
        with self._changed:
            self._in_hand = 0

    def close(self) -> None:
        """Release everybody who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many messages wait or were taken and are not done."""
        with self._changed:
            return len(self._items) + self._in_hand

    def _full(self) -> bool:
        return len(self._items) >= self._max_messages or self._bytes >= self._max_bytes


class Broker:
    """One site's connection. A broker that is away is waited for and said once."""

    def __init__(
        self,
        site: str,
        address: tuple[str, int],
        queue: Queue,
        *,
        tls: ssl.SSLContext | None,
        login: tuple[str, str] | None,
        keepalive_s: int,
        session_expiry_s: int,
        on_taken: Callable[[int], None],
        on_dropped: Callable[[int], None],
        on_trouble: Callable[[Trouble], None],
        on_refused: Callable[[str], None] | None = None,
        client_id: str | None = None,
        filters: Sequence[str] | None = None,
        replayed: bool = False,
    ) -> None:
        """Nothing is connected before ``start``.

        Args:
            site: whose devices to listen to.
            address: host and port.
            queue: where messages go.
            tls: what a TLS connection is made with; None = without.
            login: name and password.
            keepalive_s: seconds of silence before a ping.
            session_expiry_s: seconds for which the broker keeps the session.
            on_taken: called with a message id of ``publish`` when the broker has taken it.
            on_dropped: called with the broker's own count of messages that it dropped.
            on_trouble: called when something went wrong that was lived with.
            on_refused: called with the broker's reason when it refuses what was published.
            client_id: None = the server's.
            filters: what to subscribe to; None = everything that devices say.
            replayed: believe ``RECEIVED_AT`` of each message that has it, instead of the clock.
        """
        self._site, self._address, self._queue = site, address, queue
        self._client_id = client_id or f"skyreid-server-{site}"
        self._filters = filters or [topics.every_device(site, channel) for channel in CHANNELS]
        self._on_refused, self._replayed = on_refused, replayed
        self._keepalive_s, self._session_expiry_s = keepalive_s, session_expiry_s
        self._on_taken, self._on_dropped, self._on_trouble = on_taken, on_dropped, on_trouble
        self._generation = 0
        self._told_away, self._answered = set[str](), False
        self._connected_at_s: float | None = None
        self._short_lives, self._gets_on = 0, False
        self._packet_max: int | None = None
        self.connected = False
        """Whether the broker has answered and granted the subscriptions."""
        self.was_connected = False
        """Whether it ever has, in this life."""
        self._client = self._make_client()
        if login is not None:
            self._client.username_pw_set(*login)
        if tls is not None:
            self._client.tls_set_context(tls)

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._aim(self._client, clean_start=False)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect; the session stays with the broker. Close the queue first."""
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the broker that it may forget these.

        A message of an earlier connection is left alone: its id may mean another message now. The
        broker sends it again, and the journal knows it already.
        """
        for message in messages:
            if message.qos and message.generation == self._generation:
                self._client.ack(message.mid, message.qos)

    def publish(
        self, topic: str, payload: bytes | str, *, properties: Mapping[str, str], content_type: str
    ) -> int | None:
        """Hand a message to the connection (QoS 1) and return its id; it survives reconnects.

        None: it is larger than the broker said it takes, and was not sent. It would have ended the
        connection, again after each reconnect.
        """
        beside = sum(len(k.encode()) + len(v.encode()) + 5 for k, v in properties.items())
        size = len(topic) + len(payload) + beside + PACKET_OVERHEAD
        if self._packet_max is not None and size > self._packet_max:
            self._on_trouble("unsendable")
            _log.error(
                "not sent: %d bytes to %s, the broker takes %d", size, topic, self._packet_max
            )
            return None
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        extra.ContentType = content_type
        if properties:
            extra.UserProperty = list(properties.items())
        return self._client.publish(topic, payload, qos=1, properties=extra).mid

    @property
    def packet_max(self) -> int:
        """Bytes of the largest packet that the broker takes, as it said."""
        return self._packet_max or (1 << 28) - 1

    def _aim(self, client: Client, *, clean_start: bool) -> None:
        """Say how the next connection is made."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_expiry_s
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        client.connect_async(
            *self._address,
            keepalive=self._keepalive_s,
            clean_start=clean_start,
            properties=properties,
        )

    def _make_client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.max_inflight_messages_set(RECEIVE_MAXIMUM)
        client.reconnect_delay_set(min_delay=1, max_delay=15)
        client.on_connect = self._connected
        client.on_connect_fail = self._unreachable
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        _read_ourselves(client, self._take)
        return client

    def _connected(
        self, _client: Client, _data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._generation += 1
        self._answered = True
        if reason.is_failure:
            self._away(explain_refused(str(reason)))
            return
        self._connected_at_s, self._gets_on = time.monotonic(), False
        self._packet_max = getattr(properties, "MaximumPacketSize", None)
        filters = [(each, 1) for each in self._filters]
        self._client.subscribe([*filters, (BROKER_DROPPED, 0)])
        if not self._short_lives:
            _log.info(
                "broker connected address=%s:%d session_present=%s",
                *self._address,
                flags.session_present,
            )

    def _subscribed(
        self, _client: Client, _data: Any, _mid: int, reasons: Sequence[Any], _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons[: len(self._filters)] if reason.is_failure]
        if refused:
            _log.error("broker refused a subscription: %s; check its access list", refused[0])
            return
        self._told_away.clear()
        self.connected = self.was_connected = True

    def _unreachable(self, _client: Client, _data: Any) -> None:
        # paho calls this from where it caught what went wrong.
        self._away(explain_unreachable(sys.exc_info()[1]))

    def _disconnected(
        self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._generation += 1
        began_s, self._connected_at_s = self._connected_at_s, None
        self.connected = False
        answered, self._answered = self._answered, False
        if not reason.is_failure:
            return
        if not answered or began_s is not None:  # of a refusal the broker's answer was told
            self._away(explain_lost(str(reason), answered=answered))
        if began_s is not None and reason.value != TAKEN_OVER:
            self._judge_life(client, time.monotonic() - began_s)

    def _judge_life(self, client: Client, lived_s: float) -> None:
        """Give a session up that goes on ending its connections as soon as they are made.

        Not for a broker that ends again and again: what it has of a session goes on, and with the
        session it would be lost in the middle of what a device says.
        """
        if lived_s >= SHORT_LIFE_S or self._gets_on:
            if self._short_lives >= SHORT_LIVES_MAX:
                self._aim(client, clean_start=False)
            self._short_lives = 0
            return
        self._short_lives += 1
        if self._short_lives == SHORT_LIVES_MAX:
            self._on_trouble("renewed")
            _log.error(
                "%d connections in a row ended within %.0f s: something in the broker's session "
                "cannot be read; it is given up, devices send again what has no receipt",
                self._short_lives,
                SHORT_LIFE_S,
            )
            self._aim(client, clean_start=True)

    def _away(self, why: str) -> None:
        self.connected = False
        if why not in self._told_away:  # each reason once, until it is back
            self._told_away.add(why)
            _log.warning("broker %s:%d %s; trying again until it answers", *self._address, why)

    def _published(
        self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any
    ) -> None:
        if self._on_refused is not None and reason.value:
            self._on_refused(str(reason))
        self._on_taken(mid)

    def _take(self, packet: Publish) -> None:
        if packet.topic == BROKER_DROPPED:
            if packet.payload.isdigit():
                self._on_dropped(int(packet.payload))
            return
        self._gets_on |= packet.qos > 0 and not packet.dup
        at_ns = _said_ns(packet.properties) if self._replayed else None
        at_ns = time.time_ns() if at_ns is None else at_ns
        of = packet.mid, packet.qos, self._generation
        self._queue.put(Message(packet.topic, packet.payload, packet.properties, at_ns, *of))


def _said_ns(user: Mapping[str, str]) -> int | None:
    """When a message that is replayed came first; None of one that is not."""
    said = user.get(RECEIVED_AT, "")
    return int(said) if len(said) < 20 and said.isascii() and said.isdigit() else None


def _read_ourselves(client: Client, take: Callable[[Publish], None]) -> None:
    """Have ``take`` called with each PUBLISH, instead of what paho makes of it.

    paho ends the connection on letters that MQTT allows, and looking at properties is most of its
    time. It has no hook for this: its reader is replaced. Were it renamed in a later release,
    nothing would arrive, and every test with a broker would say so.
    """
    from paho.mqtt.enums import MQTTErrorCode

    def read() -> MQTTErrorCode:
        packet = client._in_packet
        try:
            found = read_publish(packet["command"], bytes(packet["packet"]))
        except ValueError as error:
            _log.error("a packet of the broker is none: %s", error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        take(found)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    client._handle_publish = read  # type: ignore[method-assign]
