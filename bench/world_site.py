"""A made-up day at a site of twelve cameras: who comes when, where they walk, which cameras see it.

Three places, each with two drones and two street cameras. In a place's own metres drone `a` sees
the west, drone `b` the east, street camera `g` stands inside of what `a` sees, and `h` is beyond
both (an arcade): so a person is seen from both views at once, from one only, or from one after the
other.

People come alone or in company, some with a crowd, cross one place or two, leave, and most of those
who came in the first `KNOWN_S` come back once, 15 minutes, an hour or six hours later. The others
are strangers who come once. Everything is a function of the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.sighting import Modality, View
from skyreid.synth.closets import CLOSETS
from skyreid.synth.options import Altitude, Hour, Place
from skyreid.synth.wardrobe import Person, population

Floats = NDArray[np.float64]

REPORT_SEED, TUNE_SEED, TEST_SEED = 24_000_001, 24_000_002, 24_000_003
"""Of people that numbers are reported of, that anything may be chosen by, and of the suite's."""
DAY_S = 8 * 3600.0
KNOWN_S = 1.5 * 3600.0
"""Who comes before this may come back; who comes later is a stranger or comes back."""
GAPS_S = (900.0, 3600.0, 21_600.0)
SLOT_S = 1800.0
"""Sun and weather are drawn anew after this."""
BREAK = 0.15
"""Of the passages: the tracker loses the person and begins again."""
_EVERYDAY = 0.6
_RETURN = 0.9
_SECOND_PLACE = 0.35
_STOP = 0.2
_CROWDED = 0.1
_STEP_S = 0.25
_APART_M = 150.0


@dataclass(frozen=True)
class Camera:
    """One camera: its number in the rendered rig and its field, metres in the site's frame."""

    number: int
    place: int
    rig: int
    view: View
    east_m: tuple[float, float]
    north_m: tuple[float, float]

    @property
    def name(self) -> str:
        """As devices say it."""
        return f"cam{self.number}"

    def sees(self, path: Floats) -> NDArray[np.bool_]:
        """Which points [N, 2] are in its field."""
        east, north = path[:, 0], path[:, 1]
        inside: NDArray[np.bool_] = (
            (east >= self.east_m[0])
            & (east <= self.east_m[1])
            & (north >= self.north_m[0])
            & (north <= self.north_m[1])
        )
        return inside


@dataclass(frozen=True)
class Someone:
    """A person with what the bench asks about them."""

    pid: int
    family: int
    alike: bool
    """Three others at the site look like this one."""
    returns: bool
    """Came in the first hours, and so is known later."""


@dataclass(frozen=True, eq=False)
class Passage:
    """One camera's field crossed: what one tracklet is made of, or two where the tracker broke."""

    pid: int
    visit: int
    camera: int
    times_s: Floats
    """[N] of the path, ascending."""
    path_m: Floats
    """[N, 2] east and north."""
    broken: bool


@dataclass(frozen=True, eq=False)
class Day:
    """Everything that happens."""

    seed: int
    people: dict[int, Someone]
    passages: list[Passage]


PLACES: tuple[tuple[Place, Altitude], ...] = (
    ("plaza", "standard"), ("street", "low"), ("yard", "high"),
)  # fmt: skip
_RIG = ((2, 3, 6, 8), (2, 3, 7, 11), (2, 3, 9, 12))
_FIELDS = (
    (View.AERIAL, (-30.0, 0.0), (-12.0, 12.0)),
    (View.AERIAL, (-4.0, 26.0), (-12.0, 12.0)),
    (View.GROUND, (-22.0, -8.0), (-8.0, 8.0)),
    (View.GROUND, (30.0, 44.0), (-8.0, 8.0)),
)
CAMERAS = tuple(
    Camera(
        4 * place + k, place, _RIG[place][k], view,
        (east[0] + _APART_M * place, east[1] + _APART_M * place), north,
    )
    for place in range(len(PLACES))
    for k, (view, east, north) in enumerate(_FIELDS)
)  # fmt: skip

_ROUTES = {  # (part of the people, from east, to east, north of the line, how far it may lie off)
    "through": (0.15, -45.0, 60.0, 0.0, 7.0),
    "rim": (0.10, -45.0, 60.0, 10.2, 1.2),
    "west": (0.35, -15.0, -15.0, 30.0, 6.0),
    "middle": (0.20, 13.0, 13.0, 30.0, 10.0),
    "arcade": (0.20, 37.0, 37.0, 30.0, 6.0),
}
_ANY, _ABOVE, _BELOW = tuple(_ROUTES), ("rim", "middle"), ("arcade",)
_VISITS = ((_ANY, _ANY), (_ABOVE, _BELOW), (_BELOW, _ABOVE))
"""By which routes somebody comes and comes back: half of those who return are seen from the other
view alone then."""


def hour_at(place: int, begin_s: float) -> Hour:
    """The plaza stays in daylight; dusk comes to the street and the yard, and night to the yard."""
    hours = begin_s / 3600
    if place == 0 or hours < 5:
        return "day"
    if place == 1:
        return "day" if hours < 6 else "dusk"
    return "dusk" if hours < 6 else "night"


def modality_at(camera: Camera, begin_s: float) -> Modality:
    """The yard's street cameras switch to infrared at night; drones stay in colour."""
    night = hour_at(camera.place, begin_s) == "night"
    infrared = night and camera.view is View.GROUND
    return Modality.INFRARED if infrared else Modality.COLOUR


def day(seed: int, people: int) -> Day:
    """What happens with about so many people, a quarter of them in families of four look-alikes."""
    rng = np.random.default_rng([seed, 1])
    everybody = _everybody(seed, people)
    passages: list[Passage] = []
    known = [pid for pid, one in everybody.items() if one.returns]
    strangers = [pid for pid, one in everybody.items() if not one.returns]
    for party in _parties(known, everybody, rng):
        routes = _VISITS[int(rng.choice(len(_VISITS), p=[0.5, 0.25, 0.25]))]
        left_s = _visit(passages, party, 0, routes[0], _arrival(0, KNOWN_S, rng), rng)
        if rng.random() < _RETURN:
            gap_s = float(rng.choice(GAPS_S)) * float(rng.uniform(0.95, 1.15))
            apart = rng.random() < 0.5  # they come back one by one
            for several in [[pid] for pid in party] if apart else [party]:
                again_s = left_s + gap_s + float(rng.uniform(0, 60))
                _visit(passages, several, 1, routes[1], again_s, rng)
    for party in _parties(strangers, everybody, rng):
        _visit(passages, party, 0, _ANY, _arrival(KNOWN_S, DAY_S - 300, rng), rng)
    passages.sort(key=lambda p: (p.times_s[0], p.pid, p.camera))
    return Day(seed, everybody, passages)


def _closets(people: int) -> list[tuple[str, int, int]]:
    """Of so many people: closet, size of a family, how many; in the order of their numbers."""
    families = max(2, round(people * 0.26 / 4))
    singles = people - 4 * families
    everyday, four = round(singles * _EVERYDAY), round(families * _EVERYDAY)
    return [
        ("everyday", 1, everyday),
        ("vivid", 1, singles - everyday),
        ("everyday", 4, 4 * four),
        ("vivid", 4, 4 * (families - four)),
    ]


def _everybody(seed: int, people: int) -> dict[int, Someone]:
    """By pid. Of a family of look-alikes half are known and half are strangers."""
    out: dict[int, Someone] = {}
    rng = np.random.default_rng([seed, 2])
    family = 0
    for _, size, count in _closets(people):
        for k in range(count):
            pid = len(out) + 1
            returns = k % 4 < 2 if size == 4 else rng.random() < 0.47
            out[pid] = Someone(pid, family + k // size, size > 1, bool(returns))
        family += count // size
    return out


def wardrobe(seed: int, people: int) -> dict[int, Person]:
    """What they look like, by pid; nobody of these was drawn for a training."""
    out: dict[int, Person] = {}
    for number, (closet, size, count) in enumerate(_closets(people)):
        for person in population(count, seed * 10 + number, size, CLOSETS[closet]):
            pid = len(out) + 1
            out[pid] = replace(person, pid=pid)
    return out


def bystanders(seed: int) -> list[Person]:
    """Who stands beside people in pictures and is none of them."""
    return population(60, seed * 10 + 9, 1, CLOSETS["everyday"])


def _parties(
    pids: list[int], everybody: dict[int, Someone], rng: np.random.Generator
) -> list[list[int]]:
    """Who comes together: half of the look-alikes with their own, others in company."""
    families: dict[int, list[int]] = {}
    alone: list[int] = []
    for pid in pids:
        if everybody[pid].alike:
            families.setdefault(everybody[pid].family, []).append(pid)
        else:
            alone.append(pid)
    out = []
    for family in families.values():
        if rng.random() < 0.5:
            out.append(family)
        else:
            alone += family
    order = rng.permutation(len(alone)).tolist()
    while order:
        size = int(rng.choice([1, 2, 3, 4], p=[0.8, 0.12, 0.05, 0.03]))
        out.append([alone[order.pop()] for _ in range(min(size, len(order)))])
    return out


def _arrival(from_s: float, to_s: float, rng: np.random.Generator) -> float:
    """When somebody comes: at any time, or with the crowd of every twenty minutes."""
    at_s = float(rng.uniform(from_s, to_s))
    if rng.random() < _CROWDED:
        at_s = float(np.clip(round(at_s / 1200) * 1200, from_s, to_s)) + float(rng.uniform(0, 60))
    return at_s


def _visit(
    passages: list[Passage],
    party: list[int],
    visit: int,
    names: tuple[str, ...],
    at_s: float,
    rng: np.random.Generator,
) -> float:
    """A party crosses one place or two; returns when the last of them has left."""
    first = int(rng.integers(len(PLACES)))
    places = [first]
    if rng.random() < _SECOND_PLACE:
        places.append((first + int(rng.integers(1, len(PLACES)))) % len(PLACES))
    for place in places:
        parts = np.array([_ROUTES[name][0] for name in names])
        chosen = str(rng.choice(names, p=parts / parts.sum()))
        times_s, line = _walk(chosen, place, at_s, rng)
        for k, pid in enumerate(party):
            # Beside each other and a little behind, .8 m from one to the next.
            shift = np.array([0.8 * (k % 2), 0.8 * (k // 2)]) + rng.normal(0, 0.1, 2)
            later_s = 0.4 * k
            for camera in CAMERAS[4 * place : 4 * place + 4]:
                _cross(passages, pid, visit, camera, times_s + later_s, line + shift, rng)
        at_s = float(times_s[-1]) + float(rng.uniform(60, 150))
    return at_s


def _walk(route: str, place: int, at_s: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Times [N] and positions [N, 2] of a straight walk, perhaps with a stop."""
    _, west, east, north, aside = _ROUTES[route]
    if west == east:  # north to south
        line = rng.uniform(-aside, aside, 2) + west
        ends = np.array([[line[0], north], [line[1], -north]])
    else:
        heights = rng.uniform(-aside, aside, 2) + north * rng.choice([-1, 1])
        ends = np.array([[west, heights[0]], [east, heights[1]]])
    if rng.random() < 0.5:
        ends = ends[::-1]
    ends = ends + np.array([_APART_M * place, 0.0])
    length_m = float(np.linalg.norm(ends[1] - ends[0]))
    duration_s = length_m / float(rng.uniform(1.0, 1.6))
    knots_s, knots = [0.0, duration_s], [0.0, 1.0]
    if rng.random() < _STOP:
        where, stay_s = float(rng.uniform(0.2, 0.8)), float(rng.uniform(10, 40))
        knots_s = [0.0, where * duration_s, where * duration_s + stay_s, duration_s + stay_s]
        knots = [0.0, where, where, 1.0]
    times_s = np.arange(0.0, knots_s[-1], _STEP_S)
    along = np.interp(times_s, knots_s, knots)[:, None]
    return times_s + at_s, ends[0] + along * (ends[1] - ends[0])


def _cross(
    passages: list[Passage],
    pid: int,
    visit: int,
    camera: Camera,
    times_s: Floats,
    path: Floats,
    rng: np.random.Generator,
) -> None:
    """Add what of a walk lies in a camera's field, if it lasts two seconds and ends in the day."""
    inside = np.flatnonzero(camera.sees(path))
    broken = bool(rng.random() < BREAK)
    if len(inside) < 2 / _STEP_S or times_s[inside[-1]] > DAY_S:
        return
    inside = np.arange(inside[0], inside[-1] + 1)
    passages.append(Passage(pid, visit, camera.number, times_s[inside], path[inside], broken))
