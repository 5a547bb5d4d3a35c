"""The main path of the server, in one thread: what arrived is stored, acknowledged and matched.

::

    queue -> sort -> one transaction -> receipts, acknowledge -> matcher -> decisions + outbox
                                                                 (one transaction) -> events

Nothing is acknowledged that is not stored, nothing is told that is not in the log. Everybody else
reads: the API sees ``state`` (immutable, replaced as a whole) and the journal file.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from skyreid.contract.errors import InputError
from skyreid.contract.sighting import Lane
from skyreid.contract.site import Site
from skyreid.server.broker.decoding import (
    Message,
    Sorted,
    receipts,
    refuse_defect,
    sort_messages,
)
from skyreid.server.broker.ingest import Broker, Queue
from skyreid.server.broker.letters import DeadLetters
from skyreid.server.broker.opening import Opening
from skyreid.server.broker.outbox import Outbox, send_receipts
from skyreid.server.counters import Metrics
from skyreid.server.devices import Devices, Oldest
from skyreid.server.disk import Disk, Stopped
from skyreid.server.forget import Also, Forgetting
from skyreid.server.isolation import isolate, resumed, shown_to
from skyreid.server.live import DeviceNews, Hub
from skyreid.server.matching.identity import Applied, Decision, State
from skyreid.server.matching.matcher import Matcher
from skyreid.server.people.asking import People
from skyreid.server.rules import Rules
from skyreid.server.store.faults import Fault
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.journal import Journal
from skyreid.server.store.pictures import EarlyPictures
from skyreid.server.store.records import Arrived
from skyreid.server.store.retention_options import RetentionOptions
from skyreid.server.store.scrub import scrub
from skyreid.server.store.snapshots import Held, Start
from skyreid.server.store.spans import Spans

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

IDLE_S = 0.1
SNAPSHOT_ROWS = 10_000
"""Sightings and decisions after which the snapshot is brought forward: a start reads them again."""


class Writer:
    """Owns the journal and the matcher; ``run`` is its thread."""

    def __init__(
        self,
        site: Site,
        queue: Queue,
        journal: Journal,
        matcher: Matcher,
        devices: Devices,
        broker: Broker,
        outbox: Outbox,
        hub: Hub,
        metrics: Metrics,
        gallery: Gallery,
        retention: RetentionOptions | None,
        opening: Opening,
        people: Callable[..., People],
        *,
        batch_messages: int,
        batch_wait_s: float,
        period_s: float,
        micro_batch_s: float,
    ) -> None:
        """``matcher`` has been given the log and the stored sightings of its window already."""
        self._site, self.queue, self._journal, self._matcher = site, queue, journal, matcher
        self.broker, self.outbox, self.hub, self._metrics = broker, outbox, hub, metrics
        self._batch_messages, self._batch_wait_s = batch_messages, batch_wait_s
        self._period_s, self._micro_batch_ns = period_s, round(micro_batch_s * 1e9)
        self._stopping = threading.Event()
        self._given: deque[tuple[Rules, threading.Event]] = deque()
        self._settled = True  # nothing was fed since the last round without a horizon
        self._round_at_s = 0.0
        self._news, self._letters = DeviceNews(hub), DeadLetters(broker, site.id)
        self._early = EarlyPictures(journal.aside.has_sighting_of)
        self.oldest, self.opening = Oldest(), opening
        self.notices: tuple[str, ...] = ()
        """What is wrong and not the writer's: what the journal lost, certificates."""
        self._disk = Disk(journal, metrics, self._stopping)
        self.devices, self.gallery = devices, gallery
        """Read and asked by the API; changed here only."""
        self.uninformative: tuple[str, ...] = ()
        """Pairs of views in which looks tell nobody apart; see ``Scores``."""
        self.state: State = matcher.state
        """Who is who, as the log has it. Replaced as a whole, never changed."""
        self.undecided = self.unsettled = 0
        """Sightings of which the log does not know yet; past blocks not decided for good."""
        self.quarantined = journal.aside.quarantined()
        """Sightings on which matching failed, and which it is not shown."""
        self.stored, _ = journal.counts()
        """Sightings in the journal."""
        self.forgetting = Forgetting(
            *(journal, lambda: self.state, self._decide, gallery, (self._early,)),
            retention,
            window_s=lambda: self._matcher.shown_s,
        )
        self.people = people(gallery, lambda: self.state, self._link, Spans(journal.reading))
        """Asked by the API to undo a return; turned here."""
        self._keeps_pictures = retention is None or retention.pictures_h > 0
        self._scrub = journal.reading(scrub)

    @property
    def settled(self) -> bool:
        """Nobody speaks, and everything that was said is stored and decided."""
        # In this order: what leaves the queue has unsettled the matcher before.
        return len(self.queue) == 0 and self._settled

    @property
    def storing(self) -> bool:
        """False while the disk refuses."""
        return self._disk.fault is None

    @property
    def fault(self) -> Fault | None:
        """Why the journal cannot be written just now."""
        return self._disk.fault

    def feed(self, stored: Iterable[Arrived]) -> None:
        """Give the matcher sightings that are in the journal."""
        stored = list(stored)
        try:
            self.gallery.take(stored)
            for item in stored:
                self._matcher.add(item.device, item.boot, item.model_key, item.sighting)
                self._settled = False
        except Exception:  # a repeat changes nothing: each once more, alone
            if len(stored) == 1:
                self._quarantine(stored, traceback.format_exc())
            else:
                for item in stored:
                    self.feed([item])
        self.undecided = self._matcher.undecided
        self.oldest.fed(max((a.sighting.captured_at_ns for a in stored), default=None))

    def run(self) -> None:
        """Work until ``stop``. An error in here is a defect and ends the server."""
        try:
            while not self._stopping.is_set():
                self.step(IDLE_S)
            self._bring_snapshot(1)
        except Stopped:
            _log.warning("stopped before the disk took everything; the broker still has the rest")

    def step(self, wait_s: float) -> None:
        """One turn: wait up to ``wait_s`` for messages, take them in, match, send what is due.

        Raises:
            Stopped: told to stop while the disk refused.
        """
        messages = self.queue.take(self._batch_messages, first_s=wait_s, more_s=self._batch_wait_s)
        if messages:
            self._take_in(messages)
            self.queue.done()  # only now: the matcher knows of them
        self._obey()
        while self._given:
            self._change(*self._given.popleft())
        self._match(time.monotonic())
        if self.people.options.returns or self.people.undos:
            self.people.turn(self._matcher.decided_ns, everything=self._settled)
        self._bring_snapshot(SNAPSHOT_ROWS)
        self._persist(lambda: next(self._scrub, None))
        self._persist(self.outbox.pump)
        self._news.alarm(self.devices.alarms, lambda kind: self._metrics.alarms.labels(kind).inc())
        self._news.tell(time.monotonic(), self.devices.by_id)
        self.devices.wait.show(self._metrics)  # what `gauges` does not ask for, and the next
        self.hub.count_dropped(self._metrics.listeners_dropped.inc)

    def follow(self, rules: Rules) -> threading.Event:
        """Go by other rules from the next step on; the event is set once that is so. Any thread."""
        taken = threading.Event()
        self._given.append((rules, taken))
        return taken

    def stop(self) -> None:
        """End ``run`` after what it is doing; call from any thread."""
        self._stopping.set()
        self.queue.close()

    def _take_in(self, messages: Sequence[Message]) -> None:
        batch, new = self._store(messages)
        if len(new) < len(batch.sightings):
            self._look_for_clashes(batch, new)
        if batch.pictures or self._early.waiting:
            self._store_pictures(batch)
        for refused in batch.refused:
            self._metrics.rejected.labels(refused.reason).inc()
            self._letters.set_aside(refused)
        send_receipts(self.broker, self._site.id, receipts(batch.sightings, batch.refused))
        # Last, on the same connection: a kill between the two costs a repeated message, which gets
        # its receipt again. The other way round a receipt would be lost until the device asks.
        self.broker.acknowledge(messages)
        self._note_devices(batch)
        self._count(batch, new)
        self.feed(new)

    def _store(self, messages: Sequence[Message]) -> tuple[Sorted, list[Arrived]]:
        """Sort messages and store what is in them; one that cannot be stored spoils no other."""
        batch = sort_messages(messages, self._site, self.devices.door, self.opening)
        batch.refuse_erased(self.state.erased_tracks, self._site)
        if not batch.sightings and all(row.boot is None for row in batch.heard):
            return batch, []  # health: that somebody was heard is not worth a transaction
        try:
            with self._metrics.commit_seconds.time():
                new = self._persist(lambda: self._journal.store(batch.sightings, batch.heard))
        except Exception as error:
            if self._disk.is_fault(error):
                raise
            if len(messages) == 1:
                _log.exception("a message cannot be stored; it is set aside")
                return Sorted(refused=[refuse_defect(messages[0], error, self._site)]), []
            half = len(messages) // 2
            batch, new = self._store(messages[:half])
            rest, more = self._store(messages[half:])
            batch.extend(rest)
            new += more
        return batch, new

    def _look_for_clashes(self, batch: Sorted, new: Sequence[Arrived]) -> None:
        """Refuse what has the number of another sighting; it would be lost as a repeat."""
        fresh = {id(item) for item in new}
        repeated = [s for s in batch.sightings if id(s) not in fresh]
        batch.refuse_clashes(self._journal.aside.differing(repeated), self._site)

    def _store_pictures(self, batch: Sorted) -> None:
        """Store pictures of sightings that are here; the others wait a little for theirs."""
        known, lost = self._early.sort(batch.pictures, time.time_ns())
        self._metrics.rejected.labels("picture").inc(lost)
        if known and self._keeps_pictures:
            self._persist(lambda: self._journal.store((), (), known))
        batch.pictures = known

    def _count(self, batch: Sorted, new: Sequence[Arrived]) -> None:
        for lane, count in Counter(item.lane for item in new).items():
            self._metrics.stored.labels(Lane(lane).name.lower()).inc(count)
        self._metrics.duplicates.inc(len(batch.sightings) - len(new))
        self._metrics.pictures.inc(len(batch.pictures))
        for name, count in Counter(item.device for item in new).items():
            if name in self.devices.by_id:
                self.devices.by_id[name].sightings += count
        decided_ns = self._matcher.decided_ns
        self._metrics.late.inc(sum(item.sighting.captured_at_ns <= decided_ns for item in new))
        self.stored += len(new)

    def _note_devices(self, batch: Sorted) -> None:
        told = (batch.heard, batch.births, batch.healths, batch.statuses)
        for name in self.devices.take(*told, time.monotonic()):
            self._news.note(name)
        for refused in batch.refused:  # of devices that are known by now
            if refused.reason == "clash" and refused.device is not None:
                self.devices.alarm(self.devices.by_id[refused.device], "clash")

    def _match(self, now_s: float) -> None:
        """One round: decide what everybody has spoken for, write it down, then tell."""
        early, last = now_s - self._round_at_s < self._period_s, self.devices.last
        if early and not (last and last.has_spoken_of(self._matcher.next_ns)):
            return
        self._round_at_s = now_s
        horizon_ns = self.devices.horizon_ns(now_s)
        self._news.tell_wait(now_s, self.devices.wait)
        if self._settled:
            return
        if horizon_ns is not None:
            horizon_ns -= horizon_ns % self._micro_batch_ns  # the matcher takes whole ones
        if not self._matcher.due(horizon_ns):
            return
        behind_ns = (horizon_ns or self._matcher.decided_ns) - self._matcher.decided_ns
        self._metrics.match_lag.set(max(0, behind_ns) / 1e9)
        with self._metrics.match_seconds.time():
            made = self._advance(horizon_ns)
        if made:
            self._write_down(made)
        # Only now: whoever reads that all is settled finds it in the log.
        self.undecided, self.unsettled = self._matcher.undecided, self._matcher.unsettled
        self.uninformative = self._matcher.scores.looks.uninformative
        self.oldest.decided(self._matcher.decided_ns if self.undecided else None)
        self._settled = horizon_ns is None

    def _advance(self, horizon_ns: int | None) -> list[Applied]:
        """Decide; what matching fails on is set aside, in the journal too, and it goes on."""
        try:
            return self._matcher.advance(horizon_ns, self._write_down)
        except MemoryError:
            raise
        except Exception:
            isolated = isolate(self._matcher, self.state, self._journal, horizon_ns)
        for culprits, why in isolated.culprits:
            self._quarantine(culprits, why)
        self._matcher = isolated.matcher
        return isolated.made

    def _quarantine(self, culprits: Sequence[Arrived], why: str) -> None:
        self._persist(lambda: self._journal.aside.quarantine(culprits, time.time_ns(), why))
        self.quarantined = self._journal.aside.quarantined()

    def _obey(self) -> None:
        """Do what an operator wrote into the journal meanwhile."""
        written = self._journal.written_elsewhere()
        now_s = time.monotonic()
        due = written or now_s >= self.forgetting.due_at_s
        if due and self._persist(lambda: self.forgetting.turn(now_s, asked=written)):
            self.stored, _ = self._journal.counts()
        if written:
            if retried := self._persist(self._journal.aside.retried):
                self.feed(retried)
            self.quarantined = self._journal.aside.quarantined()
            if self.devices.door is not None:
                self.devices.door.named = self._journal.aside.admitted()

    def _change(self, rules: Rules, taken: threading.Event) -> None:
        """Go by other rules. A new matcher is shown what a start would show it."""
        if rules.begin is not None:
            matcher = rules.begin(self.state)
            window = self._persist(lambda: shown_to(self.state, self._journal, matcher.shown_s))
            matcher.recall, self._matcher = self._matcher.recall, matcher
            self.feed(window)
        self._site, self._period_s = rules.site, rules.period_s
        self.people.options, self.people.priors = rules.people, rules.priors
        rules.hold_for(self.devices)
        taken.set()

    def begin(self, start: Start) -> None:
        """Show matching what it had in hand at the snapshot, and what came after it."""
        shown = resumed(start, self._journal, self._matcher)
        self.people.resume([t.key for t in self._matcher.held()] + [item.key for item in shown])
        self.feed(shown)

    def _held(self) -> Held:
        matcher, (sighting, _) = self._matcher, self._journal.last
        return Held(matcher.held(), matcher.waiting(), matcher.window_s, sighting)

    def _bring_snapshot(self, rows: int) -> None:
        """Bring the snapshot forward, if so many rows came after it."""
        if self._journal.since_snapshot >= rows:
            self._write_down((), bring=True)
            try:
                self.gallery.flush(self._journal.last[0])
            except InputError as error:  # the next start reads those sightings again
                _log.error("gallery: %s", error)

    def _decide(self, decision: Decision, also: Also) -> None:
        """Take in a decision that is not matching's; an erasure brings the snapshot up to it."""
        events = self._matcher.apply(decision)
        self._write_down([Applied(decision, events)], also, bring=decision.kind == "erase")
        self.undecided = self._matcher.undecided
        self.stored, _ = self._journal.counts()
        self.quarantined = self._journal.aside.quarantined()

    def _link(self, decision: Decision) -> None:
        """Take in a return, or that it is undone."""
        self._write_down([Applied(decision, self._matcher.apply(decision))])
        if decision.link is not None:
            self._metrics.returns.labels(decision.link.state).inc()

    def _write_down(
        self, made: Sequence[Applied], also: Also | None = None, *, bring: bool = False
    ) -> None:
        """Put decisions into the log, their events into the outbox; then tell the listeners."""
        decided_at_ns, after = time.time_ns(), self._journal.decision_count()
        state, held = self._matcher.state, self._held() if bring else None
        snapshot = None if held is None else (state, held)
        self._persist(lambda: self._journal.decide(made, decided_at_ns, also, snapshot))
        if held is not None:
            self._matcher.state = self._journal.brought(state, held)
        self.state = self._matcher.state
        if self.people.options.returns:
            self.people.note(applied.decision for applied in made)
        for number, applied in enumerate(made, after + 1):
            self._metrics.decisions.labels(applied.decision.kind).inc()
            for position, event in enumerate(applied.events):
                self.hub.send("identity", event.to_json(), (number, position))

    def _persist(self, write: Callable[[], _T]) -> _T:
        try:
            return write()
        except sqlite3.Error as error:
            return self._disk.again(write, error)
