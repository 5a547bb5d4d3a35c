"""Events on their way to the broker: written with their decision, sent until they are taken.

At least once: after a restart what the broker had not confirmed is sent again with the same id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from skyreid.contract import topics
from skyreid.contract.receipt import Receipt, encode_receipt
from skyreid.server.store.journal import Journal

IN_FLIGHT = 200
"""Events handed to the connection and not confirmed, at most."""

Publish = Callable[[str, str], "int | None"]
"""(topic, body) -> message id; None = the broker will never take it."""


class Outbox:
    """Sends the journal's outbox. ``pump`` belongs to the writer, ``confirm`` to any thread."""

    def __init__(self, journal: Journal, site: str, publish: Publish) -> None:
        """``publish`` hands one event to the connection, which keeps it until it is taken."""
        self._journal, self._site, self._publish = journal, site, publish
        self._sent_up_to = 0
        self._in_flight: dict[int, int] = {}  # message id -> number in the outbox
        self._confirmed: deque[int] = deque()
        self._taken: list[int] = []
        self._behind = 0

    @property
    def waiting(self) -> int:
        """Events that the broker has not taken."""
        return len(self._in_flight) + self._behind

    def pump(self) -> int:
        """Forget what was taken, send what waits; returns how many events were sent.

        Raises:
            sqlite3.Error: nothing was forgotten; call again.
        """
        while self._confirmed:
            number = self._in_flight.pop(self._confirmed.popleft(), None)
            if number is not None:
                self._taken.append(number)
        if self._taken:
            self._journal.taken(self._taken)
            self._taken = []
        room = IN_FLIGHT - len(self._in_flight)
        rows = self._journal.outbox(self._sent_up_to, room) if room > 0 else []
        for row in rows:
            mid = self._publish(topics.identity(self._site, row.identity), row.body)
            if mid is None:  # said and counted there; in the log it stays
                self._taken.append(row.id)
            else:
                self._in_flight[mid] = row.id
            self._sent_up_to = row.id
        self._behind = self._journal.outbox_count(self._sent_up_to) if len(rows) >= room else 0
        return len(rows)

    def confirm(self, mid: int) -> None:
        """The broker has taken message ``mid`` (which may be another kind of message)."""
        # Only noted here: the connection calls this with its own locks held.
        self._confirmed.append(mid)


class Sender(Protocol):
    """A connection, as far as it is sent with."""

    def publish(
        self, topic: str, payload: bytes | str, *, properties: Mapping[str, str], content_type: str
    ) -> int | None:
        """Hand a message over."""


def send_receipts(sender: Sender, site: str, receipts: Iterable[tuple[str, Receipt]]) -> None:
    """Tell devices what became of their sightings; a receipt that is lost is asked for again."""
    for device, receipt in receipts:
        sender.publish(
            topics.command(site, device, "receipt"),
            encode_receipt(receipt),
            properties={},
            content_type="application/x-protobuf",
        )
