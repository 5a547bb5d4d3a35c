"""One MQTT 5 connection of the device: paho, kept to one file, which forgets all at its end.

A client of paho sends again, after a reconnect, whatever had no PUBACK; so does the outbox, which
knows what has no receipt. Two who send again send without end: so every connection is a client of
its own, and the outbox alone decides. It gets the connection with ``Up`` and leaves it at ``Down``.

Callbacks run on the thread that lives the connection; they only put an event into the inbox of
whoever owns the outbox.
"""

from __future__ import annotations

import logging
import math
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skyreid.contract import broker, topics
from skyreid.contract.broker import Trouble
from skyreid.contract.device import Birth, encode_birth, encode_status
from skyreid.contract.errors import MessageError, PlatformError
from skyreid.contract.json_message import CONTENT_TYPE
from skyreid.contract.receipt import Receipt, decode_receipt
from skyreid.contract.topics import DeviceChannel
from skyreid.edge.delivery.link import Link

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

log = logging.getLogger(__name__)

CONNECT_S, ANSWER_S = 5.0, 10.0
"""A broker that lets TCP, or the answer to CONNECT, SUBSCRIBE and birth, take longer is left."""
LISTENER_S = 60.0
"""So long a broker that says that nobody listens is believed; then it is tried whether it is so."""
_NO_LIMIT, _NOBODY = (1 << 28) - 1, 0x10


@dataclass(frozen=True)
class Up:
    """Connected, subscribed to receipts, and introduced."""

    link: Link


@dataclass(frozen=True)
class Down:
    """Not connected any more."""


@dataclass(frozen=True)
class Received:
    """A receipt of the server."""

    receipt: Receipt


@dataclass(frozen=True)
class PictureWanted:
    """Somebody asks for the picture of a tracklet; not looked at yet."""

    payload: bytes


@dataclass(frozen=True)
class Taken:
    """The broker has a message."""

    message: int


Event = Up | Down | Received | PictureWanted | Taken


@dataclass(frozen=True)
class Who:
    """What all connections of a device have in common."""

    address: tuple[str, int]
    site: str
    device: str
    login: tuple[str, str] | None
    keepalive_s: int
    inflight_max: int
    tls: ssl.SSLContext | None
    client_id: str
    birth: Birth | None
    """Said at each connection; None = this is no device, it only asks."""


class Connection:
    """One connection, from CONNECT to its end; implements ``link.Link``."""

    def __init__(
        self,
        who: Who,
        *,
        retain: bool,
        notify: Callable[[Event], None],
        on_ready: Callable[[], None],
        complain: Callable[[Trouble], None],
    ) -> None:
        """Nothing is opened before ``live``.

        Args:
            who: what all connections of the device have in common.
            retain: whether retained messages are tried.
            notify: takes the events, on the thread of ``live``; must not block.
            on_ready: called before ``Up``.
            complain: takes what cannot be sent while the connection goes on.
        """
        self._who, self._retain, self._notify = who, retain, notify
        self._on_ready, self._complain = on_ready, complain
        self._end: Trouble | None = None
        self._cause: BaseException | None = None
        self._answered = False
        self._greeting: list[Callable[[], object]] = []
        self._receipt_topic = topics.command(who.site, who.device, "receipt")
        self._quality = 1
        self.packet_bytes = _NO_LIMIT
        self._granted_max = self.unacknowledged_max = who.inflight_max
        self.ready = False
        """The broker has answered, and somebody listens to this device, as far as it says."""
        self.introduced = False
        """The broker has taken the status; it is to learn of a good end."""
        self._ask_again_s = math.inf
        self._nobody_until_s: float | None = None
        self.retain_refused = False
        self.receipts = 0
        """Receipts that came over it."""
        self.granted = ""
        """What the broker said of itself, in words."""
        self._client = self._make_client()

    def live(self, leaving: threading.Event) -> Trouble:
        """Connect, and read and write until the connection ends; returns why it did."""
        who, client = self._who, self._client
        try:
            # clean_start: what was sent to us meanwhile is not needed, because whatever has no
            # receipt is sent again and receipted again; and a device that never returns leaves
            # nothing behind.
            client.connect(*who.address, keepalive=who.keepalive_s, clean_start=True)
        except (OSError, ValueError) as error:
            return broker.unreachable(error, secure=who.tls is not None)
        answer_by_s = time.monotonic() + ANSWER_S
        try:
            while client.loop(0.2) == 0 and self._end is None and not leaving.is_set():
                if time.monotonic() >= self._ask_again_s:
                    self._ask_again_s = math.inf
                    self.send("status", encode_status(True), retain=True)
                if not (self.ready or self.introduced) and time.monotonic() > answer_by_s:
                    self.hang_up(Trouble("no_answer", f"did not answer within {ANSWER_S:.0f} s"))
        except Exception as error:  # whatever a decoder of paho makes of bytes that are no MQTT
            self.hang_up(Trouble("refused", f"does not speak MQTT 5: {error!r}", human=True))
        if leaving.is_set():
            client.disconnect()
            client.loop(0.1)
        if (open_socket := client.socket()) is not None:
            open_socket.close()
        return self._end or self._lost(0x80, "Unspecified error")

    def hang_up(self, why: Trouble) -> None:
        """End the connection; any thread. The first reason counts."""
        self._end = self._end or why

    def complain(self, about: Trouble) -> None:
        """See ``link.Link.complain``."""
        self._complain(about)

    def say_offline(self, timeout_s: float) -> None:
        """The last word; waits until the broker has it."""
        topic = topics.device(self._who.site, self._who.device, "status")
        last = self._client.publish(
            topic, encode_status(False), qos=self._quality, retain=self._retain
        )
        try:
            last.wait_for_publish(timeout_s)
        except (RuntimeError, ValueError) as error:  # the connection broke meanwhile
            log.info("broker did not take the last word error=%s", error)

    def room(self, channel: DeviceChannel, properties: Mapping[str, str] | None = None) -> int:
        """See ``link.Link.room``."""
        topic = topics.device(self._who.site, self._who.device, channel)
        said = sum(5 + len(k.encode()) + len(v.encode()) for k, v in (properties or {}).items())
        # Fixed header 5, lengths of topic and properties 2 and 4, packet id 2, content type 40.
        return self.packet_bytes - len(topic) - said - 53

    def send(
        self,
        channel: DeviceChannel,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> int:
        """See ``link.Link.send``."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        if len(payload) > self.room(channel, properties):
            self.hang_up(
                Trouble(
                    "packet_limit",
                    f"takes messages of {self.packet_bytes} bytes at most (max_packet_size), and "
                    f"this device's {channel} has {len(payload)}",
                    human=True,
                )
            )
            return 0
        extra = None
        if properties or content_type:
            extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if properties:
                extra.UserProperty = list(properties.items())
            if content_type:
                extra.ContentType = content_type
        topic = topics.device(self._who.site, self._who.device, channel)
        return self._client.publish(
            topic,
            payload,
            qos=min(qos, self._quality),
            retain=retain and self._retain,
            properties=extra,
        ).mid

    def _make_client(self) -> Client:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        who = self._who
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=who.client_id,
            protocol=MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(65_535)  # the outbox keeps to the broker's limit
        if who.birth is not None:
            status = topics.device(who.site, who.device, "status")
            client.will_set(status, encode_status(False), qos=1, retain=self._retain)
        if who.login is not None:
            client.username_pw_set(*who.login)
        if who.tls is not None:
            client.tls_set_context(who.tls)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        client.on_publish = self._published
        client.on_log = self._logged
        # With it, paho leaves all writing to loop(): publish() only queues, on any thread.
        client.on_socket_register_write = lambda *_: None
        return client

    def _connected(
        self, client: Client, _data: Any, _flags: Any, reason: Any, properties: Any
    ) -> None:
        from paho.mqtt.subscribeoptions import SubscribeOptions

        self._answered = True
        if reason.is_failure:
            self.retain_refused = reason.value == 0x9A and self._retain
            self.hang_up(broker.refused(reason.value, str(reason)))
            return
        self.packet_bytes = getattr(properties, "MaximumPacketSize", _NO_LIMIT)
        at_once = getattr(properties, "ReceiveMaximum", 65_535)
        self._granted_max = self.unacknowledged_max = min(self._who.inflight_max, at_once)
        self._retain = self._retain and getattr(properties, "RetainAvailable", 1) == 1
        self._quality = min(1, getattr(properties, "MaximumQoS", 1))
        limit = "any size" if self.packet_bytes == _NO_LIMIT else f"{self.packet_bytes} bytes"
        keeps = "keeps" if self._retain else "does not keep"
        self.granted = f"messages of {limit}, {at_once} at once, {keeps} retained ones"
        # Retained commands are none: what was asked long ago would come at every connection.
        now = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        wanted = [(self._receipt_topic, now)]
        birth = self._who.birth
        if birth is not None and birth.pictures != "never":
            wanted.append((topics.command(self._who.site, self._who.device, "picture"), now))
        client.subscribe(wanted)

    def _subscribed(
        self, _client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            why = f"refused a subscription: {refused[0]}; check its access list"
            self.hang_up(Trouble("not_authorised", why, human=True))
            return
        birth = self._who.birth
        if birth is not None:  # else nobody is there to introduce
            said = encode_birth(birth)
            self._greeting = [
                lambda: self.send("status", encode_status(True), retain=True),
                lambda: self.send("birth", said, retain=True, content_type=CONTENT_TYPE),
            ]
        self._introduce()

    def _introduce(self) -> None:
        """One message after the other: a broker may want no more at once."""
        if self._greeting:
            self._greeting.pop(0)()
        elif not self.ready:
            self.ready = True
            self._on_ready()
            self._notify(Up(self))

    def _published(
        self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any
    ) -> None:
        if reason is not None and reason.is_failure:
            self.hang_up(broker.refused(reason.value, f"publishing, {reason}"))
        elif self.ready and self._speaks_to_nobody(reason):
            self.ready = False
            self._notify(Down())  # what it sent is lost: it begins with that again
        elif self.ready:
            self.unacknowledged_max = self._granted_max
            self._notify(Taken(mid))
        else:
            self.introduced = True
            if self._greeting or not self._speaks_to_nobody(reason):
                self._introduce()

    def _speaks_to_nobody(self, reason: Any) -> bool:
        """Whether to wait for a listener: what is sent before the server has subscribed is lost.

        It would be the oldest of the spool, while what follows arrives: out of order. A receipt
        shows that a broker is wrong about that.
        """
        if reason is None or reason.value != _NOBODY or self.receipts:
            self._nobody_until_s = None
            return False
        now = time.monotonic()
        if self._nobody_until_s is None:
            self._nobody_until_s = now + LISTENER_S
            self._complain(Trouble("nobody", "has nobody who listens to this device"))
        elif now >= self._nobody_until_s and not self.ready:
            self._nobody_until_s = None
            self.unacknowledged_max = 1  # a trial: else what follows it could overtake it
            return False
        self._ask_again_s = now + 1.0
        return True

    def _disconnected(
        self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self.hang_up(self._lost(reason.value, str(reason)))

    def _lost(self, code: int, reason: str) -> Trouble:
        return broker.lost(
            code,
            reason,
            answered=self._answered,
            client_id=self._who.client_id,
            cause=self._cause,
        )

    def _logged(self, _client: Client, _data: Any, _level: int, _line: str) -> None:
        # paho tells of what reading and writing raised from where it caught it, and only there.
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._cause = error

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic != self._receipt_topic:
            self._notify(PictureWanted(payload))
            return
        try:
            receipt = decode_receipt(payload)
        except MessageError as error:
            log.warning("receipt ignored reason=%s", error)
            return
        self.receipts += 1
        self._notify(Received(receipt))


def require_paho() -> None:
    """Raise PlatformError where paho-mqtt 2 is not installed."""
    try:
        import paho.mqtt.subscribeoptions  # noqa: F401
    except ImportError as error:
        raise PlatformError("paho-mqtt 2 is not installed: pip install 'skyreid[edge]'") from error
