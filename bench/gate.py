"""What the gate before the API costs a request, and a line of the audit log: CPU time, one process.

    bench/gate.py [--requests N]

The same request is asked of the application alone and of the gate before an application that does
nothing, in turns, so that whatever else the machine does meets both. No sockets: over TCP an answer
costs the more, and the gate's part of it is the smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "server" / name) for name in ("web",)]

from small_site import SITE, Served  # type: ignore[import-not-found]  # noqa: E402

from skyreid.server.access.roles import Role  # noqa: E402
from skyreid.server.audit.line import Entry  # noqa: E402
from skyreid.server.audit.log import AuditLog  # noqa: E402
from skyreid.server.audit.verify import verify  # noqa: E402
from skyreid.server.store.journal import Journal  # noqa: E402

App = Callable[[Any, Any, Any], Awaitable[None]]


def scope_of(path: str, *headers: tuple[str, str]) -> dict[str, Any]:
    """A request as an HTTP server hands it over."""
    given = [(b"host", b"localhost"), *((n.encode(), v.encode()) for n, v in headers)]
    return {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": given, "client": ("127.0.0.1", 5), "scheme": "http",
        "server": ("localhost", 80), "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip


async def cpu_us(app: App, scope: dict[str, Any], count: int) -> float:
    """Microseconds of CPU for one of so many requests, all threads."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        return None

    begun = time.process_time()
    for _ in range(count):
        await app(dict(scope), receive, send)
    return (time.process_time() - begun) / count * 1e6


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        journal = Journal(path, "plaza", pictures_max_bytes=10**6)
        print(json.dumps(measured(Served(path, Path(folder), SITE), count), indent=1))
        journal.close()


class Nothing:
    """An application that answers at once, with the routes of another."""

    def __init__(self, api: Any) -> None:
        self.routes = api.routes

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        """200, no body."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def measured(served: Served, count: int) -> dict[str, Any]:
    """What each kind of request costs with the gate, beside the same without."""
    token = served.tokens.create("ana", Role.ADMIN, 1)
    bearer = ("authorization", f"Bearer {token}")
    cookie, _ = served.access.sessions.begin(served.tokens.listed()[0])
    held = ("cookie", f"skyreid={cookie}")
    kinds = {
        "site, token": ("/v1/site", bearer),
        "site, session": ("/v1/site", held),
        "identities, session": ("/v1/identities", held),
        "one identity, written down": ("/v1/identities/NOBODY00", bearer),
    }
    out: dict[str, Any] = {}
    served.gate._app = Nothing(served.api)
    for name, (path, header) in kinds.items():
        turns: dict[str, list[float]] = {"application_us": [], "gate_us": []}
        for _ in range(7):
            for what, app in (("application_us", served.api), ("gate_us", served.gate)):
                cost = asyncio.run(cpu_us(app, scope_of(path, header), count))
                turns[what].append(cost)
        out[name] = {what: round(statistics.median(costs)) for what, costs in turns.items()}
    lines = AuditLog(Path(served.journal).with_name("lines"))
    begun = time.process_time()
    for n in range(20_000):
        lines.append(Entry("picture", "ana", "viewer", f"/v1/pictures/uav1/1-a/cam1/{n}", 200))
    out["line_us"] = round((time.process_time() - begun) / 20_000 * 1e6, 1)
    lines.close()
    begun = time.process_time()
    verdict = verify(Path(served.journal).with_name("lines"))
    assert not verdict.wrong
    out["verify_us_a_line"] = round((time.process_time() - begun) / verdict.head.n * 1e6, 1)
    out["bytes_a_line"] = round(
        sum(p.stat().st_size for p in Path(served.journal).with_name("lines").glob("audit-*"))
        / verdict.head.n
    )
    return out


if __name__ == "__main__":
    main()
