"""How long after a sighting was published its event is told; and when too many are published.

A server with a core of its own, behind mosquitto, its window full; a listener of ``/v1/events``; as
many devices as the made-up world has cameras, each of which sends as a device does.
"""

from __future__ import annotations

import json
import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyreid.contract import topics
from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.receipt import batch_properties
from skyreid.contract.sighting import Kind, Lane, Sighting, SightingBatch
from skyreid.contract.sighting_wire import encode_batch, encode_sighting
from skyreid.server.bench.chain import LIMIT_S, Chain, cpu_s, send, wait
from skyreid.server.bench.load import BOOT, DIM, MODEL, SITE
from skyreid.server.bench.match import BATCH_NS, known, percentiles
from skyreid.server.bench.world import LASTS_S, WINDOW_S, World
from skyreid.server.broker.decoding import Message
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied
from skyreid.server.store.gallery import Gallery, gallery_of
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived
from skyreid.server.store.snapshots import Held

PICTURES_PER_S = 10
"""A device says this often what it saw since, and up to when."""
HEARTBEAT_S = 1.0
"""How often it says so where it saw nobody."""
WARM_S = 10.0
"""What is published before is not counted: all come at once who are in view at the start."""
BEGINS_IN_S = 2.0
TOO_MANY = 3.2
"""Times what would fill the core at the usual cost of a sighting: the more come at once the less
each costs, and the server gets behind then."""
FEWER = 0.5
"""Of the same, what comes afterwards, when it catches up."""
ENOUGH_S = 2.0
"""It has caught up when no more waits than what comes in so long."""
LOOKS_EVERY_S = 0.25
NOBODY_RETURNS = "[people]\nreturns = false\n"
"""Three minutes after a start everybody in the window is asked for, which is not to be measured."""


@dataclass
class Published:
    """What was published, and when; seconds are monotonic."""

    new: list[tuple[TrackKey, int, float]] = field(default_factory=list)
    """Each tracklet's first sighting, its capture time, and when it was published."""
    marks: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    """Watermarks of each device, ascending, and when they were published."""
    sightings: int = 0
    last: Any = None
    """What is known of the last message."""

    def horizon_s(self, captured_ns: int) -> float:
        """When every device had spoken for the micro-batch of a capture time."""
        end_ns = -(-captured_ns // BATCH_NS) * BATCH_NS
        out = 0.0
        for marks_ns, at_s in self.marks.values():
            first = bisect_left(marks_ns, end_ns)
            if first == len(at_s):
                raise InputError("bench: a device ended before its last micro-batch did")
            out = max(out, at_s[first])
        return out


class Ear:
    """Hears the events of a server: when it was told first who each tracklet is."""

    def __init__(self) -> None:
        self.heard_s: dict[TrackKey, float] = {}

    def listen(self, lines: Iterable[bytes]) -> None:
        """Until they end."""
        named = b""
        for line in lines:
            if line.startswith(b"event: "):
                named = line[7:].strip()
            elif line.startswith(b"data: ") and named == b"identity":
                now_s, event = time.monotonic(), json.loads(line[6:])
                if event["type"] in ("assigned", "tentative"):
                    for track in event["tracks"]:
                        self.heard_s.setdefault(TrackKey.from_json(track), now_s)


def waits_s(
    published: Published, heard_s: Mapping[TrackKey, float], since_s: float, until_s: float
) -> tuple[list[float], list[float]]:
    """Of tracklets published meanwhile: from publishing, and from the horizon, to their event.

    Raises:
        InputError: of some tracklet, whenever published, no event was heard.
    """
    lost = [key for key, _, _ in published.new if key not in heard_s]
    if lost:
        raise InputError(
            f"bench: no event of {len(lost)} of {len(published.new)} tracklets: {lost[0]}"
        )
    asked = [row for row in published.new if since_s <= row[2] < until_s]
    whole = [heard_s[key] - at_s for key, _, at_s in asked]
    after = [heard_s[key] - published.horizon_s(captured_ns) for key, captured_ns, _ in asked]
    return whole, after


def measure(folder: Path, active: int, seconds: float) -> dict[str, Any]:
    """Everything, by the names that ``bench`` prints.

    Args:
        folder: an empty one.
        active: tracklets in the window.
        seconds: so long with as many sightings as the window's tracklets give, and so long with
            ``TOO_MANY`` times what the server can decide.
    """
    world = World(active, placed=True, start_ns=time.time_ns())
    with _cores() as (its, ours):
        os.sched_setaffinity(0, ours)
        with Chain(folder, world.cameras, NOBODY_RETURNS) as chain:
            there = fill(chain.journal, world)
            server = chain.start_server(its)
            ear = Ear()
            threading.Thread(target=ear.listen, args=(chain.told(),), daemon=True).start()
            with chain.publisher() as client:
                return _Bench(chain, client, server.pid, ear, there).run(world, seconds)


def fill(journal_path: Path, world: World) -> int:
    """Write what a server had seen and decided in a window of time; how many sightings it is."""
    journal = Journal(journal_path, SITE, pictures_max_bytes=1)
    gallery = Gallery(gallery_of(journal_path))
    state, past = journal.start().state, world.past(WINDOW_S)
    rows = [
        Arrived(d, b, int(Lane.LIVE), m, DIM, world.start_ns, s, encode_sighting(s))
        for d, b, m, s in past
    ]
    journal.store(rows)
    gallery.take(rows)
    held, log = known(past, world.start_ns)
    made = []
    for decision in log:
        state, events = identity.apply(state, decision)
        made.append(Applied(decision, events))
    in_hand = Held(held, (), WINDOW_S, journal.last[0])
    journal.decide(made, world.start_ns, None, (state, in_hand))
    journal.taken([row.id for row in journal.outbox(0, len(made))])
    gallery.flush(journal.last[0])
    journal.close()
    return len(rows)


@dataclass(frozen=True)
class Look:
    """What a server had decided at a moment, and of how much."""

    at_s: float
    cpu_s: float
    published: int
    decided: int

    @property
    def behind(self) -> int:
        """Sightings that were published and are not decided."""
        return self.published - self.decided


_Message = tuple[float, str, list[Sighting], int]
"""When a device says what, and its watermark."""


class _Bench:
    """One server, whose load is turned up and down."""

    def __init__(self, chain: Chain, client: Any, pid: int, ear: Ear, there: int) -> None:
        self._chain, self._client, self._pid, self._ear = chain, client, pid, ear
        self._there = there  # sightings in the journal before any was published
        self._published = Published()
        self._times = 1.0  # the usual load
        self._looks: list[Look] = []
        self._spoke_s: dict[str, float] = {}

    def run(self, world: World, seconds: float) -> dict[str, Any]:
        world.start_ns = time.time_ns() + round(BEGINS_IN_S * 1e9)
        begin_s = time.monotonic() + BEGINS_IN_S
        coming = self._messages(world, begin_s)
        threading.Thread(target=self._watch, daemon=True).start()
        since_s, until_s = begin_s + WARM_S, begin_s + WARM_S + seconds
        self._go_on(coming, until_s)
        usual = self._between(since_s, until_s)
        share = _per_s(usual, "cpu_s")
        self._times = TOO_MANY / share
        over_s = until_s + LASTS_S  # until then they become more
        self._go_on(coming, over_s + seconds)
        over = self._between(over_s, over_s + seconds)
        self._times = FEWER / share
        # As little as with the usual load, for what comes then, or what comes in some seconds.
        least = max(look.behind for look in usual) * max(1.0, FEWER / share)
        enough = round(max(least, ENOUGH_S * FEWER / share * _per_s(usual, "published")))
        self._go_on(coming, time.monotonic() + LIMIT_S, enough)
        drained = [*self._between(over[-1].at_s, time.monotonic()), self._look()]
        self._times = 0.0
        self._go_on(coming, time.monotonic() + LASTS_S + 2 * HEARTBEAT_S)
        self._published.last.wait_for_publish(LIMIT_S)
        # A server is settled too while the broker still has some for it, or for those who listen.
        all_of_it = self._published.sightings + self._there
        wait(lambda: self._chain.stored == all_of_it, f"all {all_of_it} sightings are stored", 0.5)
        wait(lambda: b'"settled":true' in self._chain.get("/readyz"), "everything is decided")
        told = [key for key, _, _ in self._published.new]
        wait(lambda: all(key in self._ear.heard_s for key in told), "an event of each is heard")
        whole, after = waits_s(self._published, self._ear.heard_s, since_s, until_s)
        decided_per_s = _per_s(over, "decided")
        load_per_s = _per_s(drained, "published")
        to_catch_up = max(0, over[-1].behind - enough)
        return {
            "event_s": percentiles(whole),
            "event_after_horizon_s": percentiles(after),
            "event_load_per_s": round(_per_s(usual, "published")),
            "event_cores": round(share, 2),
            "event_capacity_per_s": round(decided_per_s),
            "event_overload": {
                "published_per_s": round(_per_s(over, "published")),
                "behind": over[-1].behind,
                "load_per_s": round(load_per_s),
                "drained_s": round(drained[-1].at_s - drained[0].at_s, 1),
                "asked_s": round(1.1 * to_catch_up / max(decided_per_s - load_per_s, 1.0), 1),
            },
        }

    def _messages(self, world: World, begin_s: float) -> Iterator[_Message]:
        devices = [f"device-{n}" for n in range(len(world.cameras))]
        seen: dict[str, deque[Sighting]] = {device: deque() for device in devices}
        for second, told in enumerate(world.live(1e6, lambda _: self._times)):
            for device, _, _, sighting in told:
                if sighting.captured_at_ns >= world.start_ns:
                    seen[device].append(sighting)
            for picture in range(PICTURES_PER_S * len(devices)):
                device = devices[picture % len(devices)]
                passed_s = second + picture / (PICTURES_PER_S * len(devices))
                mark_ns = world.start_ns + round(passed_s * 1e9)
                chosen, mine = [], seen[device]
                while mine and mine[0].captured_at_ns <= mark_ns:
                    chosen.append(mine.popleft())
                yield begin_s + passed_s, device, chosen, mark_ns

    def _go_on(self, coming: Iterator[_Message], until_s: float, enough: int | None = None) -> None:
        """Publish until then, or until no more than ``enough`` are not decided."""
        for due_s, device, chosen, mark_ns in coming:
            time.sleep(max(0.0, due_s - time.monotonic()))
            if chosen or due_s - self._spoke_s.get(device, 0.0) >= HEARTBEAT_S:
                self._spoke_s[device] = due_s
                self._say(device, chosen, mark_ns)
            if due_s >= until_s or (enough is not None and self._looks[-1].behind <= enough):
                return

    def _say(self, device: str, chosen: list[Sighting], mark_ns: int) -> None:
        sent_ns, noted = time.time_ns(), self._published
        batch = SightingBatch(SITE, device, BOOT, Lane.LIVE, sent_ns, MODEL, tuple(chosen), mark_ns)
        beside = batch_properties(BOOT, [s.seq for s in chosen])
        topic = topics.device(SITE, device, "sightings")
        noted.last = send(self._client, Message(topic, encode_batch(batch), beside, sent_ns))
        now_s = time.monotonic()
        marks_ns, at_s = noted.marks.setdefault(device, ([], []))
        marks_ns.append(mark_ns)
        at_s.append(now_s)
        noted.sightings += len(chosen)
        noted.new += [
            (TrackKey(device, BOOT, s.camera, s.track), s.captured_at_ns, now_s)
            for s in chosen
            if s.kind is Kind.NEW
        ]

    def _watch(self) -> None:
        """Look at the server now and then, for as long as it lives."""
        try:
            while True:
                self._looks.append(self._look())
                time.sleep(LOOKS_EVERY_S)
        except OSError:
            return

    def _look(self) -> Look:
        published, said = self._published.sightings, json.loads(self._chain.get("/readyz"))
        decided = said["sightings"] - self._there - said["undecided"]
        return Look(time.monotonic(), cpu_s(self._pid), published, decided)

    def _between(self, since_s: float, until_s: float) -> list[Look]:
        return [look for look in self._looks if since_s <= look.at_s < until_s]


def _per_s(looks: list[Look], what: str) -> float:
    """By how much something grew, a second."""
    first, last = looks[0], looks[-1]
    grown: float = getattr(last, what) - getattr(first, what)
    return grown / (last.at_s - first.at_s)


@contextmanager
def _cores() -> Iterator[tuple[set[int], set[int]]]:
    """A core for the server, and the others; this process has its own again afterwards."""
    all_of_them = os.sched_getaffinity(0)
    its = {min(all_of_them)}
    try:
        yield its, all_of_them - its or its
    finally:
        os.sched_setaffinity(0, all_of_them)
