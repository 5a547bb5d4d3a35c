"""People as the API tells of them, and a page that shows them."""

import time
from collections.abc import Callable
from typing import Any

START_NS = 1_700_000_000_000_000_000
PATIENCE_S = 30.0
OPEN = {
    "name": "anyone", "role": "admin", "open": True, "csrf": None, "until": None,
    "purpose_required": False, "purpose": "", "case": "",
}  # fmt: skip
TOKEN, LINK = "sk~0123456789ab~good", "good-link"


def track_key(camera: str, track: int) -> dict[str, Any]:
    return {"device": f"dev-{camera}", "boot": "b1", "camera": camera, "track": track}


def tracklet(camera: str, track: int, *, at_s: float = 0.0, **more: Any) -> dict[str, Any]:
    view = "aerial" if camera == "cam1" else "ground"
    name = f"/v1/pictures/dev-{camera}/b1/{camera}/{track}"
    return {
        **track_key(camera, track),
        "view": view,
        "first_seen_ns": START_NS + int(at_s * 1e9),
        "last_seen_ns": START_NS + int((at_s + 8) * 1e9),
        "revision": 2,
        "ended": False,
        "crops": 6,
        "quality": 0.8,
        "ground": {"east_m": 2.0 * track, "north_m": -1.5 * track},
        "picture": name,
        "picture_reason": None,
        "match": None,
        **more,
    }


def link(camera: str, track: int, **more: Any) -> dict[str, Any]:
    return {
        "state": "accepted",
        "probability": 0.97,
        "with": track_key(camera, track),
        "evidence": [
            {"kind": "appearance", "similarity": 0.71, "llr": 2.4},
            {"kind": "place", "distance_m": 0.4, "llr": 3.1},
            {"kind": "clock", "error_s": 0.2, "llr": 0.0},
            {"kind": "prior", "llr": -2.0},
        ],
        "checked": {"told": None, "wrong": None, "source": "prior"},
        **more,
    }


def identity(name: str, *tracklets: dict[str, Any], **more: Any) -> dict[str, Any]:
    views = {t["view"] for t in tracklets}
    links = [t["match"] for t in tracklets if t["match"]]
    accepted = [m["probability"] for m in links if m["state"] == "accepted"]
    return {
        "id": name,
        "state": "tentative" if len(accepted) < len(links) else "confirmed",
        "confidence": min(accepted, default=None),
        "first_seen_ns": min(t["first_seen_ns"] for t in tracklets),
        "last_seen_ns": max(t["last_seen_ns"] for t in tracklets),
        "views": [v for v in ("aerial", "ground") if v in views],
        "tracklets": list(tracklets),
        "aliases": [],
        "person": name,
        "returns": None,
        **more,
    }


def back(name: str, **more: Any) -> dict[str, Any]:
    """The return of somebody who had left."""
    return {
        "identity": name,
        "person": name,
        "state": "accepted",
        "probability": 0.93,
        "track": track_key("cam6", 5),
        "with": track_key("cam1", 1),
        "gap_s": 3900.0,
        "told_from": 213,
        "similarity": 0.81,
        "views": ["ground", "aerial"],
        "reason": "",
        "checked": {"told": None, "wrong": None, "source": "prior"},
        "tracklet": tracklet("cam1", 1, at_s=-3900.0),
        **more,
    }


def eventually(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def show(browser: Any, server: Any) -> None:
    """Open the page and wait until it has said that it is live."""
    browser.open(server.address)
    eventually(lambda: browser.text(".connection") == "Live", "the page says Live")


def seen_from_both(name: str = "AB12CD34") -> dict[str, Any]:
    return identity(name, tracklet("cam1", 3), tracklet("cam6", 5, match=link("cam1", 3)))
