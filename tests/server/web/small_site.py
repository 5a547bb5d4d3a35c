"""An API over a small journal, without sockets and broker, behind its guard."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from skyreid.contract.identity_event import Evidence, Match, TrackKey
from skyreid.contract.site import Site, SiteCamera
from skyreid.server.access.tokens import Tokens, file_of
from skyreid.server.audit.log import AuditLog, folder_of
from skyreid.server.audit.verify import lines
from skyreid.server.broker.ingest import Queue
from skyreid.server.counters import Metrics
from skyreid.server.devices import Devices, Oldest
from skyreid.server.live import Hub
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.people.asking import People, Undo
from skyreid.server.people.options import PeopleOptions
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.records import Heard
from skyreid.server.store.spans import Spans
from skyreid.server.web.answers import Lookup, ShownSite
from skyreid.server.web.api import make_api
from skyreid.server.web.gate import Access
from skyreid.server.web.guard import Guard
from skyreid.server.web.request import USER
from skyreid.server.web.session import protect

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
        nothing = Spans(lambda read: [])
        options = PeopleOptions()
        self._people = People(self.gallery, lambda: self.state, self.decide, nothing, options, {})
        self.people = SimpleNamespace(undo=self.undo)
        self.fault: str | None = None
        self.storing, self.settled, self.uninformative = True, True, ()
        self.stored = self.undecided = self.quarantined = 0
        self.notices: tuple[str, ...] = ()
        self.oldest, self.queue = Oldest(), Queue(1, 1)
        self.broker = SimpleNamespace(connected=True, was_connected=True)

    def decide(self, decision: Decision) -> None:
        self.state, _ = identity.apply(self.state, decision)

    def undo(self, name: str) -> Undo:
        """As one whose thread does it at once."""
        asked = self._people.undo(name)
        self._people.turn(0)
        return asked


Get = Callable[..., httpx.Response]


def as_user(app: Any, user: int | None = os.geteuid()) -> Any:
    """What asks ``app`` is a process of this user; without a socket nobody could tell."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {USER: lambda: user}}, receive, send)

    return asked


class Served:
    """The application as it is served, without sockets; ``access`` is what the gate goes by."""

    def __init__(self, path: Path, page: Path, site: Site, **access: Any) -> None:
        self.writer, self.hub, self.metrics = StandingWriter(), Hub(4), Metrics()
        self.journal = path
        self.tokens, self.audit = Tokens(file_of(path)), AuditLog(folder_of(path))
        self.access = Access(self.tokens, self.audit, self.metrics, **access)
        self.api = make_api(
            self.writer,  # type: ignore[arg-type]
            Lookup(path, ShownSite.of(site)),
            self.hub,
            self.metrics,
            listeners=2,
            page=page,
        )
        self.gate = protect(self.api, self.access)
        self.served = Guard(self.gate, ["matcher.lan"], self.gate.refused)

    def get(self, path: str, headers: Any = None, **query: Any) -> httpx.Response:
        return self.ask("GET", path, headers=headers, params=query or None)

    def ask(
        self, method: str, path: str, *, token: str = "", peer: str = "127.0.0.1", **more: Any
    ) -> httpx.Response:
        """One request; ``token`` goes into its header, ``more`` to httpx."""
        if token:
            more["headers"] = {**(more.get("headers") or {}), "Authorization": f"Bearer {token}"}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(as_user(self.served), client=(peer, 5))
            async with httpx.AsyncClient(transport=transport, base_url="http://[::1]") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def lines(self) -> list[dict[str, Any]]:
        """The audit log."""
        return [json.loads(raw) for _, raw in lines(folder_of(self.journal))]
