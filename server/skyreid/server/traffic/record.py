"""``skyreid-server record``: what devices say, with the time at which it came, on disk.

A client of its own beside the site's server, which notices nothing of it. What the broker handed
out is acknowledged once it is written, so that a connection that is lost costs nothing.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from skyreid.contract import topics
from skyreid.contract.traffic import Recorded, TrafficWriter
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.ingest import CHANNELS, Broker, Queue
from skyreid.server.config import MqttSection

_log = logging.getLogger(__name__)

SESSION_S = 60
"""A connection that is lost for longer may cost messages; the broker forgets us after it."""
_AT_ONCE, _WAIT_S = 1_000, 0.2


@dataclass
class Tally:
    """What a recording has come to."""

    channels: Counter[str] = field(default_factory=Counter)
    """Messages by channel."""
    size_bytes: int = 0
    full: bool = False
    """Whether it ended for its size."""
    broker_dropped: int = 0
    """Messages that the broker says it dropped since it started, for whomever."""

    def text(self, directory: Path) -> str:
        """One line."""
        each = ", ".join(f"{count} {name}" for name, count in sorted(self.channels.items()))
        end = "; full, it ended by itself" if self.full else ""
        return f"{directory}: {each or 'nothing'}, {self.size_bytes / 1e6:.2f} MB{end}"


def record(
    site: str,
    mqtt: MqttSection,
    directory: Path,
    stop: threading.Event,
    *,
    pictures: bool,
    max_bytes: int,
) -> Tally:
    """Record until ``stop`` is set or ``max_bytes`` are written.

    Raises:
        InputError: there is a recording already, or it cannot be written.
    """
    tally = Tally()
    queue = Queue(mqtt.queue_messages, mqtt.queue_mb << 20)
    channels = [c for c in CHANNELS if pictures or c != "picture"]

    def dropped(count: int) -> None:
        tally.broker_dropped = count

    broker = Broker(
        site,
        mqtt.address[:2],
        queue,
        tls=mqtt.tls(),
        login=mqtt.login,
        keepalive_s=mqtt.keepalive_s,
        session_expiry_s=SESSION_S,
        on_taken=lambda mid: None,
        on_dropped=dropped,
        on_trouble=lambda kind: _log.warning("broker: %s", kind),
        client_id=f"skyreid-record-{uuid.uuid4().hex[:12]}",
        filters=[topics.every_device(site, channel) for channel in channels],
    )
    with TrafficWriter(directory) as writer:
        broker.start()
        try:
            while not stop.is_set() and not tally.full:
                messages = queue.take(_AT_ONCE, first_s=_WAIT_S, more_s=0)
                _write(writer, messages, tally, max_bytes)
                broker.acknowledge(messages)
                queue.done()
        finally:
            queue.close()
            broker.stop()
    return tally


def _write(writer: TrafficWriter, messages: list[Message], tally: Tally, max_bytes: int) -> None:
    for message in messages:
        encoded = TrafficWriter.encode(
            Recorded(message.received_at_ns, message.topic, message.payload, message.properties)
        )
        if writer.size_bytes + len(encoded) > max_bytes:
            tally.full = True
            break
        writer.add(encoded)
        tally.channels[message.topic.rpartition("/")[2]] += 1
    writer.flush()
    tally.size_bytes = writer.size_bytes
