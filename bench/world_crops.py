"""Pictures of a made-up day's people, and their embeddings: both made once and kept.

Two crops of every passage, as the device would have cut them out: rendered in parts of about a
thousand, so that what was stopped goes on where it was. The crops are kept as JPEG with a digest of
everything that decided them; a bundle embeds them into one file that names that digest and its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from world_site import (
    CAMERAS,
    PLACES,
    SLOT_S,
    Day,
    Passage,
    bystanders,
    hour_at,
    modality_at,
    wardrobe,
)

from skyreid.bundle.embedder import Embedder
from skyreid.contract.input_spec import fit
from skyreid.contract.sighting import Modality, ModelRef, View
from skyreid.synth.crops import Studio, person_crops
from skyreid.synth.look import STREET_LAMPS, camera_look, jittered, light_of, make_light
from skyreid.synth.options import CAMERAS as RIG
from skyreid.synth.options import CropsOptions, Place
from skyreid.synth.places import build_place
from skyreid.synth.plaza import Plaza
from skyreid.synth.rig import model_of, station, view_of
from skyreid.synth.wardrobe import Person

UInt8 = NDArray[np.uint8]
EACH = 2
"""Crops of a passage."""
RECIPE = 1
"""Raised whenever the same day would give other pictures: those of before are made anew then."""
_PART = 500
_FULL_PX = (1920, 1080)
Key = tuple[int, int, int]
"""pid, visit, camera."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings [1 or 2, D] of every passage that has pictures, by (pid, visit, camera)."""

    vectors: dict[Key, NDArray[np.float32]]
    model: ModelRef
    recipe: str


def recipe_of(day: Day) -> str:
    """Digest of everything that decides the pictures."""
    keys = [(p.pid, p.visit, p.camera, round(float(p.times_s[0]) // SLOT_S)) for p in day.passages]
    text = json.dumps([RECIPE, EACH, day.seed, len(day.people), keys])
    return hashlib.sha256(text.encode()).hexdigest()


class Rendering:
    """The parts of a day's pictures under ``folder``; whole parts are never made again."""

    def __init__(self, day: Day, folder: Path) -> None:
        self.day, self.recipe = day, recipe_of(day)
        self.folder = folder / f"crops-{self.recipe[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        # Whole families in a random order: whoever stops early has some of every kind.
        rng = np.random.default_rng([day.seed, 3])
        family = {pid: one.family for pid, one in day.people.items()}
        rank = dict(
            zip(
                sorted(set(family.values())),
                rng.permutation(len(set(family.values()))),
                strict=True,
            )
        )
        ordered = sorted(
            day.passages, key=lambda p: (rank[family[p.pid]], p.pid, p.visit, p.camera)
        )
        self.parts = [ordered[k : k + _PART] for k in range(0, len(ordered), _PART)]

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"{part:03d}.npz"

    @property
    def missing(self) -> list[int]:
        """Parts that are yet to be rendered."""
        return [k for k in range(len(self.parts)) if not self.path(k).exists()]

    def render(self, limit: int | None = None) -> None:
        """Render what is missing of the first ``limit`` parts, or of all."""
        missing = [part for part in self.missing if limit is None or part < limit]
        if not missing:
            return
        stages = _Stages(self.day)
        for done, part in enumerate(missing):
            keys, blobs = [], []
            for passage in self.parts[part]:
                for k, data in enumerate(stages.shoot(passage)):
                    keys.append((passage.pid, passage.visit, passage.camera, k))
                    blobs.append(np.frombuffer(data, np.uint8))
            _write(
                self.path(part),
                keys=np.array(keys, np.int64).reshape(-1, 4),
                sizes=np.array([len(b) for b in blobs], np.int64),
                data=np.concatenate([np.zeros(0, np.uint8), *blobs]),
            )
            print(f"rendered {done + 1} of {len(missing)} parts", flush=True)

    def embed(self, bundle: Path, limit: int | None = None) -> Embedded:
        """The embeddings of the first ``limit`` parts, or of all, from the cache or made."""
        have = list(range(len(self.parts)))[:limit]
        embedders = {view: Embedder([bundle], view=view) for view in View}
        model = embedders[View.AERIAL].model
        cache = self.folder / f"embeddings-{model.bundle_sha256[:12]}-{len(have):03d}.npz"
        if not cache.exists():
            keys, rows = [], []
            for part in have:
                with np.load(self.path(part)) as file:
                    table, data = file["keys"], file["data"]
                    ends = np.cumsum(file["sizes"])
                pictures = [
                    _fitted(data[end - size : end], embedders[View.AERIAL])
                    for end, size in zip(ends, np.diff(ends, prepend=0), strict=True)
                ]
                views = np.array([CAMERAS[c].view for c in table[:, 2]])
                out = np.zeros((len(table), model.dim), np.float32)
                for view, embedder in embedders.items():
                    rows_of = np.flatnonzero(views == view)
                    for k in range(0, len(rows_of), 32):
                        some = rows_of[k : k + 32]
                        out[some] = embedder.embed(np.stack([pictures[i] for i in some]))
                keys.append(table)
                rows.append(out)
            _write(
                cache, keys=np.concatenate(keys), vectors=np.concatenate(rows),
                recipe=np.array(self.recipe), bundle=np.array(model.bundle_sha256),
            )  # fmt: skip
        vectors: dict[Key, list[NDArray[np.float32]]] = {}
        with np.load(cache) as file:
            assert str(file["recipe"]) == self.recipe, cache
            assert str(file["bundle"]) == model.bundle_sha256, cache
            for (pid, visit, camera, _), row in zip(
                file["keys"].tolist(), file["vectors"], strict=True
            ):
                vectors.setdefault((pid, visit, camera), []).append(row)
        return Embedded({key: np.stack(rows) for key, rows in vectors.items()}, model, self.recipe)

    def among(self, embedded: Embedded, first: int, last: int) -> Embedded:
        """Of people whose pictures are all in the parts from ``first`` up to ``last``."""
        inside = {p.pid for part in self.parts[first:last] for p in part}
        inside -= {p.pid for part in self.parts[:first] + self.parts[last:] for p in part}
        vectors = {key: rows for key, rows in embedded.vectors.items() if key[0] in inside}
        return replace(embedded, vectors=vectors)


def _fitted(data: UInt8, embedder: Embedder) -> UInt8:
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert picture is not None  # it was written by this file
    return fit(np.ascontiguousarray(picture[..., ::-1]), embedder.spec)


def _write(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Whole or not at all."""
    half = path.with_suffix(".part")
    with half.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(half, path)


class _Stages:
    """Where passages are photographed: a place, a camera and the light of its half hour."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._people = wardrobe(day.seed, len(day.people))
        self._others = bystanders(day.seed)
        self._places: dict[Place, Plaza] = {}  # drawn when somebody is there

    def shoot(self, passage: Passage) -> list[bytes]:
        """Up to ``EACH`` JPEG pictures of one passage; none where no clear view of it was found."""
        camera, begin_s = CAMERAS[passage.camera], float(passage.times_s[0])
        person = self._people[passage.pid]
        stage = self._stage(passage, begin_s)
        infrared = modality_at(camera, begin_s) is Modality.INFRARED
        quality = [cv2.IMWRITE_JPEG_QUALITY, stage.looks[camera.rig].jpeg_quality]
        out = []
        for crop in person_crops(stage, person):
            picture = _infrared(crop.picture, person) if infrared else crop.picture
            done, data = cv2.imencode(".jpg", picture[..., ::-1], quality)
            assert done
            out.append(data.tobytes())
        return out

    def _stage(self, passage: Passage, begin_s: float) -> Studio:
        camera, seed = CAMERAS[passage.camera], self._day.seed
        name, altitude = PLACES[camera.place]
        hour = hour_at(camera.place, begin_s)
        slot = int(begin_s // SLOT_S)
        # One sun for the whole place and half hour; exposure and colours are each camera's own.
        light = light_of(hour, np.random.default_rng([seed, camera.place, slot, 4]))
        if hour == "night":
            light = STREET_LAMPS
            if camera.view is View.GROUND:  # its own infrared lamps
                light = make_light(90, 30, np.array([0.6, 0.6, 0.6]), np.array([0.5, 0.5, 0.5]))
        look = camera_look(camera.rig, seed * 10 + camera.place, night=hour == "night")
        look = jittered(look, np.random.default_rng([seed, camera.number, slot, 5]), 1.0)
        # Every passage draws its own places, postures and passers-by.
        own = seed * 100 + 10 * passage.visit + camera.place
        return Studio(
            options=CropsOptions(
                out=Path(), cameras=(camera.rig,), frames=EACH, seed=own, jitter=0.0,
                place=name, hour=hour, altitude=altitude,
            ),
            places={name: self._place(name)},
            people=self._others,
            models={camera.rig: model_of(station(camera.rig, altitude=altitude), *_FULL_PX)},
            looks={camera.rig: look},
            lights={camera.rig: light},
        )  # fmt: skip

    def _place(self, name: Place) -> Plaza:
        if name not in self._places:
            feet = [station(c).position[:2] for c in RIG if view_of(c) is View.GROUND]
            self._places[name] = build_place(name, self._day.seed, keep_clear=feet)
        return self._places[name]


def _infrared(picture: UInt8, person: Person) -> UInt8:
    """As an infrared camera shows it: dyes reflect each in another way, one always alike."""
    weights = np.random.default_rng([person.seed, 6]).uniform(0, 1, 3)
    grey = 255 * (picture / 255) ** 0.75 @ (weights / weights.sum())
    return np.repeat(np.clip(grey + 0.5, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
