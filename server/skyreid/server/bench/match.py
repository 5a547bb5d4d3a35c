"""What matching costs, in a process of its own and in CPU seconds, on a made-up site."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any

from skyreid.contract.identity_event import Match, TrackKey
from skyreid.server.bench.start import anonymous_bytes
from skyreid.server.bench.world import START_NS, WINDOW_S, Told, World, people_in_view
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.settling import BLOCK_S
from skyreid.server.matching.tracklets import Tracklet, begin

BATCH_NS = 500_000_000
LIVE_MAX_S = 30.0
"""In so long after ``START_NS`` no block ends: what settling costs is measured beside it."""


@dataclass(frozen=True)
class Cost:
    """What a full window costs."""

    cpu_ms: float
    """A sighting, with its share of the settling of blocks."""
    batches_s: tuple[float, ...]
    """CPU seconds of the micro-batches of a block, that is a minute; an event waits so long."""
    held_mb: float
    """Anonymous memory at its highest, MiB, above that of the process before."""


def measure(active: Sequence[int], people: int, seconds: float) -> dict[str, Any]:
    """Everything, by the names that ``bench`` prints.

    Args:
        active: tracklets in the window, one measurement each.
        people: of the crowd.
        seconds: of capture time, for each measurement; ``LIVE_MAX_S`` at most.
    """
    placed = {n: _apart(n, True, seconds) for n in active}
    blind = {n: _apart(n, False, seconds) for n in active}
    return {
        "match_cpu_ms": {n: round(cost.cpu_ms, 2) for n, cost in placed.items()},
        "match_no_place_cpu_ms": {n: round(cost.cpu_ms, 2) for n, cost in blind.items()},
        "match_batch_cpu_s": {n: percentiles(cost.batches_s) for n, cost in placed.items()},
        "match_crowd_cpu_s": round(crowd_cpu_s(people), 2),
        "people_in_view": round(people_in_view(max(active))),
        "match_mb": round(placed[max(active)].held_mb),
    }


def _apart(active: int, placed: bool, seconds: float) -> Cost:
    """In a process of its own: its memory is that of this measurement."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(cost_of, active, placed=placed, seconds=seconds).result()


def cost_of(active: int, *, placed: bool, seconds: float) -> Cost:
    """What so many tracklets in the window cost."""
    before = anonymous_bytes(os.getpid())
    world = World(active, placed=placed)
    matcher = filled(world)
    gc.collect()
    most = anonymous_bytes(os.getpid())
    settling_s: list[float] = []
    while not settling_s or matcher.unsettled:  # two blocks, as at every start
        settling_s.append(_cpu_s(matcher, START_NS))
        most = max(most, anonymous_bytes(os.getpid()))
    live_s: list[float] = []
    count = 0
    for number, told in enumerate(world.live(1 + min(seconds, LIVE_MAX_S))):
        for row in told:
            matcher.add(*row)
        now_s = [
            _cpu_s(matcher, START_NS + number * 10**9 + (half + 1) * BATCH_NS) for half in range(2)
        ]
        most = max(most, anonymous_bytes(os.getpid()))
        if number:  # in the first second all come at once who are in view already
            live_s += now_s
            count += len(told)
    a_block = math.ceil(BLOCK_S * 1e9 / BATCH_NS)
    batches_s = list(islice(cycle(live_s), a_block))
    for k, spent_s in enumerate(settling_s[: len(settling_s) // 2 + 1]):
        batches_s[k % a_block] += spent_s
    each_s = sum(live_s) / max(count, 1)
    per_block = count / len(live_s) * a_block
    cpu_ms = 1e3 * (each_s + sum(settling_s) / 2 / max(per_block, 1))
    return Cost(cpu_ms, tuple(batches_s), (most - before) / 2**20)


def filled(world: World) -> Matcher:
    """A matcher whose window is full, as a start finds it: everybody is known."""
    held, log = known(world.past(WINDOW_S), START_NS)
    matcher = Matcher(MatchingOptions(), identity.replay(log))
    matcher.restore(held)
    return matcher


def known(past: Iterable[Told], at_ns: int) -> tuple[list[Tracklet], list[Decision]]:
    """Tracklets of a world's past, and the decisions by which each is who it is."""
    held, log = [], []
    founder: dict[int, TrackKey] = {}
    for device, boot, model, sighting in sorted(past, key=lambda row: row[3].track):
        key = TrackKey(device, boot, sighting.camera, sighting.track)
        first = founder.setdefault((sighting.track - 1) // 2, key)
        match = None if first == key else Match("accepted", 0.999, first, ())
        held.append(begin(key, model, sighting))
        log.append(Decision("assign", at_ns, first.identity_id(0), (key,), match=match))
    return held, log


def _cpu_s(matcher: Matcher, horizon_ns: int) -> float:
    begin_s = time.process_time()
    matcher.advance(horizon_ns)
    return time.process_time() - begin_s


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The middle and the 99th percentile."""
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]
    return {"p50": round(median(ordered), 3), "p99": round(last, 3)}


def crowd_cpu_s(people: int) -> float:
    """CPU seconds of the moment in which so many come into two cameras' view at one place."""
    matcher = Matcher(MatchingOptions())
    told = World(2 * people, placed=True).crowd(people)
    begin_s = time.process_time()
    for row in told:
        matcher.add(*row)
    matcher.advance(START_NS + 10**9)
    return time.process_time() - begin_s
