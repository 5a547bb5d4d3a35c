"""One instant of a clip: people placed, every camera's picture, every box and its visibility."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from skyreid.contract.camera import CameraModel
from skyreid.contract.sighting import View
from skyreid.synth.closets import CLOSETS
from skyreid.synth.figure import figure
from skyreid.synth.look import CameraLook, camera_look, develop, light_of
from skyreid.synth.options import ClipOptions
from skyreid.synth.places import build_place
from skyreid.synth.plaza import Plaza
from skyreid.synth.raster import (
    Light,
    Shadow,
    box_on_screen,
    cast_shadow,
    covered_pixels,
    on_screen,
)
from skyreid.synth.rig import (
    Station,
    facing_out,
    flown,
    model_of,
    station,
    view_of,
    window,
)
from skyreid.synth.shading import Bytes, StillView, render, still_view
from skyreid.synth.surfaces import Crowd, Floats, Mesh, gathered, placed
from skyreid.synth.walk import Walks, walk
from skyreid.synth.wardrobe import Person, population

SHADOW_RADIUS_M = 24.0
SHADOW_TEXELS = 2048
_CLIP_NOISE = 3.0  # the most noise of a clip's camera at --noise 1, in 8-bit steps
_MIN_BOX_PX = (3.0, 6.0)
_MIN_INSIDE = 0.3  # part of a box that must lie in the picture to be labelled


@dataclass(frozen=True)
class Box:
    """One label: an amodal box, clipped to the picture, and the part of the person that shows."""

    pid: int
    x0: float
    y0: float
    x1: float
    y1: float
    visibility: float


@dataclass(frozen=True)
class Shot:
    """What one camera saw at one frame; `picture` is RGB uint8 [H, W, 3]."""

    picture: Bytes
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Stage:
    """Everything that does not change while a clip runs."""

    options: ClipOptions
    plaza: Plaza
    people: list[Person]
    walks: Walks
    stations: dict[int, Station]
    looks: dict[int, CameraLook]
    light: Light
    furniture: Crowd
    furniture_shadow: Shadow
    still_views: dict[int, StillView]  # of the cameras that do not move


def build_stage(options: ClipOptions) -> Stage:
    """Set the stage for a clip. Equal options give an equal stage."""
    seed = options.seed
    stations = {
        camera: station(camera, seed, options.camera_jitter, options.altitude)
        for camera in options.cameras
    }
    if options.layout == "apart":
        stations = {camera: facing_out(at) for camera, at in stations.items()}
    feet = [at.position[:2] for at in stations.values() if at.view is View.GROUND]
    plaza = build_place(options.place, seed, keep_clear=feet)
    people = population(options.people, seed + 77, options.family, CLOSETS[options.wardrobe])
    light = light_of(options.hour, np.random.default_rng([seed, 7]))
    furniture = gathered(plaza.props)
    furniture_shadow = _shadow(light, furniture)
    return Stage(
        options=options,
        plaza=plaza,
        people=people,
        walks=walk(
            plaza, people, options.frame_count, options.fps, seed, options.rim, options.visit
        ),
        stations=stations,
        looks={camera: _clip_look(camera, options) for camera in options.cameras},
        light=light,
        furniture=furniture,
        furniture_shadow=furniture_shadow,
        still_views={
            camera: still_view(
                _enlarged(camera_model(stations, camera, options, 0), options),
                plaza.backdrop,
                furniture,
                light,
                furniture_shadow,
            )
            for camera in options.cameras
            if view_of(camera) is View.GROUND
        },
    )


def camera_model(
    stations: dict[int, Station], camera: int, options: ClipOptions, frame: int
) -> CameraModel:
    """The camera at a frame (from 0), at the size of the delivered picture."""
    at = flown(stations[camera], camera, options.seed, frame / options.fps, options.path)
    return model_of(at, options.width_px, options.height_px)


def shoot(stage: Stage, frame: int) -> dict[int, Shot]:
    """Every camera's picture and labels at a frame (from 0)."""
    walks = stage.walks
    here = [int(i) for i in np.flatnonzero(walks.present[frame])]
    walkers = [
        placed(
            figure(stage.people[i], walks.phase[frame, i], walks.swing[frame, i]),
            walks.east[frame, i],
            walks.north[frame, i],
            walks.heading[frame, i],
        )
        for i in here
    ]
    crowd = gathered([*stage.plaza.props, *walkers])
    shadow = _shadow(stage.light, crowd, stage.furniture_shadow, len(stage.furniture.faces))
    people = [stage.people[i] for i in here]
    shots = {}
    for camera in stage.options.cameras:
        model = camera_model(stage.stations, camera, stage.options, frame)
        enlarged = _enlarged(model, stage.options)
        screen = on_screen(enlarged, crowd.vertices)
        radiance, owner = render(
            enlarged,
            screen,
            stage.plaza.backdrop,
            crowd,
            stage.light,
            shadow,
            stage.still_views.get(camera),
        )
        if stage.options.oversample > 1:
            size = (model.width_px, model.height_px)
            radiance = cv2.resize(radiance, size, interpolation=cv2.INTER_AREA)
        rng = np.random.default_rng([stage.options.seed, camera, frame])
        picture = develop(radiance, stage.looks[camera], rng)
        seen = np.bincount(owner[owner >= 0], minlength=len(crowd.starts))
        boxes = []
        for index, (person, walker) in enumerate(zip(people, walkers, strict=True)):
            mesh = len(stage.plaza.props) + index
            start = crowd.starts[mesh]
            mine = screen[start : start + len(walker.vertices)]
            box = _label(model, stage.options.oversample, person, walker, mine, int(seen[mesh]))
            boxes += [] if box is None else [box]
        shots[camera] = Shot(picture, tuple(boxes))
    return shots


def _enlarged(model: CameraModel, options: ClipOptions) -> CameraModel:
    return window(model, 0, 0, model.width_px, model.height_px, options.oversample)


def _shadow(light: Light, crowd: Crowd, base: Shadow | None = None, first_face: int = 0) -> Shadow:
    return cast_shadow(
        light,
        crowd.vertices,
        crowd.faces,
        centre=(0.0, 0.0),
        radius_m=SHADOW_RADIUS_M,
        size=SHADOW_TEXELS,
        base=base,
        first_face=first_face,
    )


def _clip_look(camera: int, options: ClipOptions) -> CameraLook:
    """The camera's look with the noise of a clip, which must be compressed."""
    look = camera_look(camera, options.seed, night=options.hour == "night")
    return replace(look, noise=min(look.noise, _CLIP_NOISE) * options.noise)


def _label(
    model: CameraModel, scale: float, person: Person, walker: Mesh, screen: Floats, seen_px: int
) -> Box | None:
    """The walker's label, or None where too little of the box lies in the picture.

    `screen` are the walker's vertices in the rendered picture, `scale` times the delivered one.
    """
    whole = box_on_screen(screen[: walker.boxed])
    if whole is None:
        return None
    left, top, right, bottom = (edge / scale for edge in whole)
    x0, y0 = max(0.0, left), max(0.0, top)
    x1, y1 = min(float(model.width_px), right), min(float(model.height_px), bottom)
    width, height = x1 - x0, y1 - y0
    area = (right - left) * (bottom - top)
    if width < _MIN_BOX_PX[0] or height < _MIN_BOX_PX[1] or width * height < _MIN_INSIDE * area:
        return None
    alone_px = covered_pixels(screen, walker.faces)
    return Box(person.pid, x0, y0, x1, y1, min(1.0, seen_px / max(1, alone_px)))
