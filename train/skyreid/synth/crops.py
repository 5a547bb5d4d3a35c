"""Render a CARGO-shaped set of crops: one person per picture, as a detector would have cut it out.

::

    OUT/{train,query,gallery}/Cam{n}/Cam{n}_{day|night}_{pid:04d}_{k}.jpg
    OUT/ids.json    the people with their cues, each crop's box and visibility, the cameras'
                    altitudes, the test people
    OUT/preview.png with --preview: some people in every camera

Crops have the size the camera gives them, at most `MAX_HEIGHT_PX` high. The first picture of a test
person in a camera is a query, the others are gallery; families of look-alikes stay together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError
from skyreid.contract.sighting import View
from skyreid.synth.behind import behind
from skyreid.synth.boxes import cut_by_the_frame, detector_box
from skyreid.synth.closets import CLOSETS
from skyreid.synth.crop_names import crop_name, hour_of, people_to_test_on, split_of
from skyreid.synth.figure import figure
from skyreid.synth.look import (
    CameraLook,
    another_hour,
    camera_look,
    develop,
    dusk,
    jittered,
    light_of,
)
from skyreid.synth.native import one_thread
from skyreid.synth.options import CAMERAS, PLACES, CropsOptions, Hour
from skyreid.synth.places import build_place
from skyreid.synth.plaza import Plaza
from skyreid.synth.preview import PREVIEW, crops_sheet, write_sheet
from skyreid.synth.raster import (
    Light,
    box_on_screen,
    cast_shadow,
    covered_pixels,
    on_screen,
)
from skyreid.synth.rig import model_of, place_in_air, station, view_of, window
from skyreid.synth.shading import Bytes, render
from skyreid.synth.surfaces import TURN, Floats, Mesh, gathered, placed
from skyreid.synth.unfinished import unfinished
from skyreid.synth.wardrobe import Person, person_as_json, population

FULL_SIZE_PX = (1920, 1080)
MAX_HEIGHT_PX = 256
_BOX_HEIGHT_PX = (22.0, 900.0)
_MIN_VISIBILITY = 0.5
_TRIES = 40
_REACH_M = {View.AERIAL: 90.0, View.GROUND: 17.0}
_WALKABLE_M = 26.0


@dataclass(frozen=True)
class CropCount:
    """How many crops were written, and for how many no clear enough place was found."""

    written: int
    missing: int


@dataclass(frozen=True)
class Studio:
    """Everything that is the same for all crops."""

    options: CropsOptions
    places: dict[str, Plaza]
    people: list[Person]
    models: dict[int, CameraModel]
    looks: dict[int, CameraLook]
    lights: dict[int, Light]

    def place_of(self, person: Person) -> str:
        """Where a person is; a family of look-alikes is at one place."""
        names = list(self.places)
        return names[person.family % len(names)]


@dataclass(frozen=True)
class CropLabel:
    """Part of the person that shows, and x, y, width, height in the full picture."""

    vis: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Crop:
    """One crop; `picture` is RGB uint8 [H, W, 3], `k` counts a person's pictures in a camera."""

    pid: int
    camera: int
    k: int
    picture: Bytes
    label: CropLabel


def crops(options: CropsOptions) -> CropCount:
    """Render a set of crops into `options.out`, which must be new, empty or a set that was stopped.

    Raises:
        InputError: the folder holds something else, or a set begun with other options.
    """
    with unfinished(options.out, _order(options)) as progress:
        studio = build_studio(options)
        test = people_to_test_on(studio.people, options.test, options.seed)
        left = [person for person in studio.people if person.pid not in progress.done]
        bar = tqdm(total=options.people, initial=len(progress.done), unit="person", disable=None)
        with bar, _all_crops(studio, left) as made:
            for person, several in zip(left, made, strict=True):
                for crop in several:
                    _write_crop(studio, crop, test)
                names = [crop_name(c.pid, c.camera, c.k, options.hour) for c in several]
                labels_of = [asdict(crop.label) for crop in several]
                progress.add(person.pid, dict(zip(names, labels_of, strict=True)))
                bar.update()
        # In the order of the people, however often the set was stopped.
        labels = {n: label for p in studio.people for n, label in progress.done[p.pid].items()}
        _write_ids(options.out / "ids.json", studio, labels, test)
        if options.preview:
            write_sheet(options.out / PREVIEW, _preview(options, studio, test))
    wanted = options.people * len(options.cameras) * options.frames
    return CropCount(written=len(labels), missing=wanted - len(labels))


def _order(options: CropsOptions) -> dict[str, Any]:
    """Every option that decides what the set holds."""
    order = asdict(options)
    for key in ("out", "jobs", "preview"):
        del order[key]
    return order


def _write_crop(studio: Studio, crop: Crop, test: set[int]) -> None:
    """Write a picture under its name; half of one, of a process that was killed, is written over.

    The person is not noted as done then, see `unfinished`.
    """
    path = _crop_path(studio.options, crop.pid, crop.camera, crop.k, test)
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, studio.looks[crop.camera].jpeg_quality]
    done, data = cv2.imencode(".jpg", crop.picture[..., ::-1], quality)
    if not done:
        raise InputError(f"{path}: OpenCV cannot encode a picture of {crop.picture.shape}")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _crop_path(options: CropsOptions, pid: int, camera: int, k: int, test: set[int]) -> Path:
    name = crop_name(pid, camera, k, options.hour)
    return options.out / split_of(pid, k, test) / f"Cam{camera}" / name


def _preview(options: CropsOptions, studio: Studio, test: set[int]) -> Bytes:
    """The first pictures of up to twelve people of three families, from the files."""
    people = {}
    for person in studio.people[:12]:
        crops = {}
        for camera in options.cameras:
            path = _crop_path(options, person.pid, camera, 0, test)
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is not None:  # else no clear enough place was found
                crops[camera] = np.asarray(picture[..., ::-1], np.uint8)
        people[person.pid] = crops
    return crops_sheet(people)


def build_studio(options: CropsOptions) -> Studio:
    """Set up place, people and cameras. Equal options give an equal studio."""
    stations = {c: station(c, altitude=options.altitude) for c in options.cameras}
    # Furniture makes room for every camera of the rig, used or not: the place stays the same.
    feet = [station(camera).position[:2] for camera in CAMERAS if view_of(camera) is View.GROUND]
    looks, lights = {}, {}
    for camera in options.cameras:
        hour = hour_of(camera, options.hour)
        looks[camera] = camera_look(camera, options.seed, night=hour == "night")
        lights[camera] = light_of(hour, np.random.default_rng([options.seed, camera, 7]))
    names = PLACES if options.place == "mixed" else (options.place,)
    return Studio(
        options=options,
        places={name: build_place(name, options.seed, keep_clear=feet) for name in names},
        people=population(options.people, options.seed, closet=CLOSETS[options.wardrobe]),
        models={camera: model_of(at, *FULL_SIZE_PX) for camera, at in stations.items()},
        looks=looks,
        lights=lights,
    )


@one_thread()
def person_crops(studio: Studio, person: Person) -> list[Crop]:
    """All crops of one person; they depend on nothing but the options and the person's number."""
    made = []
    options = studio.options
    for camera in options.cameras:
        rng = np.random.default_rng([options.seed, person.pid, camera])
        heading = rng.uniform(0, TURN)
        for k in range(options.frames):
            look, light = studio.looks[camera], studio.lights[camera]
            if options.jitter > 0:
                look = jittered(look, rng, options.jitter)
                light = _another_moment(light, hour_of(camera, options.hour), rng)
            turned = heading + rng.normal(0, 0.35)
            for _ in range(_TRIES):
                taken = _try_crop(studio, person, camera, look, light, turned, rng)
                if taken is not None:
                    made.append(Crop(person.pid, camera, k, *taken))
                    break
    return made


def _another_moment(light: Light, hour: Hour, rng: np.random.Generator) -> Light:
    """The light of a camera a day or a week later; street lamps stay as they are."""
    if hour == "night":
        return light
    return dusk(rng) if hour == "dusk" else another_hour(light, rng)


def _try_crop(
    studio: Studio,
    person: Person,
    camera: int,
    look: CameraLook,
    light: Light,
    heading: float,
    rng: np.random.Generator,
) -> tuple[Bytes, CropLabel] | None:
    """A crop at a random place, or None where the place or the view of it will not do."""
    model, plaza = studio.models[camera], studio.places[studio.place_of(person)]
    place = _random_place(model, plaza, _REACH_M[view_of(camera)], rng)
    if place is None:
        return None
    swing = float(rng.choice([1.0, 1.0, 1.0, 0.15]))
    feet_and_head = np.array([[*place, 0.0], [*place, person.height]])
    upright = box_on_screen(on_screen(model, feet_and_head))
    if upright is None or not _inside(upright, model):
        return None  # before anything is built
    me = placed(figure(person, rng.uniform(0, TURN), swing), *place, heading)
    box = box_on_screen(on_screen(model, me.vertices[: me.boxed]))
    if box is None or not _inside(box, model):
        return None
    if not _BOX_HEIGHT_PX[0] <= box[3] - box[1] <= _BOX_HEIGHT_PX[1]:
        return None
    x0, y0, width, height = detector_box(box, rng)
    if studio.options.cut > 0 and rng.random() < studio.options.cut:
        x0, y0, width, height = cut_by_the_frame((x0, y0, width, height), rng)
    scale = min(1.0, MAX_HEIGHT_PX / height)
    around = _surroundings(model, plaza, place, view_of(camera))
    crowd = gathered([me, *around, *_passers_by(studio, place, view_of(camera), rng)])
    shadow = cast_shadow(light, crowd.vertices, crowd.faces, place, radius_m=2.5, size=256)
    # Rendered at twice the size and reduced, for smooth edges.
    enlarged = window(model, x0, y0, width, height, 2 * scale)
    screen = on_screen(enlarged, crowd.vertices)
    radiance, owner = render(enlarged, screen, plaza.backdrop, crowd, light, shadow)
    if studio.options.clutter > 0 and rng.random() < studio.options.clutter:
        behind(radiance, owner < 0, studio.options.seed, light, rng)
    alone_px = covered_pixels(screen[: len(me.vertices)], me.faces)
    visibility = min(1.0, int((owner == 0).sum()) / max(1, alone_px))
    if visibility < _MIN_VISIBILITY:
        return None
    size = (max(8, enlarged.width_px // 2), max(16, enlarged.height_px // 2))
    radiance = cv2.resize(radiance, size, interpolation=cv2.INTER_AREA)
    motion_px = rng.exponential(0.012) * size[1] if rng.random() < 0.3 else 0.0
    picture = develop(radiance, look, rng, motion_px, rng.normal(0, 0.4))
    label = CropLabel(round(visibility, 2), (round(x0), round(y0), round(width), round(height)))
    return picture, label


def _random_place(
    model: CameraModel, plaza: Plaza, reach_m: float, rng: np.random.Generator
) -> tuple[float, float] | None:
    """A free place on the ground (east, north) that the camera sees."""
    column = rng.uniform(0.08, 0.92) * model.width_px
    row = rng.uniform(0.12, 0.97) * model.height_px
    point = model.ground_point(column, row)
    if point is None or float(np.abs(point).max()) > _WALKABLE_M:
        return None
    if float(np.hypot(*(point - model.position[:2]))) > reach_m:
        return None
    if float(plaza.clearance(point[None])[0]) <= 0.55:
        return None
    return float(point[0]), float(point[1])


def _inside(box: tuple[float, float, float, float], model: CameraModel) -> bool:
    left, top, right, bottom = box
    return left >= 2 and top >= 2 and right <= model.width_px - 2 and bottom <= model.height_px - 2


def _surroundings(
    model: CameraModel, plaza: Plaza, place: tuple[float, float], view: View
) -> list[Mesh]:
    """Furniture near the person, and for a street camera also what stands in between."""
    near_m = 6.0 if view is View.AERIAL else 9.0
    props = plaza.props_near(*place, near_m)
    if view is View.AERIAL:
        return props
    eye: Floats = model.position[:2]
    way = np.array(place) - eye
    length = float(np.linalg.norm(way))
    way /= length
    offset = plaza.middles - eye
    along = offset @ way
    aside = np.abs(offset[:, 0] * way[1] - offset[:, 1] * way[0])
    between = np.flatnonzero((along > 0) & (along < length) & (aside < 3))
    near = {id(prop) for prop in props}
    return props + [plaza.props[i] for i in between if id(plaza.props[i]) not in near]


def _passers_by(
    studio: Studio, place: tuple[float, float], view: View, rng: np.random.Generator
) -> list[Mesh]:
    """One or two other people close by, perhaps in front, in some of the pictures."""
    if rng.random() >= (0.3 if view is View.AERIAL else 0.45):
        return []
    passers = []
    for _ in range(int(rng.integers(1, 3))):
        other = studio.people[int(rng.integers(len(studio.people)))]
        direction, away_m = rng.uniform(0, TURN), rng.uniform(0.5, 1.5)
        east = place[0] + away_m * float(np.cos(direction))
        north = place[1] + away_m * float(np.sin(direction))
        walker = figure(other, rng.uniform(0, TURN))
        passers.append(placed(walker, east, north, rng.uniform(0, TURN)))
    return passers


def _write_ids(path: Path, studio: Studio, labels: dict[str, Any], test: set[int]) -> None:
    table = {
        "ids": [person_as_json(person) for person in studio.people],
        "crops": labels,
        "cameras": {
            camera: {
                **place_in_air(model),
                "hour": hour_of(camera, studio.options.hour),
            }
            for camera, model in studio.models.items()
        },
        "altitude": studio.options.altitude,
        "places": {person.pid: studio.place_of(person) for person in studio.people},
        "test": sorted(test),
    }
    path.write_text(json.dumps(table) + "\n")


@contextmanager
def _all_crops(studio: Studio, people: list[Person]) -> Iterator[Iterator[list[Crop]]]:
    """The crops of some people in order, from as many processes as were asked for."""
    jobs = studio.options.jobs
    if jobs == 1:
        yield map(partial(person_crops, studio), people)
        return
    with get_context("spawn").Pool(jobs, _open_studio, (studio,)) as pool:
        yield pool.imap(_crops_here, people)


_studio: Studio | None = None  # of a worker process, set once


def _open_studio(studio: Studio) -> None:
    global _studio
    _studio = studio


def _crops_here(person: Person) -> list[Crop]:
    if _studio is None:
        raise RuntimeError("a worker was asked for crops before its studio was set")
    return person_crops(_studio, person)
