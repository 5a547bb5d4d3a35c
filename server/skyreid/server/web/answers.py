"""Answers of the API, made from the journal file and a state. Read-only; no framework in here.

Shapes are described in ``server/README.md``.
"""

from __future__ import annotations

import json
import sqlite3
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skyreid.contract.identity_event import Match, Return, TrackKey
from skyreid.contract.sighting import View
from skyreid.contract.site import PicturePolicy, Site, poses_of
from skyreid.server.live import EventId, event_text
from skyreid.server.matching.checked import SURE_FROM, TOLD_LEAST, Checked
from skyreid.server.matching.identity import Identity, State
from skyreid.server.store.beside import ask_erasure, read_erasure
from skyreid.server.store.erasures import Target
from skyreid.server.store.journal import open_to_read
from skyreid.server.web.sent import sighting_json

Json = dict[str, Any]
Cursor = tuple[int, str, str, str, int]
"""Where a page ended: capture time, device, boot, camera and track of a tracklet."""

SCANNED_MAX = 2000
"""Tracklets looked at for one page of identities, however few of them are wanted."""
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


@dataclass(frozen=True)
class ShownSite:
    """What is shown of a site file."""

    pictures: PicturePolicy
    json: Json
    """See `site_json`."""

    @classmethod
    def of(cls, site: Site) -> ShownSite:
        """Read what the site file names.

        Raises:
            InputError: a camera's pose file cannot be used.
        """
        return cls(site.pictures, site_json(site, 0))


class Lookup:
    """Reads a journal; safe from any thread."""

    def __init__(self, path: Path, shown: ShownSite) -> None:
        """``path`` of a journal that exists."""
        self._path = path
        self.shown = shown
        """Replaced as a whole, never changed."""

    def identities(
        self,
        state: State,
        *,
        limit: int,
        view: Literal["all", "cross"] = "all",
        after_ns: int = -1,
        cursor: Cursor | None = None,
    ) -> Json:
        """A page of identities last seen after ``after_ns``, newest activity first.

        ``total`` is how many identities there are, whatever is asked for. ``next`` is the cursor of
        the next page, None after the last; a page may hold fewer than ``limit`` and yet not be it.
        """
        chosen: dict[str, Json] = {}
        told: set[str] = set()
        last: Cursor | None = None
        looked, more = 0, False
        with open_to_read(self._path) as db, closing(_newest(db, after_ns, cursor)) as rows:
            while not more and (part := rows.fetchmany(limit)):
                names = [state.tracks.get(_key(row)) for row in part]
                fresh = [i for i in dict.fromkeys(names) if i is not None and i not in told]
                told.update(fresh)
                people = [state.identities[name] for name in fresh]
                seen = _tracklets(db, (key for i in people for key in _keys(i)))
                shown = {i.id: self._identity(state, i, seen) for i in people}
                for row, name in zip(part, names, strict=True):
                    if len(chosen) == limit or looked == SCANNED_MAX:
                        more = True
                        break
                    last, looked = row, looked + 1
                    person = shown.pop(name or "", None)
                    if person is None or row != max(map(_place, person["tracklets"])):
                        continue  # seen after the cursor too: that was an earlier page
                    if view == "all" or len(person["views"]) == 2:
                        chosen[person["id"]] = person
        listed = sorted(chosen.values(), key=lambda i: (i["last_seen_ns"], i["id"]), reverse=True)
        return {
            "identities": listed,
            "total": len(state.identities),
            "next": _cursor_text(last) if last and more else None,
        }

    def identity(self, state: State, name: str) -> Json | None:
        """One identity, by its id or by one that was merged into it; None if there is none."""
        current = state.resolve(name)
        if current is None:
            return None
        with open_to_read(self._path) as db:
            identity = state.identities[current]
            found = self._identity(state, identity, _tracklets(db, _keys(identity)))
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
        listed = [sighting_json(row, state) for row in rows]
        listed.sort(key=lambda item: (item["captured_at_ns"], item["seq"]), reverse=True)
        return {"sightings": listed[:limit]}

    def events(self, after: EventId, limit: int = 500) -> list[tuple[EventId, str]]:
        """The next events of the log after one, as they stand in a stream.

        Where those that came next are not kept any more, an event ``gone`` says so first.
        """
        with open_to_read(self._path) as db:
            rows = db.execute(
                "SELECT decision, number, body FROM event WHERE (decision, number) > (?, ?) "
                "ORDER BY decision, number LIMIT ?",
                (*after, limit),
            ).fetchall()
            first = db.execute("SELECT id, decision, number FROM event ORDER BY id LIMIT 1")
            pruned, *oldest = first.fetchone() or (1, 0, 0)
        found = [
            (row[:2], event_text("identity", json.loads(row[2]).get("data", {}), row[:2]))
            for row in rows
        ]
        if found and pruned > 1 and after < tuple(oldest):
            gone = event_text("gone", {"before": f"{oldest[0]}-{oldest[1]}"})
            found[0] = found[0][0], gone + found[0][1]
        return found

    def ask_erasure(self, target: Target, reason: str) -> int:
        """Have the writer erase somebody; the request's number."""
        return ask_erasure(self._path, target, reason, time.time_ns())

    def erasure(self, number: int, wait_s: float) -> Json | None:
        """How far an erasure is, waiting for its end for a while; None if there is none."""
        end_s = time.monotonic() + wait_s
        while True:
            asked = read_erasure(self._path, number)
            if asked is None:
                return None
            if asked.state in ("done", "refused"):
                return {"erasure": number, "state": asked.state, **asked.body}
            if time.monotonic() >= end_s:
                return {"erasure": number, "state": asked.state}
            time.sleep(0.02)

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
        policy = self.shown.pictures
        has = shown.pop("has_picture") and policy != "never"
        shown["picture"] = _picture_path(shown) if has else None
        shown["picture_reason"] = None if has else why_no_picture(policy)
        return shown

    def _returns(
        self, state: State, link: Return | None, rows: Mapping[TrackKey, Json]
    ) -> Json | None:
        if link is None:
            return None
        before, row = state.tracks[link.other], rows.get(link.other)
        return {
            "identity": before,
            "person": state.person(before),
            **link.to_json(),
            "checked": _checked(state.checked_returns, link.probability, "operator"),
            "tracklet": None if row is None else self._with_picture(row),
        }

    def _identity(self, state: State, identity: Identity, rows: Mapping[TrackKey, Json]) -> Json:
        tracklets = []
        for key, match in identity.members.items():
            row = rows.get(key)
            if row is not None:  # all are there, unless something erases between two reads
                shown = self._with_picture(row)
                tracklets.append({**shown, "match": match and _match(state, match)})
        views = {t["view"] for t in tracklets}
        return {
            "id": identity.id,
            "person": state.person(identity.id),
            "returns": self._returns(state, _return_of(identity), rows),
            "state": identity.state,
            "confidence": identity.confidence,
            "first_seen_ns": min((t["first_seen_ns"] for t in tracklets), default=None),
            "last_seen_ns": max((t["last_seen_ns"] for t in tracklets), default=None),
            "views": [word for word in ("aerial", "ground") if word in views],
            "tracklets": tracklets,
            "aliases": list(identity.aliases),
        }


def _match(state: State, match: Match) -> Json:
    return {**match.to_json(), "checked": _checked(state.checked, match.probability, "stream")}


def _checked(counts: Checked, probability: float, source: str) -> Json:
    at = bisect_right(SURE_FROM, probability)
    if counts.told[at] < TOLD_LEAST:
        return {"told": None, "wrong": None, "source": "prior"}
    return {"told": counts.told[at], "wrong": counts.wrong[at], "source": source}


def _return_of(identity: Identity) -> Return | None:
    """The return that is shown: the one that holds, else one that was undone."""
    undone = [k for k in identity.links if k.state == "undone" and k.track in identity.members]
    return identity.link or (undone[-1] if undone else None)


def _keys(identity: Identity) -> list[TrackKey]:
    """The tracklets that an answer about an identity shows."""
    link = _return_of(identity)
    return [*identity.members, *([] if link is None else [link.other])]


def _newest(db: sqlite3.Connection, after_ns: int, before: Cursor | None) -> sqlite3.Cursor:
    """Tracklets captured after a moment and before another in this order, newest first."""
    columns = "captured_at_ns, device, boot, camera, track"
    order = ", ".join(f"{name} DESC" for name in columns.split(", "))
    where = "captured_at_ns > ?1"
    if before is not None:  # the first comparison is what the index is entered by
        where += f" AND captured_at_ns <= ?2 AND ({columns}) < (?2, ?3, ?4, ?5, ?6)"
    return db.execute(
        f"SELECT {columns} FROM tracklet WHERE {where} ORDER BY {order}",
        (after_ns, *(before or ())),
    )


def _place(tracklet: Json) -> Cursor:
    names = (tracklet["device"], tracklet["boot"], tracklet["camera"], tracklet["track"])
    return tracklet["last_seen_ns"], *names


def _key(row: Cursor) -> TrackKey:
    return TrackKey(*row[1:])


def read_cursor(text: str) -> Cursor:
    """The cursor of a page, from the ``next`` of the page before.

    Raises:
        ValueError: it is none.
    """
    try:
        at_ns, device, boot, camera, track = json.loads(urlsafe_b64decode(text.encode()))
        names = [str(name) for name in (device, boot, camera)]
        row = (int(at_ns), names[0], names[1], names[2], int(track))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError("no `next` of a page") from error
    if not all(-(1 << 63) <= number < 1 << 63 for number in (row[0], row[4])):
        raise ValueError("no `next` of a page")
    return row


def _cursor_text(row: Cursor) -> str:
    return urlsafe_b64encode(json.dumps(row, separators=(",", ":")).encode()).decode()


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


def _picture_path(tracklet: Json) -> str:
    names = (tracklet["device"], tracklet["boot"], tracklet["camera"], tracklet["track"])
    return "/v1/pictures/" + "/".join(str(name) for name in names)


def _columns(key: TrackKey) -> tuple[str, str, str, int]:
    return key.device, key.boot, key.camera, key.track
