"""Answers of the API, made from the journal file and a state. Read-only; no framework in here.

Shapes are described in ``server/README.md``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Clock, Kind, Lane, View
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.contract.site import PicturePolicy, Site, poses_of
from skyreid.server.matching.identity import Identity, State
from skyreid.server.store.journal import open_to_read

Json = dict[str, Any]

_PARAMETERS = 800
"""Values bound in one statement at most; old SQLite stops at 999."""


def site_json(site: Site, generated_at_ns: int) -> Json:
    """The site as the page draws it; positions are where a camera first stood.

    Raises:
        InputError: a camera's pose file cannot be used.
    """
    cameras: list[Json] = []
    for camera in site.camera:
        poses = poses_of(camera)
        position = None
        if poses is not None:
            east_m, north_m, _up = poses.models[0].position
            position = {"east_m": float(east_m), "north_m": float(north_m)}
        cameras.append({"id": camera.id, "view": camera.view, "position": position})
    return {
        "site": site.id,
        "pictures": site.pictures,
        "time_zone": site.time_zone,
        "notice": site.notice,
        "cameras": cameras,
        "generated_at_ns": generated_at_ns,
    }


def why_no_picture(policy: PicturePolicy) -> str:
    """What a card says that has no picture."""
    return {
        "never": "policy: never",
        "on_request": "policy: on request, and nobody asked",
        "always": "not sent yet, or no longer kept",
    }[policy]


class Lookup:
    """Reads a journal; safe from any thread."""

    def __init__(self, path: Path, pictures: PicturePolicy) -> None:
        """``path`` of a journal that exists."""
        self._path, self._pictures = path, pictures

    def identities(
        self, state: State, *, limit: int, view: Literal["all", "cross"], after_ns: int
    ) -> Json:
        """Identities last seen after ``after_ns``, newest activity first; ``total`` of them all.

        Without a choice (``view`` all, ``after_ns`` below 0: what pages ask for all the time) only
        the newest are read; with one everything since ``after_ns`` is, to count it.
        """
        whole = view == "all" and after_ns < 0
        with open_to_read(self._path) as db:
            found = _newest(db, state, after_ns)
            if view == "cross":
                views = _views(db)
                found = (
                    i for i in found if len({views.get(_of(k)) for k in i.members} - {None}) == 2
                )
            chosen = list(islice(found, limit))
            total = len(state.identities) if whole else len(chosen) + sum(1 for _ in found)
            rows = _tracklets(db, (key for i in chosen for key in i.members))
        listed = [self._identity(identity, rows) for identity in chosen]
        listed.sort(key=lambda i: (i["last_seen_ns"] or 0, i["id"]), reverse=True)
        return {"identities": listed, "total": total}

    def identity(self, state: State, name: str) -> Json | None:
        """One identity, by its id or by one that was merged into it; None if there is none."""
        current = state.resolve(name)
        if current is None:
            return None
        with open_to_read(self._path) as db:
            identity = state.identities[current]
            found = self._identity(identity, _tracklets(db, identity.members))
        return found if current == name else {**found, "merged_into": current}

    def sightings(
        self, state: State, *, identity: str | None, camera: str | None, limit: int
    ) -> Json | None:
        """Sightings, newest first, without embeddings; None if the identity does not exist."""
        wanted = "SELECT device, boot, lane, model_key, dim, received_at_ns, body FROM sighting "
        order = "ORDER BY captured_at_ns DESC, id DESC LIMIT ?"
        where: list[str] = []
        values: list[Any] = []
        if camera is not None:
            where.append("camera = ?")
            values.append(camera)
        with open_to_read(self._path) as db:
            if identity is None:
                clause = f"WHERE {' AND '.join(where)} " if where else ""
                rows = db.execute(f"{wanted}{clause}{order}", (*values, limit)).fetchall()
            else:
                current = state.resolve(identity)
                if current is None:
                    return None
                clause = " AND ".join([*where, "(device, boot, camera, track) = (?, ?, ?, ?)"])
                rows = []
                for key in state.identities[current].members:
                    found = db.execute(
                        f"{wanted}WHERE {clause} {order}", (*values, *_columns(key), limit)
                    )
                    rows += found.fetchall()
        listed = [_sighting(row, state) for row in rows]
        listed.sort(key=lambda item: (item["captured_at_ns"], item["seq"]), reverse=True)
        return {"sightings": listed[:limit]}

    def picture(self, key: TrackKey) -> bytes | None:
        """The JPEG of a tracklet, if there is one."""
        with open_to_read(self._path) as db:
            row = db.execute(
                "SELECT body FROM picture WHERE (device, boot, camera, track) = (?, ?, ?, ?)",
                _columns(key),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def similar(self, state: State, key: TrackKey, hits: Sequence[tuple[TrackKey, float]]) -> Json:
        """A tracklet and those that look like it, each with its identity, in the order given."""
        with open_to_read(self._path) as db:
            rows = _tracklets(db, [key, *(found for found, _ in hits)])
        shown = {
            found: {**self._with_picture(row), "identity": state.tracks.get(found)}
            for found, row in rows.items()
        }
        return {
            "tracklet": shown.get(key),
            "similar": [
                {**shown[found], "similarity": round(similarity, 4)}
                for found, similarity in hits
                if found in shown
            ],
        }

    def _with_picture(self, row: Json) -> Json:
        # Pictures of the time before a site forbade them are not shown either.
        shown = dict(row)
        has = shown.pop("has_picture") and self._pictures != "never"
        shown["picture"] = _picture_path(shown) if has else None
        shown["picture_reason"] = None if has else why_no_picture(self._pictures)
        return shown

    def _identity(self, identity: Identity, rows: Mapping[TrackKey, Json]) -> Json:
        tracklets = []
        for key, match in identity.members.items():
            row = rows.get(key)
            if row is not None:  # all are there, unless something erases between two reads
                shown = self._with_picture(row)
                tracklets.append({**shown, "match": None if match is None else match.to_json()})
        views = {t["view"] for t in tracklets}
        return {
            "id": identity.id,
            "state": identity.state,
            "confidence": identity.confidence,
            "first_seen_ns": min((t["first_seen_ns"] for t in tracklets), default=None),
            "last_seen_ns": max((t["last_seen_ns"] for t in tracklets), default=None),
            "views": [word for word in ("aerial", "ground") if word in views],
            "tracklets": tracklets,
            "aliases": list(identity.aliases),
        }


def _newest(db: sqlite3.Connection, state: State, after_ns: int) -> Iterator[Identity]:
    """Identities seen after a capture time, newest first, as the rows are read."""
    told: set[str] = set()
    rows = db.execute(
        "SELECT device, boot, camera, track FROM tracklet WHERE captured_at_ns > ? "
        "ORDER BY captured_at_ns DESC",
        (after_ns,),
    )
    for row in rows:
        name = state.tracks.get(TrackKey(*row))
        if name is not None and name not in told:
            told.add(name)
            yield state.identities[name]


def _views(db: sqlite3.Connection) -> dict[tuple[str, str, str], int]:
    """Where each camera looked from in each life of its device."""
    rows = db.execute("SELECT DISTINCT device, boot, camera, view FROM tracklet")
    return {row[:3]: row[3] for row in rows}


def _of(key: TrackKey) -> tuple[str, str, str]:
    return key.device, key.boot, key.camera


def _tracklets(db: sqlite3.Connection, keys: Iterable[TrackKey]) -> dict[TrackKey, Json]:
    """What the cards show of each tracklet."""
    wanted = list(keys)
    out: dict[TrackKey, Json] = {}
    step = _PARAMETERS // 4
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        places = ", ".join(["(?, ?, ?, ?)"] * len(part))
        # CROSS: SQLite keeps this order, and looks each key up instead of reading all tracklets.
        rows = db.execute(
            f"WITH wanted (device, boot, camera, track) AS (VALUES {places}) "
            "SELECT t.device, t.boot, t.camera, t.track, t.view, t.first_seen_ns, "
            "t.captured_at_ns, t.revision, t.ended, t.crops, t.quality, t.east_m, t.north_m, "
            "p.seq IS NOT NULL FROM wanted CROSS JOIN tracklet t USING (device, boot, camera, "
            "track) LEFT JOIN picture p USING (device, boot, camera, track)",
            [value for key in part for value in _columns(key)],
        )
        for row in rows:
            key = TrackKey(*row[:4])
            out[key] = {
                **key.to_json(),
                "view": View(row[4]).word,
                "first_seen_ns": row[5],
                "last_seen_ns": row[6],
                "revision": row[7],
                "ended": bool(row[8]),
                "crops": row[9],
                "quality": row[10],
                "ground": None if row[11] is None else {"east_m": row[11], "north_m": row[12]},
                "has_picture": bool(row[13]),
            }
    return out


def _sighting(row: tuple[Any, ...], state: State) -> Json:
    device, boot, lane, model_key, dim, received_at_ns, body = row
    s = decode_sighting(body, dim)
    key = TrackKey(device, boot, s.camera, s.track)
    return {
        **key.to_json(),
        "seq": s.seq,
        "view": s.view.word,
        "modality": s.modality.word,
        "revision": s.revision,
        "kind": Kind(s.kind).name.lower(),
        "lane": Lane(lane).name.lower(),
        "first_seen_ns": s.first_seen_ns,
        "captured_at_ns": s.captured_at_ns,
        "received_at_ns": received_at_ns,
        "clock": Clock(s.clock).name.lower(),
        "clock_error_ms": s.clock_error_ms,
        "box": {
            "x0": s.box.x0,
            "y0": s.box.y0,
            "x1": s.box.x1,
            "y1": s.box.y1,
            "frame_width": s.box.frame_width,
            "frame_height": s.box.frame_height,
        },
        "quality": s.quality,
        "crops": s.crops,
        "spread": s.spread,
        "ground": None
        if s.ground is None
        else {"east_m": s.ground.east_m, "north_m": s.ground.north_m},
        "model_key": model_key,
        "identity": state.tracks.get(key),
    }


def _picture_path(tracklet: Json) -> str:
    names = (tracklet["device"], tracklet["boot"], tracklet["camera"], tracklet["track"])
    return "/v1/pictures/" + "/".join(str(name) for name in names)


def _columns(key: TrackKey) -> tuple[str, str, str, int]:
    return key.device, key.boot, key.camera, key.track
