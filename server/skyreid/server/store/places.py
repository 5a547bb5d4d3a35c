"""Where street cameras saw people whom a drone saw too: places for ``skyreid-edge calibrate``.

Who is linked across views, and how surely, is in the log; where each was, in the sightings. A
street camera's pose is surveyed and a drone's is not, so that what the two disagree in is the
drone's: a table of where the drone saw somebody in its picture, and where that was on the earth.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.contract.geodesy import to_earth
from skyreid.contract.identity_event import Match, TrackKey
from skyreid.contract.sighting import Sighting, View
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.contract.site import Origin, Site
from skyreid.server.matching.identity import replay
from skyreid.server.store.beside import read_decisions
from skyreid.server.store.journal import open_to_read
from skyreid.server.store.quarantine import SHOWN

COLUMNS = ("captured_at_ns", "x_px", "y_px", "latitude_deg", "longitude_deg", "person")
_ROWS_MIN, _PEOPLE_MIN = 8, 3
"""With fewer nobody can tell a wrong link from a wrong place."""
_APART_NS = 2_000_000_000
"""Between two sightings of a street camera farther apart somebody may have turned round."""
_SIGMA_MAX_M = 0.5
"""A street camera that knows a place no better says nothing of a drone."""


@dataclass(frozen=True)
class SeenTwice:
    """A moment at which a drone and a street camera saw somebody."""

    captured_at_ns: int
    pixel: tuple[float, float]
    """The middle of the person in the drone's picture."""
    place: tuple[float, float]
    """Metres east and north, by the street camera."""
    person: str
    """The identity that both are in."""


def seen_twice(journal: Path, site: Site, camera: str, probability: float) -> list[SeenTwice]:
    """People whom a drone and a camera with poses saw at one time.

    Args:
        journal: the file; the server may be running.
        site: whose cameras they are.
        camera: the drone's.
        probability: of each link, at least; a tentative one does not count.

    Raises:
        InputError: the journal or the camera cannot be used, or too few were seen.
    """
    views = {c.id: c.view for c in site.camera}
    surveyed = {c.id for c in site.camera if c.poses is not None and c.id != camera}
    if views.get(camera) != View.AERIAL.word:
        drones = ", ".join(name for name, view in views.items() if view == View.AERIAL.word)
        raise InputError(f"camera {camera!r}: is no drone of site {site.id}; it has {drones}")
    if not surveyed:
        raise InputError(f"site {site.id}: no other camera has poses, to hold {camera}'s against")
    found: list[SeenTwice] = []
    with open_to_read(journal) as db:
        state = replay(read_decisions(journal))
        for name, person in sorted(state.identities.items()):
            sure = [key for key, match in person.members.items() if _sure(match, probability)]
            street = [_said(db, key) for key in sure if key.camera in surveyed]
            for key in sure if street else ():
                if key.camera == camera:
                    found += _pairs(_said(db, key), street, name)
    people = len({row.person for row in found})
    if len(found) < _ROWS_MIN or people < _PEOPLE_MIN:
        raise InputError(
            f"journal {journal}: {len(found)} places of {people} people whom {camera} and a camera "
            f"with poses saw at one time, linked with at least {probability:g}; {_ROWS_MIN} "
            f"places of {_PEOPLE_MIN} people are needed: fly longer where both see them"
        )
    return sorted(found, key=lambda row: row.captured_at_ns)


def as_csv(rows: Iterable[SeenTwice], origin: Origin) -> Iterator[str]:
    """Lines of the table; people are numbered, for it leaves the server and says who nobody is."""
    yield ",".join(COLUMNS)
    number: dict[str, int] = {}
    for row in rows:
        latitude, longitude, _ = to_earth(origin, np.array([*row.place, 0.0]))
        x, y = row.pixel
        person = number.setdefault(row.person, len(number) + 1)
        yield f"{row.captured_at_ns},{x:.1f},{y:.1f},{latitude:.9f},{longitude:.9f},{person}"


def _sure(match: Match | None, probability: float) -> bool:
    """Whether a member belongs; who founded an identity does."""
    return match is None or (match.state == "accepted" and match.probability >= probability)


def _said(db: sqlite3.Connection, key: TrackKey) -> list[Sighting]:
    """What was said of a tracklet that has a place, by time."""
    rows = db.execute(
        "SELECT dim, body FROM sighting WHERE (device, boot, camera, track) = (?, ?, ?, ?) "
        f"AND dim > 0 AND {SHOWN} ORDER BY captured_at_ns",
        (key.device, key.boot, key.camera, key.track),
    )
    said = [decode_sighting(body, dim) for dim, body in rows]
    return [s for s in said if s.ground is not None]


def _pairs(
    drone: Iterable[Sighting], street: Sequence[Sequence[Sighting]], person: str
) -> Iterator[SeenTwice]:
    """Each moment of the drone's at which a street camera knows the place; the surest of them."""
    last_ns = None
    for seen in drone:
        if seen.captured_at_ns == last_ns:  # the last word about somebody repeats the one before
            continue
        places = [
            p for p in (_place(said, seen.captured_at_ns) for said in street) if p is not None
        ]
        if places:
            last_ns = seen.captured_at_ns
            _, east, north = min(places)
            box = seen.box
            pixel = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            yield SeenTwice(seen.captured_at_ns, pixel, (east, north), person)


def _place(said: Sequence[Sighting], at_ns: int) -> tuple[float, float, float] | None:
    """How far it may be off, east and north, between two sightings; None where nobody knows."""
    after = bisect_left(said, at_ns, key=lambda s: s.captured_at_ns)
    if after < len(said) and said[after].captured_at_ns == at_ns:
        ends, share = (said[after], said[after]), 0.0
    elif 0 < after < len(said):
        ends = said[after - 1], said[after]
        apart_ns = ends[1].captured_at_ns - ends[0].captured_at_ns
        share = (at_ns - ends[0].captured_at_ns) / apart_ns
        if apart_ns > _APART_NS:
            return None
    else:
        return None
    first, second = ends[0].ground, ends[1].ground
    assert first is not None
    assert second is not None
    sigma = max((g.cov_ee_m2 + g.cov_nn_m2) / 2 for g in (first, second)) ** 0.5
    if sigma > _SIGMA_MAX_M:
        return None
    east = first.east_m + share * (second.east_m - first.east_m)
    return sigma, east, first.north_m + share * (second.north_m - first.north_m)
