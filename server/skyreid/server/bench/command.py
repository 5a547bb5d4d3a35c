"""``skyreid-server bench``: what the server costs here, each number once for all."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skyreid.server.bench.chain import Chain

SAYS = {
    "decode_only_per_cpu_s": "sightings decoded, a CPU second",
    "store_per_cpu_s": "sightings sorted and stored, a CPU second",
    "similar_ratio": "CPU time of a search over that of the bare float32 product",
    "start_cpu_s": "CPU seconds of a start with so many tracklets ever, above one with none",
    "bytes_per_tracklet": "anonymous memory of the server for each of them",
    "match_cpu_ms": "CPU time of matching, ms a sighting, settling included, by tracklets",
    "match_no_place_cpu_ms": "the same where nobody's place is known",
    "match_batch_cpu_s": "CPU time of a micro-batch, settling included, by tracklets",
    "match_crowd_cpu_s": "CPU time of the moment in which 1,000 people come before two cameras",
    "people_in_view": "at once, of those most tracklets",
    "match_mb": "anonymous memory that matching takes with the most of them, MiB",
    "ingest_per_cpu_s": "sightings from a broker to the journal, a CPU second of the server",
    "broker_queue_per_s": "messages a second that a broker takes for a server that is away",
    "event_s": "seconds from publishing a new tracklet to its event, most tracklets in the window",
    "event_after_horizon_s": "the same from the moment at which every device had spoken of it",
    "event_load_per_s": "sightings published a second meanwhile",
    "event_cores": "cores that the server took of its one for it",
    "event_capacity_per_s": "sightings it decides a second when more are published",
    "event_overload": "where more come than it can decide: what waits, until when",
    "fleet_page_cores": "cores with 1,000 devices and one open page",
}


def add_parser(verbs: Any) -> None:
    """Add ``bench`` to the verbs of a command line."""
    does = "measure what the server costs on this machine (Linux; mosquitto for half of it)"
    verb = verbs.add_parser("bench", help=does, description=does)
    verb.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    verb.add_argument(
        "--messages", type=int, default=2_000, metavar="N", help="of 16 sightings each"
    )
    verb.add_argument(
        "--tracklets", type=int, default=100_000, metavar="N", help="ever, for a start"
    )
    verb.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="for the fleet, matching, events, and too many of them",
    )
    verb.add_argument(
        "--active",
        type=int,
        nargs="*",
        default=[300, 3_000, 10_000],
        metavar="N",
        help="tracklets in the matching window",
    )
    verb.add_argument("--crowd", type=int, default=1_000, metavar="N", help="people of one moment")
    verb.add_argument("--without-broker", action="store_true", help="only what needs no mosquitto")
    verb.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from skyreid.server.bench import chain, events, match, parts, start
    from skyreid.server.collector import collect_rarely

    collect_rarely()  # as in a server
    decoded, stored = parts.decode_and_store(given.messages)
    found: dict[str, Any] = {
        "decode_only_per_cpu_s": round(decoded),
        "store_per_cpu_s": round(stored),
        "similar_ratio": round(parts.similar_ratio(), 2),
    }
    with tempfile.TemporaryDirectory() as folder:
        start_s, each = start.start_cost(Path(folder), given.tracklets)
    found["start_cpu_s"], found["bytes_per_tracklet"] = round(start_s, 2), round(each)
    if given.active:
        found |= match.measure(given.active, given.crowd, given.seconds)
    if not given.without_broker:
        with _chain() as one:
            found["ingest_per_cpu_s"] = round(chain.ingest_per_cpu_s(one, given.messages))
        with _chain() as one:
            found["broker_queue_per_s"] = round(chain.queue_per_s(one, given.messages))
        if given.active:
            with tempfile.TemporaryDirectory() as folder:
                found |= events.measure(Path(folder), max(given.active), given.seconds)
        with _chain() as one:
            found["fleet_page_cores"] = round(chain.fleet_cores(one, given.seconds), 3)
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24s} {value!s:>10}  {SAYS[name]}")
    return 0


@contextmanager
def _chain() -> Iterator[Chain]:
    from skyreid.server.bench.chain import Chain

    with tempfile.TemporaryDirectory() as folder, Chain(Path(folder)) as one:
        yield one
