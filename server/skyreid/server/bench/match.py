"""What matching costs, in this process and in CPU seconds, on a made-up site."""

from __future__ import annotations

import gc
import math
import time
import tracemalloc
from collections.abc import Sequence
from statistics import median
from typing import Any

from skyreid.server.bench.world import START_NS, WINDOW_S, World, people_in_view
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions

BATCH_NS = 500_000_000


def measure(active: Sequence[int], people: int, seconds: float) -> dict[str, Any]:
    """Everything, by the names that ``bench`` prints.

    Args:
        active: tracklets in the window, one measurement each.
        people: of the crowd.
        seconds: of capture time, for each measurement.
    """
    placed = {n: match_cpu_ms(n, placed=True, seconds=seconds) for n in active}
    blind = {n: match_cpu_ms(n, placed=False, seconds=seconds) for n in active}
    most = max(active)
    return {
        "match_cpu_ms": {n: round(ms, 2) for n, (ms, _) in placed.items()},
        "match_no_place_cpu_ms": {n: round(ms, 2) for n, (ms, _) in blind.items()},
        "match_batch_cpu_s": percentiles(placed[most][1]),
        "match_crowd_cpu_s": round(crowd_cpu_s(people), 2),
        "people_in_view": round(people_in_view(most)),
        "match_mb": round(held_mb(most)),
    }


def held_mb(active: int) -> float:
    """Memory of a full window, MiB; without what only its making took."""
    tracemalloc.start()
    matcher = filled(World(active, placed=True))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 2**20 if len(matcher.state.tracks) else 0.0


def filled(world: World) -> Matcher:
    """A matcher whose window is full."""
    matcher = Matcher(MatchingOptions())
    for device, boot, model, sighting in world.past(WINDOW_S):
        matcher.add(device, boot, model, sighting)
    matcher.advance(None)
    return matcher


def match_cpu_ms(active: int, *, placed: bool, seconds: float) -> tuple[float, list[float]]:
    """CPU milliseconds a sighting with so many tracklets in the window.

    Returns:
        the mean, and the CPU seconds of each micro-batch: what an event waits for at least
    """
    world = World(active, placed=placed)
    matcher = filled(world)
    batches_s: list[float] = []
    count = 0
    for number, told in enumerate(world.live(seconds)):
        begin_s = time.process_time()
        for row in told:
            matcher.add(*row)
        for half in range(2):
            matcher.advance(START_NS + number * 10**9 + (half + 1) * BATCH_NS)
            end_s = time.process_time()
            batches_s.append(end_s - begin_s)
            begin_s = end_s
        count += len(told)
    return 1e3 * sum(batches_s) / max(count, 1), batches_s


def percentiles(values: list[float]) -> dict[str, float]:
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
