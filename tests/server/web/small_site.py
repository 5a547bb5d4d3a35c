"""An API over a small journal, without sockets and broker, behind its guard."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from skyreid.contract.identity_event import Evidence, Match, TrackKey
from skyreid.contract.site import Site, SiteCamera
from skyreid.server.broker.ingest import Queue
from skyreid.server.counters import Metrics
from skyreid.server.devices import Devices, Oldest
from skyreid.server.live import Hub
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.records import Heard
from skyreid.server.web.answers import Lookup, ShownSite
from skyreid.server.web.api import make_api
from skyreid.server.web.guard import Guard

JPEG = b"\xff\xd8\xff\xe0picture\xff\xd9"
AIR = TrackKey("uav1", "1-a", "cam1", 7)
STREET = TrackKey("street1", "1-b", "cam6", 3)
OTHER = TrackKey("uav1", "1-a", "cam1", 8)
SITE = Site(
    id="plaza",
    pictures="always",
    camera=(SiteCamera(id="cam1", view="aerial"), SiteCamera(id="cam6", view="ground")),
)
MATCH = Match(
    "accepted",
    0.93,
    AIR,
    (
        Evidence("appearance", 2.1, 0.63),
        Evidence("place", 3.0, 0.4),
        Evidence("time", 0.0, 0.0),
        Evidence("prior", -3.0),
    ),
)


class StandingWriter:
    """What the API sees of a writer."""

    def __init__(self) -> None:
        self.state = identity.replay(
            [
                Decision("assign", 1, AIR.identity_id(), (AIR,)),
                Decision("assign", 2, OTHER.identity_id(), (OTHER,)),
                Decision("assign", 3, AIR.identity_id(), (STREET,), match=MATCH),
            ]
        )
        self.devices = Devices([], [], stall_s=5, now_s=0)
        self.devices.hear(Heard("uav1", 9, "1-a", 50, "cam1", 1, "key"), 1)
        self.gallery = Gallery()
        self.fault: str | None = None
        self.storing, self.settled = True, True
        self.stored = self.undecided = self.quarantined = 0
        self.notices: tuple[str, ...] = ()
        self.oldest, self.queue = Oldest(), Queue(1, 1)
        self.broker = SimpleNamespace(connected=True, was_connected=True)


Get = Callable[..., httpx.Response]


class Served:
    def __init__(self, path: Path, page: Path, site: Site) -> None:
        self.writer, self.hub, self.metrics = StandingWriter(), Hub(4), Metrics()
        lookup = Lookup(path, ShownSite.of(site))
        self.api = make_api(
            self.writer,  # type: ignore[arg-type]
            lookup,
            self.hub,
            self.metrics,
            listeners=2,
            page=page,
        )

    def get(self, path: str, headers: Any = None, **query: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(Guard(self.api, ["matcher.lan"]))
            async with httpx.AsyncClient(transport=transport, base_url="http://[::1]") as client:
                return await client.get(path, params=query or None, headers=headers)

        return asyncio.run(ask())
