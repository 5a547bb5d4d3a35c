"""Which stored sighting goes out next, on which lane, and which again (go-back-N). No threads.

The spool knows what has no receipt; this module knows what is on its way. After a new connection,
or when a receipt does not come, everything without a receipt is sent again from the oldest on
(go-back-N), because what a broker loses is the tail: so each lane stays in order.

* live lane: sightings of this boot, sent soon after they were made;
* backfill lane: everything older, and everything of earlier boots; only when nothing live waits,
  at a limited rate.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pydantic import Field

from skyreid.contract.picture import CONTENT_TYPE, Picture, picture_properties
from skyreid.contract.receipt import Receipt, batch_properties
from skyreid.contract.settings import Seconds, Section
from skyreid.contract.sighting import Lane, ModelRef, SightingBatch
from skyreid.contract.sighting_wire import MAX_SIGHTINGS, encode_raw_batch
from skyreid.contract.topics import DeviceChannel
from skyreid.edge.delivery.spool import Spool, Stored

log = logging.getLogger(__name__)

RESEND_MAX_S = 60.0
WINDOW = 1024
HEARTBEAT_S = 1.0
"""Without sightings an empty batch carries the watermark this often."""


class Link(Protocol):
    """The way to the broker, as far as the outbox sees it."""

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
        """Hand over a message; returns its number, which is named when the broker has it."""
        ...


class OutboxOptions(Section):
    """How eagerly is sent; also a part of ``[mqtt]`` in the settings. Seconds of wall time."""

    resend_after_s: Seconds = Field(10.0, gt=0)
    """Seconds without a receipt after which sightings are sent again; doubles up to 60 s."""
    backfill_after_s: Seconds = Field(30.0, gt=0)
    """A sighting that is sent later than this after it was made goes to the backfill lane."""
    backfill_per_s: float = Field(500.0, gt=0)
    """Sightings a second of the backfill lane at most."""


class Outbox:
    """Sends what the spool holds. One thread."""

    def __init__(
        self,
        spool: Spool,
        link: Link,
        *,
        site: str,
        device: str,
        model: ModelRef,
        options: OutboxOptions | None = None,
        keep_pictures: bool = False,
        window: int = WINDOW,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up.

        Args:
            spool: where the sightings are; pictures too.
            link: the way to the broker.
            site: of the envelope.
            device: of the envelope.
            model: of heartbeats; sightings travel with the model that made them.
            options: how eagerly is sent.
            keep_pictures: a picture that was sent may be asked for again.
            window: sightings on their way at most; beyond it sending waits for receipts.
            monotonic: seconds that never jump.
            wall_ns: UTC now.
        """
        self._spool, self._link = spool, link
        self._options = options or OutboxOptions()
        self._keep_pictures, self._window = keep_pictures, window
        self._monotonic, self._wall_ns = monotonic, wall_ns
        self._envelope = SightingBatch(
            site=site,
            device=device,
            boot=spool.boot,
            lane=Lane.LIVE,
            sent_at_ns=0,
            model=model,
        )
        self._connected = False
        self._flying: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._earlier = spool.last_id()
        """Ids up to here are of earlier boots."""
        self._live_sent = self._back_until = self._earlier
        self._back_sent = 0
        self._tokens, self._tokens_at = float(MAX_SIGHTINGS), monotonic()
        self._resend_s = self._options.resend_after_s
        self._spoke_at = -1e9
        self._picture: tuple[int, Picture] | None = None
        self.watermark_ns = 0
        """No sighting that is still to be made is older than this."""
        self.sent = 0
        """Sightings handed to the broker, repeats included."""
        self.resent = 0
        """Times that everything without a receipt was sent again."""

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._connected

    @property
    def idle(self) -> bool:
        """Nothing without a receipt, and no picture to send."""
        return self._spool.count() == 0 and self._spool.next_picture() is None

    def up(self) -> None:
        """There is a new connection: whatever was on its way may be lost."""
        self._connected = True
        self._resend_s = self._options.resend_after_s
        self._spoke_at = -1e9
        self._rewind()

    def down(self) -> None:
        """The connection is gone."""
        self._connected = False
        self._flying.clear()
        self._picture = None

    def receipt(self, receipt: Receipt) -> None:
        """Note what the server has; the caller deletes it from the spool."""
        for span in receipt.ranges:
            if span.last - span.first >= len(self._flying):
                gone = [
                    k
                    for k in self._flying
                    if k[0] == receipt.boot and span.first <= k[1] <= span.last
                ]
            else:
                gone = [(receipt.boot, seq) for seq in range(span.first, span.last + 1)]
            for key in gone:
                self._flying.pop(key, None)
        self._resend_s = self._options.resend_after_s

    def acknowledged(self, message: int) -> None:
        """The broker has a message: if it was the picture, the next one may go."""
        if self._picture is not None and self._picture[0] == message:
            self._spool.picture_sent(self._picture[1], keep=self._keep_pictures)
            self._picture = None

    def pump(self) -> None:
        """Send whatever is due now."""
        if not self._connected:
            return
        now = self._monotonic()
        if self._flying and now - next(iter(self._flying.values())) > self._resend_s:
            self.resent += 1
            self._resend_s = min(2 * self._resend_s, RESEND_MAX_S)
            log.info("resend waiting=%d next_after_s=%g", len(self._flying), self._resend_s)
            self._rewind()
        if not self._send_live(now):
            return
        if now - self._spoke_at >= HEARTBEAT_S:
            self._post(Lane.LIVE, (), self.watermark_ns, now)
        if self._send_backfill(now):
            self._send_picture()

    def _rewind(self) -> None:
        self._flying.clear()
        self._picture = None
        self._back_sent = 0
        self._live_sent = self._back_until = self._split()

    def _split(self) -> int:
        """Ids up to here are for the backfill lane."""
        before = self._wall_ns() - int(self._options.backfill_after_s * 1e9)
        return max(self._earlier, self._spool.last_id_before(before))

    def _send_live(self, now: float) -> bool:
        """True when nothing live is left to send."""
        while (room := self._window - len(self._flying)) > 0:
            split = self._split()
            if split > self._live_sent:  # waited too long: not live any more
                self._live_sent = self._back_until = split
            rows = self._spool.after(self._live_sent, min(MAX_SIGHTINGS, room) + 1)
            group = _same_envelope(rows[: min(MAX_SIGHTINGS, room)])
            if not group:
                return True
            last = len(group) == len(rows)
            # Sightings that still wait may be older than the newest frame: say only what was true
            # when the last one of this batch was made.
            watermark = self.watermark_ns if last else group[-1].watermark_ns
            self._live_sent = group[-1].id
            self._post(Lane.LIVE, group, watermark, now)
        return False

    def _send_backfill(self, now: float) -> bool:
        """True when the backfill lane is empty."""
        rate = self._options.backfill_per_s
        self._tokens = min(self._tokens + (now - self._tokens_at) * rate, 2.0 * MAX_SIGHTINGS)
        self._tokens_at = now
        while self._back_sent < self._back_until:
            room = min(MAX_SIGHTINGS, int(self._tokens), self._window - len(self._flying))
            if room <= 0:
                return False
            rows = self._spool.after(self._back_sent, room, until_id=self._back_until)
            group = _same_envelope(rows)
            if not group:
                self._back_sent = self._back_until
                break
            self._back_sent = group[-1].id
            self._tokens -= len(group)
            self._post(Lane.BACKFILL, group, 0, now)
        return True

    def _send_picture(self) -> None:
        if self._picture is not None or (picture := self._spool.next_picture()) is None:
            return
        message = self._link.send(
            "picture",
            picture.jpeg,
            properties=picture_properties(picture),
            content_type=CONTENT_TYPE,
        )
        self._picture = message, picture

    def _post(self, lane: Lane, group: Sequence[Stored], watermark_ns: int, now: float) -> None:
        envelope = replace(
            self._envelope, lane=lane, sent_at_ns=self._wall_ns(), watermark_ns=watermark_ns
        )
        if group:
            envelope = replace(envelope, boot=group[0].boot, model=group[0].model)
        said = batch_properties(envelope.boot, [row.seq for row in group]) if group else None
        batch = encode_raw_batch(envelope, (row.data for row in group))
        self._link.send("sightings", batch, properties=said)
        for row in group:
            self._flying[row.boot, row.seq] = now
        self.sent += len(group)
        if lane is Lane.LIVE:
            self._spoke_at = now


def _same_envelope(rows: Sequence[Stored]) -> Sequence[Stored]:
    """The head of ``rows`` that may travel in one batch."""
    for index, row in enumerate(rows):
        if (row.boot, row.model) != (rows[0].boot, rows[0].model):
            return rows[:index]
    return rows
