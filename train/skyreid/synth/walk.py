"""Who is where when: people go from house to house and walk around each other.

On the plaza they cross as they like, elsewhere they follow the place's ways.

Everybody leaves one house and enters another; before and after that the person is not there.
Walkers follow their path and give way as in Helbing and Molnar, Social force model for pedestrian
dynamics (1995), with a look ahead at the closest approach; a hard rule keeps them `GAP_M` apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from skyreid.synth.gait import metres_per_radian
from skyreid.synth.plaza import HALF_M, Plaza
from skyreid.synth.surfaces import Floats
from skyreid.synth.wardrobe import Person

GAP_M = 0.75  # between the middles of two walkers, kept by force
STEP_S = 0.05
_WARM_UP_S = 10.0
_DOOR_M = HALF_M - 0.7
_LOOK_AHEAD_S = 3.0
_BODY_M = 0.45  # a walker's middle stays so far from furniture
_STOP_CHANCE = 0.25
_RIM_M = (20.0, 27.0)  # from the middle: where those walk who keep to the rim


@dataclass(frozen=True)
class Walks:
    """Every walker at every frame; arrays are [frames, people].

    Attributes:
        present: whether the person is there.
        east, north: metres.
        heading: radians, 0 = east, counter-clockwise.
        phase: of the step, radians.
        swing: 1 walks, 0 stands.
    """

    present: npt.NDArray[np.bool_]
    east: Floats
    north: Floats
    heading: Floats
    phase: Floats
    swing: Floats


@dataclass(frozen=True)
class _Plan:
    """One walker's way: corners, when it begins, how fast, and where to stop for how long."""

    corners: Floats  # [K, 2]
    lengths: Floats  # [K] distance from the start
    start_s: float
    speed: float
    stop_at_m: float
    stop_s: float


def walk(
    plaza: Plaza,
    people: list[Person],
    frames: int,
    fps: float,
    seed: int,
    rim: float = 0.0,
    visit: int = 0,
) -> Walks:
    """Simulate everybody from some seconds before the first frame to the last.

    Args:
        plaza: where.
        people: who.
        frames: of the clip.
        fps: frames a second.
        seed: of the ways.
        rim: share of the people who walk along the rim and never cross the middle.
        visit: of the same people; at another one they go other ways.
    """
    rng = np.random.default_rng([seed, 5, visit])  # [seed, 5, 0] draws what [seed, 5] does
    on_rim = np.random.default_rng([seed, 6]).permutation(len(people)) < round(rim * len(people))
    plans = [
        _plan(plaza, person, frames / fps, rng, bool(aside))
        for person, aside in zip(people, on_rim, strict=True)
    ]
    steps = int(np.ceil((_WARM_UP_S + frames / fps) / STEP_S)) + 2
    history = _simulate(plaza, people, plans, steps)

    time = (_WARM_UP_S + np.arange(frames) / fps) / STEP_S
    low = time.astype(int)
    part = (time - low)[:, None]

    def between(values: Floats) -> Floats:
        mixed: Floats = values[low] * (1 - part) + values[low + 1] * part
        return mixed

    return Walks(
        present=history.present[low] & history.present[low + 1],
        east=between(history.east),
        north=between(history.north),
        heading=between(history.heading),
        phase=between(history.phase),
        swing=between(history.swing),
    )


def _plan(
    plaza: Plaza, person: Person, seconds: float, rng: np.random.Generator, rim: bool
) -> _Plan:
    """A way from door to door, free of furniture: near the middle, or along the rim."""
    while True:
        corners, middle = _along_a_way(plaza, rng, rim) if plaza.ways else _across(rng, rim)
        if all(_free(plaza, a, b) for a, b in pairwise(corners)):
            break
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    speed = float(rng.uniform(1.0, 1.5) * person.stride * person.height / 1.72)
    crosses_s = rng.uniform(-9, seconds + 9)
    return _Plan(
        corners=corners,
        lengths=lengths,
        start_s=float(crosses_s - lengths[middle] / speed),
        speed=speed,
        stop_at_m=float(lengths[middle] + rng.uniform(-4, 4)),
        stop_s=float(rng.uniform(2, 6)) if rng.random() < _STOP_CHANCE else 0.0,
    )


def _across(rng: np.random.Generator, rim: bool) -> tuple[Floats, int]:
    """Corners of a way near the middle or along the rim, and which of them is its middle."""
    if rim:
        side = rng.uniform(0, 2 * np.pi)
        middle = rng.uniform(*_RIM_M) * np.array([np.cos(side), np.sin(side)])
        toward = side + rng.choice([-1, 1]) * np.pi / 2
    else:
        middle = rng.uniform(-9, 9, 2)
        toward = rng.uniform(0, 2 * np.pi)
    back = toward + np.pi + rng.normal(0, 0.5)
    return np.stack([_door(middle, back), middle, _door(middle, toward)]), 1


def _along_a_way(plaza: Plaza, rng: np.random.Generator, rim: bool) -> tuple[Floats, int]:
    """One of the place's ways, in either direction, a little beside its line."""
    ways = [way for way in plaza.ways if way.rim == rim]
    way = ways[int(rng.integers(len(ways)))]
    corners = way.corners[:: int(rng.choice([-1, 1]))]
    corners = corners + rng.uniform(-way.spread_m, way.spread_m, 2)
    inside: Floats = np.clip(corners, -_DOOR_M, _DOOR_M)
    return inside, int(np.argmin(np.linalg.norm(inside, axis=1)))


def _door(start: Floats, direction_rad: float) -> Floats:
    """Where a ray from `start` meets the facades."""
    ray = np.array([np.cos(direction_rad), np.sin(direction_rad)])
    reach = (np.sign(ray) * _DOOR_M - start) / np.where(np.abs(ray) < 1e-9, 1e-9, ray)
    door: Floats = start + ray * reach.min()
    return door


def _free(plaza: Plaza, a: Floats, b: Floats) -> bool:
    count = int(np.linalg.norm(b - a) / 0.3) + 2
    points = a + np.linspace(0, 1, count)[:, None] * (b - a)
    return bool(plaza.clearance(points).min() > _BODY_M + 0.35)


@dataclass
class _History:
    present: npt.NDArray[np.bool_]
    east: Floats
    north: Floats
    heading: Floats
    phase: Floats
    swing: Floats


def _simulate(plaza: Plaza, people: list[Person], plans: list[_Plan], steps: int) -> _History:
    count = len(people)
    shape = (steps, count)
    history = _History(np.zeros(shape, np.bool_), *(np.zeros(shape) for _ in range(5)))
    reach = np.array([metres_per_radian(person) for person in people])
    speed = np.array([plan.speed for plan in plans])
    # At the first step some are on their way already.
    gone = np.array([max(0.0, (-_WARM_UP_S - plan.start_s) * plan.speed) for plan in plans])
    position = np.array([_along(plan, s) for plan, s in zip(plans, gone, strict=True)])
    ahead = np.array([_along(plan, s + 1.0) for plan, s in zip(plans, gone, strict=True)])
    velocity = (ahead - position) * speed[:, None]
    heading = np.arctan2(velocity[:, 1], velocity[:, 0])
    phase = np.array([float(person.seed % 628) / 100 for person in people])
    swing = np.ones(count)
    waited = np.zeros(count)
    for step in range(steps):
        now = step * STEP_S - _WARM_UP_S
        started = np.array([now >= plan.start_s for plan in plans])
        ended = np.array([s >= plan.lengths[-1] for plan, s in zip(plans, gone, strict=True)])
        here = started & ~ended
        stopping = np.zeros(count, np.bool_)
        wanted = np.zeros((count, 2))
        for i in np.flatnonzero(here):
            plan = plans[i]
            stopping[i] = gone[i] >= plan.stop_at_m and waited[i] < plan.stop_s
            carrot = _along(plan, gone[i] + 1.5) - position[i]
            wanted[i] = carrot / (np.linalg.norm(carrot) + 1e-9) * plan.speed
        waited += stopping * STEP_S
        wanted[stopping] = 0.0
        push = _give_way(position, velocity, here) + _shun(plaza, position)
        velocity += (wanted + push - velocity) * (STEP_S / 0.4)
        pace = np.linalg.norm(velocity, axis=1)
        velocity *= np.minimum(1.0, 1.25 * speed / (pace + 1e-9))[:, None]
        before = position.copy()
        position[here] += velocity[here] * STEP_S
        _keep_apart(plaza, position, here)
        moved = position - before
        gone[here] += _progress(plans, gone, moved)[here]
        pace = np.linalg.norm(velocity, axis=1)
        swing += (np.clip(pace / (0.6 * speed), 0, 1) - swing) * (STEP_S / 0.25)
        phase[here] += (np.linalg.norm(moved, axis=1) / reach)[here]
        goal = np.where(pace > 0.25, np.arctan2(velocity[:, 1], velocity[:, 0]), heading)
        turn = (goal - heading + np.pi) % (2 * np.pi) - np.pi
        heading = heading + np.clip(turn, -2.5 * STEP_S, 2.5 * STEP_S)
        history.present[step] = here
        history.east[step], history.north[step] = position.T
        history.heading[step], history.phase[step], history.swing[step] = heading, phase, swing
    return history


def _along(plan: _Plan, distance_m: float) -> Floats:
    """The point [2] of the way at a distance from its start."""
    return np.array([np.interp(distance_m, plan.lengths, plan.corners[:, k]) for k in (0, 1)])


def _progress(plans: list[_Plan], gone: Floats, moved: Floats) -> Floats:
    """How far each walker came along the way; sideways steps do not count."""
    result = np.zeros(len(plans))
    for i, plan in enumerate(plans):
        leg = int(np.searchsorted(plan.lengths[1:-1], gone[i], side="right"))
        tangent = (plan.corners[leg + 1] - plan.corners[leg]) / (
            plan.lengths[leg + 1] - plan.lengths[leg]
        )
        result[i] = max(0.0, float(moved[i] @ tangent))
    return result


def _give_way(position: Floats, velocity: Floats, here: npt.NDArray[np.bool_]) -> Floats:
    """Velocity [N, 2] that turns walkers out of each other's way before they meet."""
    offset = position[:, None] - position[None, :]  # from the other to me
    closing = velocity[:, None] - velocity[None, :]
    square = (closing**2).sum(-1)
    when = np.clip(-(offset * closing).sum(-1) / (square + 1e-6), 0, _LOOK_AHEAD_S)
    miss = offset + closing * when[..., None]
    # A head-on course has no side to give way to: both keep right.
    right = np.stack([velocity[:, 1], -velocity[:, 0]], -1)
    miss = miss + 0.15 * right[:, None]
    distance = np.linalg.norm(miss, axis=-1)
    room = np.clip(1.2 - distance, 0, None) * (1 - when / _LOOK_AHEAD_S)
    room *= here[:, None] & here[None, :]
    np.fill_diagonal(room, 0.0)
    away = miss / (distance[..., None] + 1e-6)
    pushes: Floats = (1.6 * room[..., None] * away).sum(1)
    return pushes


def _shun(plaza: Plaza, position: Floats) -> Floats:
    """Velocity [N, 2] away from furniture nearer than a metre."""
    low, high = plaza.footprints[:, :2], plaza.footprints[:, 2:]
    offset = position[:, None] - np.clip(position[:, None], low, high)
    distance = np.linalg.norm(offset, axis=-1)
    strength = np.clip(1.0 - distance, 0, None)
    pushes: Floats = ((strength / (distance + 1e-6))[..., None] * offset).sum(1)
    return pushes


def _keep_apart(plaza: Plaza, position: Floats, here: npt.NDArray[np.bool_]) -> None:
    """Move walkers that overlap with somebody or with furniture, in place."""
    low, high = plaza.footprints[:, :2], plaza.footprints[:, 2:]
    indices = np.flatnonzero(here)
    for _ in range(8):
        crowd = position[indices]
        offset = crowd[:, None] - crowd[None, :]
        distance = np.linalg.norm(offset, axis=-1)
        lacking = np.clip(GAP_M - distance, 0, None)
        np.fill_diagonal(lacking, 0.0)
        fixed = crowd[:, None] - np.clip(crowd[:, None], low, high)
        away = np.linalg.norm(fixed, axis=-1)
        too_near = np.clip(_BODY_M - away, 0, None) * (away > 0)
        if not lacking.any() and not too_near.any():
            return
        shift = (lacking / (distance + 1e-6))[..., None] * offset * 0.52
        shift_fixed = (too_near / (away + 1e-6))[..., None] * fixed
        position[indices] = crowd + shift.sum(1) + shift_fixed.sum(1)
