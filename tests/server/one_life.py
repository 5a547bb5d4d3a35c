"""One life of a server on a journal, with a broker that only remembers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from immutables import Map

from skyreid.contract.site import read_site
from skyreid.server.app import make_writer
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.ingest import Queue
from skyreid.server.broker.outbox import Outbox
from skyreid.server.config import ServerSettings
from skyreid.server.counters import Metrics
from skyreid.server.live import Hub
from skyreid.server.matching.identity import State
from skyreid.server.store.journal import Journal

ARRIVED_NS = 1_700_086_400_000_000_000  # a day after the first sighting: no clock is ahead


def plain(state: State) -> State:
    """A state in memory, which outlives its journal."""
    return replace(
        state,
        identities=Map(dict(state.identities.items())),
        tracks=Map(dict(state.tracks.items())),
        aliases=Map(dict(state.aliases.items())),
    )


FOR_YEARS = {"embeddings_h": 1e6, "pictures_h": 1e6}
KEPT = ("sightings", "identities", "events")
"""What arrived in `ARRIVED_NS` is years old."""


class RememberingBroker:
    def __init__(self) -> None:
        self.connected = self.was_connected = True
        self.packet_max = 300_000
        self.did: list[tuple[Any, ...]] = []

    def acknowledge(self, messages: Any) -> None:
        self.did += [("ack", m.mid) for m in messages]

    def publish(self, topic: str, payload: Any, *, properties: Any, content_type: str) -> int:
        self.did.append(("publish", topic, payload))
        return len(self.did)


class Life:
    """One life of a server on a journal, without processes and sockets."""

    def __init__(self, directory: Path, retention: Any = None, **matching: Any) -> None:
        self.settings = ServerSettings.model_validate(
            {
                "site": directory / "site.toml",
                "journal": {"path": directory / "journal.sqlite", "batch_wait_ms": 0},
                "retention": retention or {f"{kind}_d": 4e4 for kind in KEPT} | FOR_YEARS,
                "matching": {"stall_s": 0.001, "period_s": 1e-9, **matching},
            }
        )
        site = read_site(self.settings.site)
        self.journal = Journal(self.settings.journal.path, site.id, pictures_max_bytes=10**6)
        self.queue, self.broker, self.hub = Queue(1000, 10**8), RememberingBroker(), Hub(4)
        self.metrics = Metrics()
        self.outbox = Outbox(self.journal, site.id, self.publish_event)
        self.writer = make_writer(
            self.settings,
            site,
            self.journal,
            self.queue,
            self.broker,  # type: ignore[arg-type]
            self.outbox,
            self.hub,
            self.metrics,
        )
        self.mid = 0

    def publish_event(self, topic: str, body: str) -> int:
        return self.broker.publish(topic, body, properties={}, content_type="")

    def arrive(self, payload: bytes, channel: str = "sightings", device: str = "uav1") -> None:
        self.mid += 1
        topic = f"skyreid/v1/plaza/dev/{device}/{channel}"
        self.queue.put(Message(topic, payload, {}, ARRIVED_NS, self.mid, 1))

    def step_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(10_000):
            self.writer.step(0.001)
            if condition():
                return
        raise AssertionError("never")

    def events(self) -> list[Any]:
        topic = "skyreid/v1/plaza/identity/"
        return [json.loads(d[2]) for d in self.broker.did if d[1:] and str(d[1]).startswith(topic)]
