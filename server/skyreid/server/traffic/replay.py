"""``skyreid-server replay``: recorded traffic to a server again, byte for byte.

Nothing of a message is changed: its sightings keep their keys, so that the server replayed to comes
to the same identities with the same names, and a second replay adds nothing. Beside the bytes it
says when they came first, and a server with ``mqtt.replayed`` takes that for the time, however fast
they come: lags, rates and clocks ahead are what they were. Births and statuses are not retained:
nothing of a replay stays with the broker.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from skyreid.contract import topics
from skyreid.contract.errors import InputError, MessageError
from skyreid.contract.receipt import Status, decode_batch_properties, decode_receipt
from skyreid.contract.sighting_wire import decode_usable
from skyreid.contract.traffic import Recorded, read_traffic
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.ingest import RECEIVED_AT, Broker, Queue
from skyreid.server.config import MqttSection

_log = logging.getLogger(__name__)

WINDOW_SIGHTINGS, WINDOW_MESSAGES = 2_000, 500
"""So many sightings without a receipt, and messages that the broker has not taken, are on their way
at most."""
SESSION_S = 60
"""A connection that is lost for longer may cost receipts; the broker forgets us after it."""
PATIENCE_S = 30.0
"""For so long nothing is answered, and what was not is given up."""
_TURN_S = 0.05
_TEXT_MAX_BYTES = 65_535
"""Of a topic or of one half of a user property (MQTT 5.0, 1.5.4)."""
Run = tuple[str, str]
"""device, boot"""


@dataclass
class Outcome:
    """What became of a replay."""

    sent: int = 0
    stored: int = 0
    refused: int = 0
    waiting: dict[Run, set[int]] = field(default_factory=dict)
    """Sightings without a receipt."""
    unsent: int = 0
    """Messages that the broker does not take."""
    stopped: bool = False

    @property
    def unanswered(self) -> int:
        """How many sightings have no receipt."""
        return sum(map(len, self.waiting.values()))

    @property
    def good(self) -> bool:
        """Whether all was sent, and all of it answered."""
        return not (self.unanswered or self.unsent or self.stopped)

    def text(self) -> str:
        """One line."""
        return (
            f"{self.sent} messages sent{', stopped' if self.stopped else ''}; sightings: "
            f"{self.stored} stored, {self.refused} refused, {self.unanswered} without an "
            f"answer; {self.unsent} messages not taken by the broker"
        )


def replay(
    site: str,
    mqtt: MqttSection,
    directories: Sequence[Path],
    stop: threading.Event,
    *,
    speed: float,
) -> Outcome:
    """Send recordings, merged by their times, and wait for the receipts.

    Args:
        site: whose traffic it must be.
        mqtt: the broker of a server to replay to.
        directories: recordings.
        stop: set to end early.
        speed: times as fast as it was; 0 = as fast as the server gives receipts.

    Raises:
        InputError: a recording is missing, damaged or another site's; nobody listens.
    """
    for directory in directories:  # all of it before anything is sent
        for message in read_traffic(directory):
            require_sendable(message, site, directory)
    messages = heapq.merge(*map(read_traffic, directories), key=lambda m: m.at_ns)
    player = _Player(site, mqtt, stop)
    with player.connected():
        player.play(messages, speed)
        player.settle()
    return player.outcome


def sightings_of(message: Recorded) -> tuple[Run, set[int]] | None:
    """The sightings in a message for which there is to be a receipt: device, boot, their numbers.

    None where there is to be none.
    """
    try:
        topic = topics.parse_device(message.topic)
        if topic.channel != "sightings":
            return None
        if beside := decode_batch_properties(message.properties):
            return (topic.device, beside[0]), set(beside[1])
        decoded = decode_usable(message.payload, site=topic.site, device=topic.device)
    except MessageError:  # the server sets it aside, and answers nothing
        return None
    seqs = {s.seq for s in decoded.batch.sightings}
    seqs |= {bad.seq for bad in decoded.unusable if bad.seq is not None}
    return ((topic.device, decoded.batch.boot), seqs) if seqs else None


def require_sendable(message: Recorded, site: str, directory: Path) -> None:
    """Check that a recorded message can be said again, and to this site.

    Raises:
        InputError: it cannot: a broker would refuse it, or it is another site's.
    """
    if not message.topic.startswith(f"{topics.ROOT}/{site}/dev/"):
        raise InputError(
            f"recording {directory} has {message.topic!r:.80}, the settings are of site {site!r}: "
            "give the server that it is replayed to the site file of the recording"
        )
    try:
        longest = max(
            len(text.encode())
            for text in (message.topic, *message.properties, *message.properties.values())
        )
    except UnicodeEncodeError:
        longest = _TEXT_MAX_BYTES + 1
    if longest > _TEXT_MAX_BYTES or set("+#\0") & set(message.topic):
        raise InputError(
            f"recording {directory} has a message to {message.topic!r:.80} that MQTT cannot carry: "
            "it was not recorded as it came"
        )


class _Player:
    """One connection that speaks for all devices."""

    def __init__(self, site: str, mqtt: MqttSection, stop: threading.Event) -> None:
        self.outcome = Outcome()
        self._stop = stop
        self._answered: dict[Run, set[int]] = {}
        self._answered_at_s = time.monotonic()
        self._taken = 0
        self._refusal: str | None = None
        self._queue = Queue(mqtt.queue_messages, mqtt.queue_mb << 20)
        self._broker = Broker(
            site,
            mqtt.address[:2],
            self._queue,
            tls=mqtt.tls(),
            login=mqtt.login,
            keepalive_s=mqtt.keepalive_s,
            session_expiry_s=SESSION_S,
            on_taken=self._note_taken,
            on_dropped=lambda count: None,
            on_trouble=lambda kind: _log.warning("broker: %s", kind),
            on_refused=self._note_refused,
            client_id=f"skyreid-replay-{uuid.uuid4().hex[:12]}",
            filters=[topics.command(site, "+", "receipt")],
        )

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect, waiting for the broker."""
        self._broker.start()
        try:
            while not self._broker.connected and not self._stop.wait(_TURN_S):
                pass
            yield
        finally:
            self._queue.close()
            self._broker.stop()

    def play(self, messages: Iterable[Recorded], speed: float) -> None:
        """Send in order, each at its time."""
        began_s, first_ns = time.monotonic(), None
        for message in messages:
            first_ns = message.at_ns if first_ns is None else first_ns
            due_s = began_s + (message.at_ns - first_ns) / 1e9 / speed if speed else began_s
            while not self._stop.is_set():
                left_s = due_s - time.monotonic()
                if left_s <= 0 and (speed or self._has_room()):
                    break
                self._listen(min(_TURN_S, left_s) if left_s > 0 else _TURN_S)
            if self._stop.is_set():
                self.outcome.stopped = True
                return
            self._send(message)
            self._listen(0)

    def settle(self) -> None:
        """Wait for what is on its way."""
        self._answered_at_s = time.monotonic()
        while not self._stop.is_set() and self._waits() and not self._gave_up():
            self._listen(_TURN_S)
        self.outcome.stopped |= self._stop.is_set()
        self.outcome.unsent += self.outcome.sent - self._taken

    def _send(self, message: Recorded) -> None:
        beside = {**message.properties, RECEIVED_AT: str(message.at_ns)}
        sent = self._broker.publish(
            message.topic,
            message.payload,
            properties=beside,
            content_type="application/octet-stream",
        )
        if sent is None:
            self.outcome.unsent += 1
            return
        self.outcome.sent += 1
        if found := sightings_of(message):
            run, seqs = found
            fresh = seqs - self._answered.get(run, set())
            self.outcome.waiting.setdefault(run, set()).update(fresh)

    def _listen(self, wait_s: float) -> None:
        """Take receipts in.

        Raises:
            InputError: the broker says that nobody listens, or that we may not speak.
        """
        if self._refusal is not None:
            raise InputError(
                f"replay: the broker says {self._refusal}: start the server first, on a broker "
                "that lets this client publish for its devices"
            )
        messages = self._queue.take(1_000, first_s=wait_s, more_s=0)
        for message in messages:
            self._note_receipt(message)
        self._broker.acknowledge(messages)
        self._queue.done()

    def _note_receipt(self, message: Message) -> None:
        device = message.topic.split("/")[-2]
        try:
            receipt = decode_receipt(message.payload)
        except MessageError as error:
            _log.warning("a receipt of %s: %s", device, error)
            return
        run = device, receipt.boot
        waiting = self.outcome.waiting.get(run, set())
        for part in receipt.ranges:
            # Not every number of the range: a stranger's may be long.
            told = {seq for seq in waiting if part.first <= seq <= part.last}
            waiting -= told
            self._answered.setdefault(run, set()).update(told)
            if part.status is Status.STORED:
                self.outcome.stored += len(told)
            else:
                self.outcome.refused += len(told)
            if told:
                self._answered_at_s = time.monotonic()

    def _has_room(self) -> bool:
        if self.outcome.sent - self._taken >= WINDOW_MESSAGES:
            return False
        return self.outcome.unanswered < WINDOW_SIGHTINGS or self._gave_up()

    def _waits(self) -> bool:
        return self.outcome.unanswered > 0 or self._taken < self.outcome.sent

    def _gave_up(self) -> bool:
        return time.monotonic() - self._answered_at_s > PATIENCE_S

    def _note_taken(self, _mid: int) -> None:
        self._taken += 1

    def _note_refused(self, reason: str) -> None:
        self._refusal = self._refusal or reason
