"""The HTTP API and the page, on one writer's snapshots. It only reads; what it erases it asks for.

No ``from __future__ import annotations`` in this file: FastAPI reads the annotations of functions
that are defined inside ``make_api``, where fastapi is imported so that this module loads without.
"""

import mimetypes
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.server.counters import Metrics
from skyreid.server.live import EventId, Hub
from skyreid.server.store.erasures import Target
from skyreid.server.web.answers import Lookup, read_cursor, why_no_picture
from skyreid.server.web.device_metrics import DeviceSeries
from skyreid.server.web.gate import CALLER, PUBLIC, Caller
from skyreid.server.web.health import summary
from skyreid.server.writer import Writer

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

_EVENT_ID = r"^[0-9]{1,18}-[0-9]{1,9}$"
_INT64 = (1 << 63) - 1
UNDO_WAIT_S = 10.0
"""An answer to an undoing waits so long for the writer."""
ERASE_WAIT_S = 30.0
"""An answer to DELETE waits so long for the receipt."""
PAGE = Path(__file__).parents[1] / "page"

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}


def make_api(
    writer: Writer,
    lookup: Lookup,
    hub: Hub,
    metrics: Metrics,
    *,
    listeners: int = 256,
    page: Path = PAGE,
) -> "FastAPI":
    """The ASGI application; needs fastapi.

    So many ``listeners`` to events at most. ``make_http`` serves it, behind a ``Guard``.
    """
    from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
    from fastapi import Path as Segment
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
    from fastapi.staticfiles import StaticFiles

    Track = Annotated[int, Segment(ge=0, le=_INT64)]
    Reason = Annotated[str, Query(min_length=1, max_length=500, description="why, for the receipt")]
    for suffix, kind in _TYPES.items():  # the system's table may say otherwise, or nothing
        mimetypes.add_type(kind, suffix)
    api = FastAPI(
        title="skyreid server",
        version="1",
        description="Who was seen where, and how sure the server is.",
        docs_url=None,  # the stock viewers load scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    metrics.registry.register(DeviceSeries(writer))

    @api.get("/v1/site", summary="The site: cameras, their views and places, picture policy")
    def get_site() -> dict[str, Any]:
        return {**lookup.shown.json, "generated_at_ns": time.time_ns()}

    @api.get("/v1/identities", summary="Identities, newest activity first")
    def get_identities(
        limit: Annotated[int, Query(ge=1, le=500, description="at most so many")] = 50,
        view: Annotated[
            Literal["all", "cross"],
            Query(description="cross: only those seen from the air and from the ground"),
        ] = "all",
        after_ns: Annotated[
            int, Query(ge=-1, le=_INT64, description="only those last seen after this capture time")
        ] = -1,
        cursor: Annotated[
            str | None, Query(max_length=2000, description="only those after this page: its `next`")
        ] = None,
    ) -> dict[str, Any]:
        try:
            before = None if cursor is None else read_cursor(cursor)
        except ValueError as error:
            raise HTTPException(422, f"cursor: {error}") from error
        return lookup.identities(
            writer.state, limit=limit, view=view, after_ns=after_ns, cursor=before
        )

    @api.get("/v1/identities/{identity}", summary="One identity; ids of merged ones resolve")
    def get_identity(identity: str) -> dict[str, Any]:
        found = lookup.identity(writer.state, identity)
        if found is None:
            raise HTTPException(404, f"no identity {identity!r}")
        return found

    @api.post(
        "/v1/identities/{identity}/return/undo",
        summary="They are two people: undo the return of an identity, for good",
    )
    def post_undo(identity: str) -> dict[str, Any]:
        asked = writer.people.undo(identity)
        if not asked.done.wait(UNDO_WAIT_S):
            raise HTTPException(503, "the server is busy; it will be undone", {"Retry-After": "10"})
        found = None if asked.link is None else lookup.identity(writer.state, identity)
        if found is None:
            raise HTTPException(404, f"no return of an identity {identity!r}")
        return found

    @api.get("/v1/sightings", summary="Sightings as devices sent them, newest first")
    def get_sightings(
        identity: Annotated[str | None, Query(description="only of this identity")] = None,
        camera: Annotated[str | None, Query(description="only by this camera")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="at most so many")] = 100,
    ) -> dict[str, Any]:
        found = lookup.sightings(writer.state, identity=identity, camera=camera, limit=limit)
        if found is None:
            raise HTTPException(404, f"no identity {identity!r}")
        return found

    @api.get(
        "/v1/similar/{device}/{boot}/{camera}/{track}",
        summary="Tracklets that look most like one, exact search within its model",
        response_model=None,
        responses={404: {"description": "reason in JSON"}},
    )
    def get_similar(
        device: str,
        boot: str,
        camera: str,
        track: Track,
        k: Annotated[int, Query(ge=1, le=100, description="at most so many")] = 10,
        view: Annotated[
            Literal["all", "aerial", "ground"], Query(description="only seen from there")
        ] = "all",
        since_ns: Annotated[int, Query(ge=0, le=_INT64, description="last seen at or after")] = 0,
        until_ns: Annotated[
            int | None, Query(ge=0, le=_INT64, description="last seen at or before")
        ] = None,
    ) -> dict[str, Any] | JSONResponse:
        key = TrackKey(device, boot, camera, track)
        views = tuple(View) if view == "all" else (View.of(view),)
        hits = writer.gallery.similar(key, k, views=views, since_ns=since_ns, until_ns=until_ns)
        if hits is None:
            reason = f"no tracklet {track} of camera {camera!r}, device {device!r}, boot {boot!r}"
            return JSONResponse({"reason": reason}, 404)
        return lookup.similar(writer.state, key, hits)

    @api.get(
        "/v1/pictures/{device}/{boot}/{camera}/{track}",
        summary="The picture of a tracklet, as JPEG",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 404: {"description": "reason in JSON"}},
    )
    def get_picture(device: str, boot: str, camera: str, track: Track) -> Response:
        picture, policy = None, lookup.shown.pictures
        if policy != "never":
            picture = lookup.picture(TrackKey(device, boot, camera, track))
        if picture is None:
            return JSONResponse({"reason": why_no_picture(policy)}, 404)
        return Response(picture, media_type="image/jpeg")

    @api.get("/v1/devices", summary="Devices and how they are, by name, a page at a time")
    def get_devices(
        limit: Annotated[int, Query(ge=1, le=1000, description="at most so many")] = 200,
        after: Annotated[str, Query(description="only names after this one: `next`")] = "",
    ) -> JSONResponse:
        devices = dict(writer.devices.by_id)
        names = sorted(name for name in devices if name > after)
        shown = {
            "devices": [devices[name].to_json() for name in names[:limit]],
            "total": len(devices),
            "next": names[limit - 1] if len(names) > limit else None,
        }
        return JSONResponse(shown)  # as it stands: FastAPI would go through each value of it first

    @api.get("/v1/events", summary="Live events (Server-Sent Events): identity, devices")
    async def get_events(
        request: Request,
        after: Annotated[
            str | None,
            Query(pattern=_EVENT_ID, description="first what the log has after this event's id"),
        ] = None,
        last_event_id: Annotated[str | None, Header(pattern=_EVENT_ID)] = None,
    ) -> StreamingResponse:
        if len(hub) >= listeners:
            raise HTTPException(503, f"{listeners} listen already", {"Retry-After": "10"})
        known = last_event_id or after  # what a browser says by itself is the newer one
        if known is None:
            stream = hub.stream(hub.join())
            return StreamingResponse(_while(request, stream), media_type="text/event-stream")

        async def read(last: EventId) -> list[tuple[EventId, str]]:
            return await run_in_threadpool(lookup.events, last)

        decision, _, number = known.partition("-")
        stream = hub.replay((int(decision), int(number)), read)
        return StreamingResponse(_while(request, stream), media_type="text/event-stream")

    def erase(target: Target, reason: str) -> JSONResponse:
        number = lookup.ask_erasure(target, reason)
        said = lookup.erasure(number, ERASE_WAIT_S) or {"state": "asked"}
        return JSONResponse(said, {"done": 200, "refused": 404}.get(str(said["state"]), 202))

    @api.delete("/v1/identities/{identity}", summary="Erase a person; answers with a receipt")
    def delete_identity(identity: str, reason: Reason) -> JSONResponse:
        return erase(identity, reason)

    @api.delete(
        "/v1/tracklets/{device}/{boot}/{camera}/{track}",
        summary="Erase a tracklet; answers with a receipt",
    )
    def delete_tracklet(
        device: str, boot: str, camera: str, track: Track, reason: Reason
    ) -> JSONResponse:
        return erase(TrackKey(device, boot, camera, track), reason)

    @api.get("/v1/erasures/{number}", summary="How far an erasure is; its receipt")
    def get_erasure(number: Annotated[int, Segment(ge=1, le=_INT64)]) -> dict[str, Any]:
        said = lookup.erasure(number, 0)
        if said is None:
            raise HTTPException(404, f"no erasure {number}")
        return said

    @api.get("/healthz", summary="The process is alive; what is degraded, for who is logged in")
    def get_health(request: Request) -> dict[str, Any]:
        reasons = summary(writer)["degraded"]
        said = {"status": "degraded" if reasons else "ok"}
        return said if request.scope.get(CALLER) is PUBLIC else {**said, "degraded": reasons}

    @api.get("/readyz", summary="Able to store what arrives; else 503")
    def get_ready() -> JSONResponse:
        said = summary(writer)
        return JSONResponse(said, 200 if said["ready"] else 503)

    @api.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    def get_metrics() -> Response:
        text, kind = metrics.text()
        return Response(text, headers={"Content-Type": kind})

    @api.get("/", include_in_schema=False)
    def get_page() -> FileResponse:
        return FileResponse(page / "index.html")

    api.mount("/page", StaticFiles(directory=page, check_dir=False))
    return api


async def _while(
    request: "Request", stream: AsyncGenerator[str, None]
) -> AsyncGenerator[str, None]:
    """A stream as long as the log-in holds that it was opened with: till its next word, at most."""
    caller: Caller | None = request.scope.get(CALLER)
    async with aclosing(stream) as words:
        async for text in words:
            if caller is not None and not caller.still():
                return
            yield text
