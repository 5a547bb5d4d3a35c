"""Which stored sighting goes out next, on which lane, and which again (go-back-N). No threads.

The spool knows what has no receipt; this module knows what is on its way, and nobody else sends
again: the connection forgets what it was given.

* live lane: sightings of this boot, each sent once on a connection, soon after it was made;
* backfill lane: everything older, everything of earlier boots, and what went live without a receipt
  for ``resend_after_s``; only when nothing live waits, at a limited rate. It walks from the oldest
  on. Where nothing at all is receipted it starts anew, because what a broker loses is the tail;
  where only some are not, the others go on and those are tried again in the next round.

How much of a lane may be on its way grows with what is receipted: a connection that dies, or a
server that is deaf, costs about as much as was delivered before, however often it happens.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from skyreid.contract.broker import Trouble
from skyreid.contract.picture import Picture, content_type, picture_properties
from skyreid.contract.receipt import Range, Receipt, batch_properties, ranges_of
from skyreid.contract.sighting import Lane, ModelRef, SightingBatch
from skyreid.contract.sighting_wire import MAX_BATCH_BYTES, MAX_SIGHTINGS, encode_raw_batch
from skyreid.edge.delivery import options as limits
from skyreid.edge.delivery.link import Link
from skyreid.edge.delivery.options import OutboxOptions
from skyreid.edge.delivery.rows import Stored
from skyreid.edge.delivery.spool import Spool

log = logging.getLogger(__name__)

WINDOW = 1024
_NEVER = -1e9  # on the monotonic clock
_START, _FLOOR = 256, 8  # sightings of a first connection, of one that follows a good one
_HEAD_MAX, _SIGHTING_HEAD = 2048, 6  # bytes beside the sightings of a batch, beside those of one


class _Flight:
    """What one lane has on its way, and how much it may have.

    ``allowed`` starts small and grows by half of what is receipted, so that what is lost with a
    connection is at most half of what it and the one before delivered, and ``_FLOOR``; those that
    deliver nothing may lose half as much each, down to one sighting.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.first = self.allowed = min(window, max(_START, window // 4))
        self.receipted = 0
        self.flying: OrderedDict[tuple[str, int], tuple[float, int]] = OrderedDict()
        """Boot and seq to when it was sent and its id in the spool."""
        self._tried = False

    def up(self) -> None:
        """A new connection: nothing is on its way."""
        if self.receipted:
            self.first = min(self.window, max(_FLOOR, self.receipted // 2))
        elif self._tried:
            self.first = max(1, self.first // 2)
        self.allowed, self.receipted, self._tried = self.first, 0, False
        self.flying.clear()

    def add(self, group: Sequence[Stored], now: float) -> None:
        self._tried = True
        for row in group:
            self.flying[row.boot, row.seq] = now, row.id

    def receipt(self, boot: str, seqs: Sequence[int]) -> float:
        """When the last of them was sent, of those that were on their way here; else long ago."""
        found = [self.flying.pop((boot, seq)) for seq in seqs if (boot, seq) in self.flying]
        self.earn(len(found))
        return max((at for at, _ in found), default=_NEVER)

    def earn(self, count: int) -> None:
        self.receipted += count
        if count:
            self.allowed = min(self.window, self.allowed + max(1, count // 2))

    def forget(self, before: float) -> int | None:
        """Forgets what was sent before a time; returns the last id of it."""
        last: int | None = None
        while self.flying:
            at, number = next(iter(self.flying.values()))
            if at >= before:
                break
            self.flying.popitem(last=False)
            last = number
        return last


class Outbox:
    """Sends what the spool holds. One thread."""

    def __init__(
        self,
        spool: Spool,
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
            site: of the envelope.
            device: of the envelope.
            model: of heartbeats; sightings travel with the model that made them.
            options: how eagerly is sent.
            keep_pictures: a picture that was sent may be asked for again.
            window: live sightings on their way at most, and half as many of the backfill.
            monotonic: seconds that never jump.
            wall_ns: UTC now.
        """
        self._spool = spool
        self._options = options or OutboxOptions()
        self._keep_pictures = keep_pictures
        self._monotonic, self._wall_ns = monotonic, wall_ns
        self._envelope = SightingBatch(
            site=site,
            device=device,
            boot=spool.boot,
            lane=Lane.LIVE,
            sent_at_ns=0,
            model=model,
        )
        self._link: Link | None = None
        self._unacknowledged: OrderedDict[int, float] = OrderedDict()
        self._live, self._back = _Flight(window), _Flight(max(1, window // 2))
        self._handed: list[tuple[int, int]] = []
        """First and last id of what was ever given to a link; few spans, ascending."""
        self._too_large: set[int] = set()
        self._earlier = spool.last_id()
        """Ids up to here are of earlier boots."""
        self._live_sent = self._back_until = self._earlier
        self._back_sent = 0
        self._tokens, self._tokens_at = float(MAX_SIGHTINGS), monotonic()
        self._pause_s = self._round_s = self._options.resend_after_s
        self._round_at = self._heard_sent_at = self._spoke_at = self._live_at = _NEVER
        self._mark_ns = 0
        self._told_unasked = False
        self._picture: tuple[int, Picture] | None = None
        self.watermark_ns = 0
        """No sighting that is still to be made is older than this."""
        self.dropped: dict[str, int] = Counter()
        """``receipt_unasked`` and ``too_large``, until somebody takes them."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._link is not None

    @property
    def idle(self) -> bool:
        """Nothing without a receipt, and no picture to send."""
        return self._spool.count() == 0 and self._spool.next_picture() is None

    def up(self, link: Link) -> None:
        """There is a new connection: whatever was on its way may be lost."""
        self._link = link
        self._live.up()
        self._back.up()
        self._unacknowledged.clear()
        self._picture = None
        self._pause_s = self._round_s = self._options.resend_after_s
        self._round_at = self._heard_sent_at = self._live_at = _NEVER
        self._spoke_at = _NEVER if self.idle else self._monotonic()  # what waits shows who listens
        self._back_sent = 0
        self._live_sent = self._back_until = self._split()

    def down(self) -> None:
        """The connection is gone."""
        self._link = None

    def receipt(self, receipt: Receipt) -> list[tuple[str, Range]]:
        """Take the server's word for what was given to a link, and for nothing else.

        Returns:
            What the spool is to delete.
        """
        out: list[tuple[str, Range]] = []
        for span in receipt.ranges:
            held = self._spool.find(receipt.boot, span.first, span.last)
            seqs = [seq for number, seq in held if self._was_handed(number)]
            if unasked := len(held) - len(seqs):
                self.dropped["receipt_unasked"] += unasked
                if not self._told_unasked:
                    log.warning("receipt not believed boot=%s: not sent in this run", receipt.boot)
                self._told_unasked = True
            flying = len(self._live.flying) + len(self._back.flying)
            sent_at = self._back.receipt(receipt.boot, seqs)
            if sent_at > _NEVER:  # no sooner again than an answer takes
                took_s = self._monotonic() - sent_at
                self._pause_s = min(
                    max(2 * took_s, self._options.resend_after_s), limits.RESEND_MAX_S
                )
            sent_at = max(sent_at, self._live.receipt(receipt.boot, seqs))
            flying -= len(self._live.flying) + len(self._back.flying)
            self._back.earn(len(seqs) - flying)  # a slow answer is one, too
            self._heard_sent_at = max(self._heard_sent_at, sent_at)
            out.extend((receipt.boot, r) for r in ranges_of(seqs, span.status, span.reason))
        return out

    def acknowledged(self, message: int) -> None:
        """The broker has a message: if it was the picture, the next one may go."""
        self._unacknowledged.pop(message, None)
        if self._picture is not None and self._picture[0] == message:
            self._spool.picture_sent(self._picture[1], keep=self._keep_pictures)
            self._picture = None

    def pump(self) -> None:
        """Send whatever is due now."""
        link = self._link
        if link is None:
            return
        now = self._monotonic()
        if (
            self._unacknowledged
            and now - next(iter(self._unacknowledged.values())) > limits.SILENT_S
        ):
            why = f"acknowledged nothing for {limits.SILENT_S:.0f} s"
            link.hang_up(Trouble("no_answer", why))
            return
        self._look_back(now)
        caught_up = self._send_live(link, now)
        if now - self._spoke_at >= limits.HEARTBEAT_S and self._may_post(link):
            mark = self.watermark_ns if caught_up else self._mark_ns
            self._post(link, Lane.LIVE, (), mark, now)
        if caught_up and self._send_backfill(link, now):
            self._send_picture(link)

    def _look_back(self, now: float) -> None:
        """What to do about those that have had no receipt for long."""
        late = now - self._options.resend_after_s
        if (last := self._live.forget(late)) is not None:
            self._back_until = max(self._back_until, last)
            self._pause_s = max(self._pause_s, 2 * self._options.resend_after_s)
        # Passed over: something that was sent later has its receipt. The others go on.
        self._back.forget(min(late, self._heard_sent_at))
        if self._back.forget(now - self._pause_s) is not None:  # nobody has heard anything
            self._pause_s = min(2 * self._pause_s, limits.RESEND_MAX_S)
            self._back.flying.clear()
            self._back.allowed = min(_FLOOR, self._back.window)
            self._begin_anew(self._pause_s)
        if self._back.flying or self._back_sent < self._back_until or now < self._round_at:
            return
        oldest = self._spool.after(0, 1, until_id=self._back_until)
        if oldest and (oldest[0].boot, oldest[0].seq) not in self._live.flying:
            self._round_at = now + self._round_s
            self._round_s = min(2 * self._round_s, limits.ROUND_MAX_S)
            self._begin_anew(self._round_s)

    def _begin_anew(self, next_after_s: float) -> None:
        self._back_sent = 0
        log.info("resend next_after_s=%g", next_after_s)

    def _split(self) -> int:
        """Ids up to here are for the backfill lane."""
        before = self._spool.now_ns() - int(self._options.backfill_after_s * 1e9)
        return max(self._earlier, self._spool.last_id_before(before))

    def _may_post(self, link: Link) -> bool:
        return len(self._unacknowledged) < link.unacknowledged_max

    def _send_live(self, link: Link, now: float) -> bool:
        """True when nothing live is left to send."""
        while (
            room := min(self._live.allowed - len(self._live.flying), MAX_SIGHTINGS)
        ) > 0 and self._may_post(link):
            split = self._split()
            if split > self._live_sent:  # waited too long: not live any more
                self._live_sent = self._back_until = split
            rows = self._spool.after(self._live_sent, room + 1)
            if not rows:
                return True
            group = self._cut(link, rows[:room])
            if not group:
                self._live_sent = rows[:room][-1].id
                continue
            last = group[-1].id == rows[-1].id
            if last and len(group) < MAX_SIGHTINGS and 0 < now - self._live_at < limits.LINGER_S:
                return False
            # Sightings that still wait may be older than the newest frame: say only what was true
            # when the last one of this batch was made.
            watermark = self.watermark_ns if last else group[-1].watermark_ns
            self._hand(self._live, self._live_sent, group, now)
            self._live_sent, self._live_at = group[-1].id, now
            self._post(link, Lane.LIVE, group, watermark, now)
        return not self._spool.after(self._live_sent, 1)

    def _send_backfill(self, link: Link, now: float) -> bool:
        """True when the backfill lane is empty."""
        rate = self._options.backfill_per_s
        self._tokens = min(self._tokens + (now - self._tokens_at) * rate, 2.0 * MAX_SIGHTINGS)
        self._tokens_at = now
        while self._back_sent < self._back_until:
            room = min(
                MAX_SIGHTINGS, int(self._tokens), self._back.allowed - len(self._back.flying)
            )
            if room <= 0 or not self._may_post(link):
                return False
            rows = self._spool.after(self._back_sent, room, until_id=self._back_until)
            waiting = [row for row in rows if (row.boot, row.seq) not in self._live.flying]
            group = self._cut(link, waiting)
            if not group:
                self._back_sent = rows[-1].id if rows else self._back_until
                continue
            self._hand(self._back, self._back_sent, group, now)
            self._back_sent = group[-1].id
            self._tokens -= len(group)
            self._post(link, Lane.BACKFILL, group, 0, now)
        return True

    def _cut(self, link: Link, rows: Sequence[Stored]) -> Sequence[Stored]:
        """The first of ``rows`` that may travel in one batch: one boot, one model, not too large.

        One that alone is larger than the broker or the contract takes is passed over, and kept.
        """
        rows = [row for row in rows if self._fits(link, row)]
        room = self._room(link, rows) if rows else 0
        for index, row in enumerate(rows):
            room -= len(row.data) + _SIGHTING_HEAD
            if (row.boot, row.model) != (rows[0].boot, rows[0].model) or (index and room < 0):
                return rows[:index]
        return rows

    def _fits(self, link: Link, row: Stored) -> bool:
        size = len(row.data) + _SIGHTING_HEAD
        if size + _HEAD_MAX <= min(MAX_BATCH_BYTES, link.room("sightings")):
            return True
        if size <= self._room(link, [row]):
            return True
        if row.id not in self._too_large:
            self._too_large.add(row.id)
            self.dropped["too_large"] += 1
            why = f"takes {link.room('sightings')} bytes in a message at most (max_packet_size): "
            why += "larger sightings are passed over"
            link.complain(Trouble("packet_limit", why, human=True))
        return False

    def _room(self, link: Link, rows: Sequence[Stored]) -> int:
        """Bytes for sightings in a batch of (at most) these."""
        said = batch_properties(rows[0].boot, [row.seq for row in rows])
        head = encode_raw_batch(self._of(rows, Lane.BACKFILL, 2**62), ())
        return min(MAX_BATCH_BYTES, link.room("sightings", said)) - len(head)

    def _hand(self, flight: _Flight, after: int, group: Sequence[Stored], now: float) -> None:
        """All that the spool holds behind ``after``, to the last of ``group``, was given away."""
        flight.add(group, now)
        self._too_large.difference_update(row.id for row in group)
        spans: list[tuple[int, int]] = []
        for first, last in sorted([*self._handed, (after + 1, group[-1].id)]):
            if spans and first <= spans[-1][1] + 1:
                spans[-1] = spans[-1][0], max(last, spans[-1][1])
            else:
                spans.append((first, last))
        self._handed = spans

    def _was_handed(self, number: int) -> bool:
        handed = any(first <= number <= last for first, last in self._handed)
        return handed and number not in self._too_large

    def _send_picture(self, link: Link) -> None:
        picture = None if self._picture is not None else self._spool.next_picture()
        if picture is None or not self._may_post(link):
            return
        said, kind = picture_properties(picture), content_type(picture)
        if len(picture.jpeg) > (room := link.room("picture", said)):
            why = f"takes {room} bytes of a picture in a message at most (max_packet_size)"
            link.complain(Trouble("packet_limit", why, human=True))
            return
        message = link.send("picture", picture.jpeg, properties=said, content_type=kind)
        self._unacknowledged[message] = self._monotonic()
        self._picture = message, picture

    def _of(self, group: Sequence[Stored], lane: Lane, watermark_ns: int) -> SightingBatch:
        envelope = replace(
            self._envelope, lane=lane, sent_at_ns=self._wall_ns(), watermark_ns=watermark_ns
        )
        return replace(envelope, boot=group[0].boot, model=group[0].model) if group else envelope

    def _post(
        self, link: Link, lane: Lane, group: Sequence[Stored], watermark_ns: int, now: float
    ) -> None:
        envelope = self._of(group, lane, watermark_ns)
        said = batch_properties(envelope.boot, [row.seq for row in group]) if group else None
        batch = encode_raw_batch(envelope, (row.data for row in group))
        self._unacknowledged[link.send("sightings", batch, properties=said)] = now
        if lane is Lane.LIVE:
            self._spoke_at, self._mark_ns = now, watermark_ns
