"""The device's MQTT client: paho, kept to one file.

Callbacks run on paho's thread; they only put an event into the inbox of whoever owns the outbox.
A broker that cannot be reached is not an error: it is said once, and tried again for ever.
"""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skyreid.contract import topics
from skyreid.contract.broker import explain_lost, explain_refused, explain_unreachable
from skyreid.contract.device import Birth, encode_birth, encode_status
from skyreid.contract.errors import MessageError, PlatformError
from skyreid.contract.json_message import CONTENT_TYPE
from skyreid.contract.receipt import Receipt, decode_receipt
from skyreid.contract.topics import DeviceChannel

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Up:
    """Connected, and subscribed to receipts."""


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


class Publisher:
    """Keeps one MQTT 5 connection; implements ``outbox.Link``."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        site: str,
        device: str,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        keepalive_s: int = 20,
        inflight_max: int = 64,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            address: host and port of the broker.
            site: of the topics.
            device: of the topics and the client's name.
            tls: what a TLS connection is made with; None = without.
            login: name and password.
            keepalive_s: seconds of silence after which a ping is sent.
            inflight_max: QoS 1 messages on their way at once.

        Raises:
            PlatformError: paho-mqtt 2 is not installed.
        """
        try:
            from paho.mqtt.client import Client, MQTTv5
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise PlatformError(
                "paho-mqtt 2 is not installed: pip install 'skyreid[edge]'"
            ) from error
        self._address, self._site, self._device = address, site, device
        self._keepalive_s = keepalive_s
        self._birth: Birth | None = None
        self._notify: Callable[[Event], None] = lambda event: None
        self._told_away = self._answered = False
        self._receipt_topic = topics.command(site, device, "receipt")
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=f"skyreid-edge-{device}", protocol=MQTTv5
        )
        self._client: Client = client
        client.max_inflight_messages_set(inflight_max)  # only possible before connect
        client.connect_timeout = 5.0
        client.reconnect_delay_set(1, 8)
        client.will_set(
            topics.device(site, device, "status"), encode_status(False), qos=1, retain=True
        )
        if login is not None:
            client.username_pw_set(*login)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_connect_fail = self._unreachable
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        client.on_publish = self._published

    def start(self, birth: Birth, notify: Callable[[Event], None]) -> None:
        """Connect in the background, and again whenever the connection is lost.

        Args:
            birth: what this device is; said at each connection.
            notify: takes the events, from paho's thread; must not block.
        """
        self._birth, self._notify = birth, notify
        # clean_start: what was sent to us meanwhile is not needed, because whatever has no receipt
        # is sent again and receipted again; and a device that never returns leaves nothing behind.
        self._client.connect_async(*self._address, keepalive=self._keepalive_s, clean_start=True)
        self._client.loop_start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Say ``offline`` and leave in good order; without a broker just leave."""
        if self._client.is_connected():
            last = self._client.publish(
                topics.device(self._site, self._device, "status"),
                encode_status(False),
                qos=1,
                retain=True,
            )
            try:
                last.wait_for_publish(timeout_s)
            except (RuntimeError, ValueError) as error:  # the connection broke meanwhile
                log.info("broker did not take the last word error=%s", error)
        self._client.disconnect()
        self._client.loop_stop()

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
        """See ``outbox.Link.send``."""
        extra = None
        if properties or content_type:
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties

            extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if properties:
                extra.UserProperty = list(properties.items())
            if content_type:
                extra.ContentType = content_type
        topic = topics.device(self._site, self._device, channel)
        return self._client.publish(topic, payload, qos=qos, retain=retain, properties=extra).mid

    def _connected(
        self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._away(explain_refused(str(reason)))
            return
        own = (self._receipt_topic, topics.command(self._site, self._device, "picture"))
        client.subscribe([(topic, 1) for topic in own])

    def _subscribed(
        self, client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            log.error("broker refused a subscription reason=%s; check its access list", refused[0])
            return
        self._told_away = False
        log.info("broker connected address=%s:%d", *self._address)
        self.send("status", encode_status(True), retain=True)
        if self._birth is not None:
            birth = encode_birth(self._birth)
            self.send("birth", birth, retain=True, content_type=CONTENT_TYPE)
        self._notify(Up())

    def _unreachable(self, _client: Client, _data: Any) -> None:
        # paho calls this from where it caught what went wrong.
        self._away(explain_unreachable(sys.exc_info()[1]))

    def _disconnected(
        self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        answered, self._answered = self._answered, False
        self._notify(Down())
        if reason.is_failure:
            self._away(explain_lost(str(reason), answered=answered))

    def _away(self, why: str) -> None:
        if not self._told_away:
            self._told_away = True
            log.warning(
                "broker %s:%d %s; sightings wait in the spool until it answers", *self._address, why
            )

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic != self._receipt_topic:
            self._notify(PictureWanted(payload))
            return
        try:
            self._notify(Received(decode_receipt(payload)))
        except MessageError as error:
            log.warning("receipt ignored reason=%s", error)

    def _published(
        self, _client: Client, _data: Any, mid: int, _reason: Any, _properties: Any
    ) -> None:
        self._notify(Taken(mid))
