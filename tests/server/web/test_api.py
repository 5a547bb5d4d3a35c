"""The API: the agreed shapes, the errors, the headers; no socket, no broker."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_site import AIR, JPEG, MATCH, OTHER, SITE, STREET, Served

from skyreid.contract.identity_event import TrackKey
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.store.records import Arrived, Heard


def test_identities_have_the_agreed_shape(serve: Callable[..., Served], make: Any) -> None:
    got = serve().get("/v1/identities").json()
    assert got["total"] == 2
    first, second = got["identities"]
    assert second["id"] == OTHER.identity_id()
    assert second["confidence"] is None
    assert second["tracklets"][0]["picture_reason"] == "not sent yet, or no longer kept"
    air, street = first.pop("tracklets")
    assert first == {
        "id": AIR.identity_id(),
        "person": AIR.identity_id(),
        "returns": None,
        "state": "confirmed",
        "confidence": 0.93,
        "first_seen_ns": make.start_ns,
        "last_seen_ns": make.start_ns + 5 * 10**9,
        "views": ["aerial", "ground"],
        "aliases": [],
    }
    assert air == {
        "device": "uav1",
        "boot": "1-a",
        "camera": "cam1",
        "view": "aerial",
        "track": 7,
        "first_seen_ns": make.start_ns,
        "last_seen_ns": make.start_ns + 2 * 10**9,
        "revision": 1,
        "ended": True,
        "crops": 6,
        "quality": pytest.approx(0.8),
        "ground": {"east_m": 1.0, "north_m": 2.0},
        "picture": "/v1/pictures/uav1/1-a/cam1/7",
        "picture_reason": None,
        "match": None,
    }
    assert street["ended"] is False
    assert street["ground"] is None
    assert street["picture"] is None
    assert street["match"] == {
        "state": "accepted",
        "probability": 0.93,
        "with": {"device": "uav1", "boot": "1-a", "camera": "cam1", "track": 7},
        "evidence": [
            {"kind": "appearance", "similarity": 0.63, "llr": 2.1},
            {"kind": "place", "distance_m": 0.4, "llr": 3.0},
            {"kind": "time", "gap_s": 0.0, "llr": 0.0},
            {"kind": "prior", "llr": -3.0},
        ],
        "checked": {"told": None, "wrong": None, "source": "prior"},
    }


def test_beside_a_link_stands_what_became_of_links_told_as_sure(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    served.writer.decide(Decision("check", 4, "", other="9 9 412 9 9 9 5 9 7"))
    street = served.get(f"/v1/identities/{AIR.identity_id()}").json()["tracklets"][1]
    assert street["match"]["checked"] == {"told": 412, "wrong": 5, "source": "stream"}


@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ({}, [AIR, OTHER], 2),
        ({"view": "cross"}, [AIR], 2),  # nobody counts those: it would read everything
        ({"limit": 1}, [AIR], 2),
        ({"after_s": 3}, [AIR], 2),
        ({"after_s": 5}, [], 2),
    ],
)
def test_identities_can_be_chosen(
    serve: Callable[..., Served],
    make: Any,
    query: dict[str, Any],
    ids: list[TrackKey],
    total: int,
) -> None:
    if "after_s" in query:
        query = {"after_ns": make.start_ns + query["after_s"] * 10**9}
    got = serve().get("/v1/identities", **query).json()
    assert [i["id"] for i in got["identities"]] == [key.identity_id() for key in ids]
    assert got["total"] == total


def test_a_merged_identity_is_found_by_its_old_id(serve: Callable[..., Served]) -> None:
    served = serve()
    old, kept = OTHER.identity_id(), AIR.identity_id()
    merge = Decision("merge", 4, kept, other=old, match=MATCH)
    served.writer.state, _ = identity.apply(served.writer.state, merge)
    got = served.get(f"/v1/identities/{old}").json()
    assert (got["id"], got["merged_into"], got["aliases"]) == (kept, kept, [old])
    assert "merged_into" not in served.get(f"/v1/identities/{kept}").json()
    assert served.get("/v1/identities/NOBODY00").status_code == 404


def test_sightings_are_newest_first_and_carry_no_embedding(
    serve: Callable[..., Served], make: Any
) -> None:
    served = serve()
    got = served.get("/v1/sightings").json()["sightings"]
    assert [s["captured_at_ns"] - make.start_ns for s in got] == [n * 10**9 for n in (5, 3, 2, 1)]
    assert got[0]["identity"] == AIR.identity_id()
    assert (got[0]["kind"], got[0]["lane"], got[0]["clock"]) == ("new", "live", "file")
    assert {s["modality"] for s in got} == {"infrared", "unknown"}
    begin_ns, end_ns = make.start_ns + 2 * 10**9, make.start_ns + 3 * 10**9
    assert [s["pauses"] for s in got] == [[{"begin_ns": begin_ns, "end_ns": end_ns}], [], [], []]
    assert not any("embedding" in s for s in got)
    of_one = served.get("/v1/sightings", identity=AIR.identity_id(), limit=2).json()["sightings"]
    assert [(s["device"], s["seq"]) for s in of_one] == [("street1", 1), ("uav1", 2)]
    both = {"identity": AIR.identity_id(), "camera": "cam1"}
    of_both = served.get("/v1/sightings", **both).json()["sightings"]
    assert [s["seq"] for s in of_both] == [2, 1]
    assert served.get("/v1/sightings", identity="NOBODY00").status_code == 404
    assert served.get("/v1/sightings", limit=0).status_code == 422


def test_who_looks_alike_is_listed_with_identities(serve: Callable[..., Served], make: Any) -> None:
    served = serve()
    for key, person in ((AIR, 0), (STREET, 0), (OTHER, 1)):
        sighting = make.sighting(1, camera=key.camera, track=key.track, person=person)
        served.writer.gallery.take([Arrived(key.device, key.boot, 1, "key", 16, 9, sighting, b"")])
    got = served.get("/v1/similar/uav1/1-a/cam1/7").json()
    assert got["tracklet"]["track"] == AIR.track
    assert [(t["camera"], t["track"]) for t in got["similar"]] == [("cam6", 3), ("cam1", 8)]
    assert got["similar"][0]["similarity"] == pytest.approx(1.0, abs=1e-3)
    assert got["similar"][0]["identity"] == AIR.identity_id()
    assert got["similar"][0]["picture_reason"] is not None
    assert "embedding" not in str(got)
    only = served.get("/v1/similar/uav1/1-a/cam1/7", view="aerial").json()["similar"]
    assert [t["track"] for t in only] == [OTHER.track]
    missing = served.get("/v1/similar/uav1/1-a/cam1/99")
    assert missing.status_code == 404
    assert "no tracklet 99 of camera 'cam1'" in missing.json()["reason"]


def test_a_picture_is_a_jpeg_or_a_reason(serve: Callable[..., Served]) -> None:
    got = serve().get("/v1/pictures/uav1/1-a/cam1/7")
    assert (got.status_code, got.content) == (200, JPEG)
    assert got.headers["content-type"] == "image/jpeg"
    none = serve().get("/v1/pictures/uav1/1-a/cam1/8")
    assert (none.status_code, none.json()) == (404, {"reason": "not sent yet, or no longer kept"})
    site = SITE.model_copy(update={"pictures": "never"})
    never = serve(site).get("/v1/pictures/uav1/1-a/cam1/7")
    assert (never.status_code, never.json()) == (404, {"reason": "policy: never"})


def test_where_the_policy_is_never_no_card_points_at_a_picture(
    serve: Callable[..., Served],
) -> None:
    served = serve(SITE.model_copy(update={"pictures": "never"}))
    for card in served.get("/v1/identities").json()["identities"]:
        for tracklet in card["tracklets"]:
            assert (tracklet["picture"], tracklet["picture_reason"]) == (None, "policy: never")


def test_the_site_and_its_devices_are_listed(serve: Callable[..., Served], shared: Path) -> None:
    served = serve()
    site = served.get("/v1/site").json()
    assert site.pop("generated_at_ns") > 0
    assert site == {
        "site": "plaza",
        "pictures": "always",
        "time_zone": "UTC",
        "notice": "",
        "cameras": [
            {"id": "cam1", "view": "aerial", "position": None},
            {"id": "cam6", "view": "ground", "position": None},
        ],
    }
    (device,) = served.get("/v1/devices").json()["devices"]
    assert (device["device"], device["camera"], device["view"]) == ("uav1", "cam1", "aerial")
    poses = shared / "data" / "plaza" / "calib.json"
    placed = SITE.camera[0].model_copy(update={"poses": poses})
    site = serve(SITE.model_copy(update={"camera": (placed,)})).get("/v1/site").json()
    assert set(site["cameras"][0]["position"]) == {"east_m", "north_m"}


def test_devices_come_a_page_at_a_time(serve: Callable[..., Served]) -> None:
    served = serve()
    for number in range(5):
        served.writer.devices.hear(Heard(f"cam{number}", 9), 1)
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        got = served.get("/v1/devices", limit=4, after=after).json()
        assert got["total"] == 6
        names += [device["device"] for device in got["devices"]]
        after = got["next"]
    assert names == ["cam0", "cam1", "cam2", "cam3", "cam4", "uav1"]
    assert served.get("/v1/devices", limit=10**6).status_code == 422


def test_health_and_readiness_are_two_things(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.get("/healthz").status_code == 200
    assert served.get("/readyz").status_code == 200
    assert served.get("/healthz").json() == {"status": "ok", "degraded": []}
    served.writer.storing, served.writer.fault = False, "full"
    assert served.get("/readyz").status_code == 503
    assert served.get("/healthz").status_code == 200
    assert served.get("/healthz").json() == {
        "status": "degraded",
        "degraded": ["journal: full, nothing is acknowledged"],
    }


def test_metrics_have_their_promised_names(serve: Callable[..., Served]) -> None:
    served = serve()
    served.metrics.rejected.labels("parse").inc()
    got = served.get("/metrics")
    assert got.headers["content-type"].startswith("text/plain")
    for name in (
        "skyreid_sightings_duplicate_total",
        'skyreid_rejected_total{reason="parse"}',
        "skyreid_ingest_queue",
        "skyreid_commit_seconds_count",
        "skyreid_identities",
        "skyreid_broker_connected",
        "skyreid_broker_dropped_messages",
        'skyreid_device_late{device="uav1"}',
        'skyreid_device_last_heard_timestamp_seconds{device="uav1"}',
        'skyreid_device_sightings_total{device="uav1"}',
    ):
        assert f"\n{name} " in got.text


def test_the_page_is_served_with_its_types_and_needs_nothing_from_elsewhere(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    for path, kind in (
        ("/", "text/html"),
        ("/page/main.js", "text/javascript"),
        ("/page/page.css", "text/css"),
    ):
        got = served.get(path)
        assert got.status_code == 200
        assert got.headers["content-type"].startswith(kind)
        assert got.headers["cache-control"] == "no-store"
        assert got.headers["content-security-policy"].startswith("default-src 'self'")
        assert got.headers["x-content-type-options"] == "nosniff"
    assert served.get("/page/../journal.sqlite").status_code == 404
    assert served.get("/docs").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/pictures/d/b/c/99999999999999999999",
        "/v1/pictures/d/b/c/-1",
        "/v1/similar/d/b/c/99999999999999999999",
        "/v1/similar/uav1/1-a/cam1/7?since_ns=99999999999999999999",
        "/v1/similar/uav1/1-a/cam1/7?until_ns=99999999999999999999",
        "/v1/identities?after_ns=99999999999999999999",
        "/v1/identities?after_ns=-2",
        "/v1/identities?cursor=x",
        "/v1/identities?cursor=W10=",
        "/v1/identities?cursor=WzFlOTk5LDEsMiwzLDRd",
        "/v1/identities?cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OSwxLDIsMyw0XQ==",
    ],
)
def test_a_number_beyond_64_bits_is_refused_and_no_error_of_ours(
    serve: Callable[..., Served], path: str
) -> None:
    assert serve().get(path).status_code == 422


def test_so_many_listeners_and_no_more(serve: Callable[..., Served]) -> None:
    served = serve()

    async def listen() -> None:
        for _ in range(2):
            served.hub.join()

    asyncio.run(listen())
    assert served.get("/v1/events").status_code == 503


def test_every_endpoint_is_described(serve: Callable[..., Served]) -> None:
    paths = serve().get("/v1/openapi.json").json()["paths"]
    assert {
        *("/v1/site", "/v1/identities", "/v1/identities/{identity}", "/v1/sightings"),
        "/v1/identities/{identity}/return/undo",
        *("/v1/pictures/{device}/{boot}/{camera}/{track}", "/v1/devices", "/v1/events"),
        "/v1/similar/{device}/{boot}/{camera}/{track}",
        *("/v1/tracklets/{device}/{boot}/{camera}/{track}", "/v1/erasures/{number}"),
        *("/v1/session", "/v1/session/purpose", "/v1/tokens", "/v1/tokens/{name}"),
        *("/healthz", "/readyz", "/metrics"),
    } == set(paths)
    assert all(method["summary"] for entry in paths.values() for method in entry.values())
