"""The server's MQTT client: messages in, acknowledged only when told to; messages out.

The only file that knows paho-mqtt. A persistent MQTT 5 session with a fixed client id: while the
server is away the broker keeps what devices send, and what was not acknowledged comes again.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skyreid.contract import topics
from skyreid.contract.broker import explain_lost, explain_refused, explain_unreachable
from skyreid.contract.topics import DeviceChannel
from skyreid.server.broker.decoding import Message

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

_log = logging.getLogger(__name__)

BROKER_DROPPED = "$SYS/broker/publish/messages/dropped"
RECEIVE_MAXIMUM = 1_000
_CHANNELS: tuple[DeviceChannel, ...] = ("sightings", "birth", "status", "health", "picture")


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
        self._closed = False
        self._changed = threading.Condition()

    def put(self, message: Message) -> None:
        """Add a message, waiting for room; after ``close`` it is let go (not acknowledged)."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._full())
            if not self._closed:
                self._items.append(message)
                self._bytes += len(message.payload)
                self._changed.notify_all()

    def take(self, limit: int, *, first_s: float, more_s: float) -> list[Message]:
        """Up to ``limit`` messages: waits ``first_s`` for the first, ``more_s`` for the others."""
        with self._changed:
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
        """
        self._site, self._address, self._queue = site, address, queue
        self._keepalive_s, self._session_expiry_s = keepalive_s, session_expiry_s
        self._on_taken, self._on_dropped = on_taken, on_dropped
        self._generation = 0
        self._told_away = self._answered = False
        self.connected = False
        """Whether the broker has answered and granted the subscriptions."""
        self._client = self._make_client()
        if login is not None:
            self._client.username_pw_set(*login)
        if tls is not None:
            self._client.tls_set_context(tls)

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_expiry_s
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self._client.connect_async(
            *self._address, keepalive=self._keepalive_s, clean_start=False, properties=properties
        )
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
    ) -> int:
        """Hand a message to the connection (QoS 1) and return its id; it survives reconnects."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        extra.ContentType = content_type
        if properties:
            extra.UserProperty = list(properties.items())
        return self._client.publish(topic, payload, qos=1, properties=extra).mid

    def _make_client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"skyreid-server-{self._site}",
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.max_inflight_messages_set(RECEIVE_MAXIMUM)
        client.reconnect_delay_set(min_delay=1, max_delay=15)
        client.on_connect = self._connected
        client.on_connect_fail = self._unreachable
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        client.on_publish = self._published
        return client

    def _connected(
        self, client: Client, _data: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._generation += 1
        self._answered = True
        if reason.is_failure:
            self._away(explain_refused(str(reason)))
            return
        filters = [(topics.every_device(self._site, channel), 1) for channel in _CHANNELS]
        client.subscribe([*filters, (BROKER_DROPPED, 0)])
        _log.info(
            "broker connected address=%s:%d session_present=%s",
            *self._address,
            flags.session_present,
        )

    def _subscribed(
        self, _client: Client, _data: Any, _mid: int, reasons: Sequence[Any], _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons[: len(_CHANNELS)] if reason.is_failure]
        if refused:
            _log.error("broker refused a subscription: %s; check its access list", refused[0])
            return
        self._told_away = self._answered = False
        self.connected = True

    def _unreachable(self, _client: Client, _data: Any) -> None:
        # paho calls this from where it caught what went wrong.
        self._away(explain_unreachable(sys.exc_info()[1]))

    def _disconnected(
        self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._generation += 1
        self.connected = False
        answered, self._answered = self._answered, False
        if reason.is_failure:
            self._away(explain_lost(str(reason), answered=answered))

    def _away(self, why: str) -> None:
        self.connected = False
        if not self._told_away:
            self._told_away = True
            _log.warning("broker %s:%d %s; trying again until it answers", *self._address, why)

    def _published(
        self, _client: Client, _data: Any, mid: int, _reason: Any, _properties: Any
    ) -> None:
        self._on_taken(mid)

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic == BROKER_DROPPED:
            if message.payload.isdigit():
                self._on_dropped(int(message.payload))
            return
        pairs = getattr(message.properties, "UserProperty", ())
        self._queue.put(
            Message(
                message.topic,
                bytes(message.payload),
                dict(pairs),
                time.time_ns(),
                message.mid,
                message.qos,
                self._generation,
            )
        )
