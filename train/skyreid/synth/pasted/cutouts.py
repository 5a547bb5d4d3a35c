"""People and things rendered alone, with soft edges: what is pasted later.

A cut-out's colours are not mixed with what was behind it (they are divided by the alpha), so that
it can stand before anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from skyreid.contract.sighting import View
from skyreid.synth.figure import clothed, figure
from skyreid.synth.furniture import IRON, WOOD, bench, bollard, box, car, lamp, planter, thing, tree
from skyreid.synth.gait import BODY_HEIGHT_M
from skyreid.synth.look import STREET_LAMPS, camera_look, daylight, develop, dusk
from skyreid.synth.places import build_place
from skyreid.synth.postures import BAR, CRANK, SADDLE_M, SEAT_M, riding, seated
from skyreid.synth.raster import Light, box_on_screen, cast_shadow, on_screen
from skyreid.synth.rig import Station, model_of, window
from skyreid.synth.shading import Backdrop, Bytes, render
from skyreid.synth.surfaces import TURN, Floats, Mesh, blob, gathered, placed, tube
from skyreid.synth.wardrobe import Person, random_person

Posture = Literal["upright", "seated", "riding"]

HEIGHT_PX = (200.0, 400.0)
"""Of a cut-out's person or thing; pasting mostly makes it smaller."""
_FULL_SIZE_PX = (1920, 1080)
_OVERSAMPLE = 2
_LEAST_PX = 200
_FIRST_GROUND_CAMERA = 6


@dataclass(frozen=True)
class Cutout:
    """A picture of something alone.

    Attributes:
        rgba: uint8 [H, W, 4], not premultiplied.
        body: x0, y0, x1, y1 of the person in its pixels, without bicycle and seat; None for a
            thing.
    """

    rgba: Bytes
    body: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class Scene:
    """Meshes about the origin; the first `people` of them are the person."""

    meshes: Sequence[Mesh]
    people: int
    height_m: float


def person_cutout(backdrop: Backdrop, seed: int, number: int) -> Cutout:
    """The person of a number: walking, standing, seated or on a bicycle, from any height."""
    rng = np.random.default_rng([seed, number, 31])
    while True:
        made = photographed(somebody(rng, number), backdrop, rng)
        if made is not None:
            return made


def thing_cutout(backdrop: Backdrop, seed: int, number: int) -> Cutout:
    """The thing of a number: a car, a tree, a bicycle, furniture, or a heap of boxes."""
    rng = np.random.default_rng([seed, number, 32])
    while True:
        made = photographed(_something(rng), backdrop, rng)
        if made is not None:
            return made


def studio(seed: int) -> Backdrop:
    """Ground and walls behind the cut-outs; only their renderer needs them."""
    return build_place("street", seed).backdrop


def somebody(rng: np.random.Generator, number: int, posture: Posture | None = None) -> Scene:
    """A person drawn at random, with the seat or the bicycle; three in four are upright."""
    person = random_person(rng, number + 1, number)
    heading, phase = rng.uniform(0, TURN), rng.uniform(0, TURN)
    drawn = str(rng.choice(["upright", "seated", "riding"], p=[0.76, 0.12, 0.12]))
    kind = posture or drawn
    if kind == "upright":
        swing = float(rng.choice([1.0, 1.0, 0.6, 0.15, 0.0]))
        body, with_it = figure(person, phase, swing), []
    else:
        person = _in_trousers(person)
        scale = person.height / BODY_HEIGHT_M
        if kind == "seated":
            body = clothed(person, seated(person, phase))
            with_it = _seat(rng, scale) if rng.random() < 0.6 else []
        else:
            body = clothed(person, riding(person, phase))
            with_it = bicycle(rng, scale)
    people = [placed(mesh, 0, 0, heading) for mesh in (body, *with_it)]
    return Scene(people, 1, person.height)


def _in_trousers(person: Person) -> Person:
    """A skirt hangs from straight legs only, and nobody pulls a suitcase sitting down."""
    hem = "shirt" if person.hem in ("coat", "dress") else person.hem
    legs = "long" if person.legs == "skirt" else person.legs
    bag = "none" if person.bag in ("suitcase", "handbag") else person.bag
    return replace(person, hem=hem, legs=legs, bag=bag)


def _seat(rng: np.random.Generator, scale: float) -> list[Mesh]:
    """A block, or a board on legs with a back."""
    top = SEAT_M * scale
    if rng.random() < 0.5:
        size = (rng.uniform(0.22, 0.4), rng.uniform(0.25, 1.0), top / 2)
        return [box(rng, (-0.05, 0, top / 2), size, _dull(rng))]
    half = rng.uniform(0.25, 1.0)
    legs = [
        box(rng, (0.0, side * half * 0.8, top / 2), (0.15, 0.03, top / 2), IRON) for side in (-1, 1)
    ]
    board = box(rng, (0, 0, top - 0.02), (0.22, half, 0.025), WOOD)
    back = box(rng, (-0.24, 0, top + 0.28), (0.025, half, 0.18), WOOD)
    return [board, back, *legs]


def bicycle(rng: np.random.Generator, scale: float = 1.0) -> list[Mesh]:
    """A bicycle that stands upright, saddle above the origin, heading +x."""
    colour = _any(rng)
    wheel_m, front_m, rear_m = 0.33, 0.62, -0.42
    crank, saddle, bar = np.array(CRANK), np.array([0.0, 0.0, SADDLE_M]), np.array(BAR) * [1, 0, 1]
    rear, front = np.array([rear_m, 0, wheel_m]), np.array([front_m, 0, wheel_m])
    turn = np.linspace(0, TURN, 40)
    grids: list[tuple[Floats, tuple[float, float, float]]] = []
    for hub in (rear, front):
        rim = hub + wheel_m * np.stack([np.cos(turn), np.zeros(40), np.sin(turn)], 1)
        grids.append((tube(rim, np.full(40, 0.02), np.full(40, 0.02), 8), (0.06, 0.06, 0.06)))
    for a, b in ((crank, saddle), (crank, bar), (rear, crank), (rear, saddle), (front, bar)):
        line = np.linspace(a, b, 6)
        grids.append((tube(line, np.full(6, 0.018), np.full(6, 0.018), 8), colour))
    grids.append((blob(bar, (0.025, 0.28, 0.02), 8, 12), (0.1, 0.1, 0.1)))
    grids.append((blob(saddle, (0.13, 0.07, 0.04), 8, 12), (0.1, 0.1, 0.1)))
    return [thing(rng, grid * scale, c, 0.05) for grid, c in grids]


def _something(rng: np.random.Generator) -> Scene:
    kinds = (
        "car",
        "car",
        "tree",
        "bicycle",
        "bicycle",
        "bench",
        "bollard",
        "planter",
        "lamp",
        "heap",
    )
    kind = rng.choice(kinds)
    if kind == "car":
        meshes = car(rng, 0, 0, _any(rng))
        if rng.random() < 0.4:  # a van
            meshes = [box(rng, (0, 0, 1.2), (rng.uniform(2, 3.2), 0.95, 0.95), _any(rng)), *meshes]
        height_m = 1.6
    elif kind == "tree":
        meshes, height_m = tree(rng, 0, 0), 5.0
    elif kind == "bicycle":
        meshes, height_m = bicycle(rng), 1.1
    elif kind == "bench":
        meshes, height_m = bench(rng, 0, 0), 0.9
    elif kind == "bollard":
        meshes, height_m = bollard(rng, 0, 0), 1.0
    elif kind == "planter":
        meshes, height_m = planter(rng, 0, 0), 1.2
    elif kind == "lamp":
        meshes, height_m = lamp(rng, 0, 0), 5.8
    else:
        meshes, height_m = _heap(rng), 1.5
    heading = rng.uniform(0, TURN)
    return Scene([placed(mesh, 0, 0, heading) for mesh in meshes], 0, height_m)


def _heap(rng: np.random.Generator) -> list[Mesh]:
    """Boxes and blobs on top of each other, as tall as a person: bins, machines, statues, bags."""
    parts, top = [], 0.0
    for _ in range(int(rng.integers(1, 5))):
        half = rng.uniform(0.08, 0.5)
        radii = (rng.uniform(0.08, 0.5), rng.uniform(0.08, 0.5), half)
        centre = (rng.normal(0, 0.06), rng.normal(0, 0.06), top + half)
        grid = blob(centre, radii, 14, 32, power=float(rng.choice([2.0, 3.0, 9.0])))
        parts.append(thing(rng, grid, _any(rng), rng.uniform(0, 0.2)))
        top += 2 * half * rng.uniform(0.7, 1.0)
    return parts


def _any(rng: np.random.Generator) -> tuple[float, float, float]:
    """A colour of cars and things: mostly grey, black, white."""
    value = rng.uniform(0.05, 0.9)
    r, g, b = (float(q) for q in np.clip(value + rng.normal(0, rng.choice([0.02, 0.2]), 3), 0, 1))
    return r, g, b


def _dull(rng: np.random.Generator) -> tuple[float, float, float]:
    value = float(rng.uniform(0.2, 0.7))
    return value, value * 0.97, value * 0.92


def photographed(scene: Scene, backdrop: Backdrop, rng: np.random.Generator) -> Cutout | None:
    """One picture of it; None where it came out too small to be of use."""
    model = model_of(_somewhere(rng, scene.height_m), *_FULL_SIZE_PX)
    crowd = gathered(scene.meshes)
    box_px = box_on_screen(on_screen(model, crowd.vertices))
    if box_px is None:
        return None
    x0, y0, x1, y1 = box_px
    scale = rng.uniform(*HEIGHT_PX) / max(y1 - y0, 0.5 * (x1 - x0))
    margin = 2 / scale
    near = window(
        model,
        x0 - margin,
        y0 - margin,
        x1 - x0 + 2 * margin,
        y1 - y0 + 2 * margin,
        _OVERSAMPLE * scale,
    )
    light = _some_light(rng)
    radius_m = max(2.5, scene.height_m)
    shadow = cast_shadow(light, crowd.vertices, crowd.faces, (0, 0), radius_m=radius_m, size=256)
    radiance, owner = render(near, on_screen(near, crowd.vertices), backdrop, crowd, light, shadow)
    size = (max(8, near.width_px // _OVERSAMPLE), max(8, near.height_px // _OVERSAMPLE))
    covered = (owner >= 0).astype(np.float32)
    alpha = cv2.resize(covered, size, interpolation=cv2.INTER_AREA)
    solid = cv2.resize(radiance * covered[..., None], size, interpolation=cv2.INTER_AREA)
    alone = (solid / np.maximum(alpha, 1e-3)[..., None]).astype(np.float32)
    look = camera_look(_FIRST_GROUND_CAMERA, int(rng.integers(1 << 30)), night=False)
    # Blur and noise belong to the whole picture and come when it is put together.
    picture = develop(alone, replace(look, noise=0.0, blur_px=0.0), rng)
    kept = _extent(alpha > 0.02)
    if kept is None:
        return None
    left, top, right, bottom = kept
    rgba = np.dstack([picture, np.round(255 * alpha).astype(np.uint8)])[top:bottom, left:right]
    if not scene.people:
        return Cutout(np.ascontiguousarray(rgba), None)
    mine = cv2.resize((owner == 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    body = _extent(mine > 0.5)
    if body is None:
        return None
    moved = (body[0] - left, body[1] - top, body[2] - left, body[3] - top)
    return Cutout(np.ascontiguousarray(rgba), moved)


def _extent(
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> tuple[int, int, int, int] | None:
    """Columns and rows that hold a mask, as x0, y0, x1, y1; None where it holds next to nothing."""
    rows, columns = np.nonzero(mask)
    if len(rows) < _LEAST_PX:
        return None
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _somewhere(rng: np.random.Generator, height_m: float) -> Station:
    """A camera that looks at the origin: from the street, a ceiling or a mast, or a drone."""
    steep = rng.random()
    if steep < 0.45:
        pitch = rng.uniform(0, 15)
    elif steep < 0.82:
        pitch = rng.uniform(10, 50)
    else:
        pitch = rng.uniform(40, 85)
    away_m = float(np.exp(rng.uniform(np.log(2.2), np.log(25)))) * max(1.0, height_m / 1.8)
    down = np.radians(pitch)
    up = max(0.3, height_m / 2 + away_m * float(np.sin(down)))
    return Station((-away_m * float(np.cos(down)), 0.0, up), 0.0, -float(pitch), 50.0, View.GROUND)


def _some_light(rng: np.random.Generator) -> Light:
    hour = rng.random()
    if hour < 0.7:
        return daylight(rng)
    return dusk(rng) if hour < 0.9 else STREET_LAMPS
