"""What a drone's height and tilt cost, measured in the rendered world: the table of `plan`.

A drone's picture of a person is decided by two numbers, whatever its height, lens and sensor: how
many pixels a metre has at the person, and how steeply it looks down. For each of `PITCHES_DEG` and
`PIXELS_A_METRE` a drone is put over the rendered places, and two things are measured.

* The detector's recall at its own threshold, over everybody of whom half shows, however small.
* FNIR at FPIR 1 %: a crop from the drone is searched for among tracklets of the street cameras, one
  a person and camera, each camera less its mean as the server has it. The threshold is the score
  that one in a hundred strangers' best reaches; a person is missed below it, or when somebody else
  is nearer. Everybody is a stranger once, with the own tracklets left out. Nobody has a look-alike
  in this population: families of them are a harder question.

Pixels are rendered, so a real drone must be expected to do worse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.detector import Detector, open_detector
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.recall import VISIBILITY_MIN, judge, merge
from skyreid.contract import files
from skyreid.contract.input_spec import fit
from skyreid.contract.sighting import View
from skyreid.synth.closets import EVERYDAY
from skyreid.synth.crops import build_studio, person_crops
from skyreid.synth.options import PLACES, ClipOptions, CropsOptions
from skyreid.synth.rig import Station, model_of
from skyreid.synth.stage import build_stage, shoot
from skyreid.synth.wardrobe import population

PITCHES_DEG = (30.0, 45.0, 60.0, 75.0, 89.0)
PIXELS_A_METRE = (16.0, 24.0, 36.0, 54.0, 80.0, 120.0)
FOV_DEG = 55.0
SIZE_PX = (1280, 720)
FPIR = 0.01
_STREET = (6, 7, 8, 9, 10, 11, 12, 13)
_DRONES = (1, 2, 3, 4, 5)
_DRAWS = 400
OTHERS_LOGIT = 0.8
"""How much wider, in logits, an interval over these people is made to hold for as many others: the
threshold hangs on the one or two pairs who look most alike, whom a population has or has not, and
fifty others were .75 to 1.5 logits away at three heights (docs/LOG.md)."""
PERSON_M = (1.7, 0.5)
"""Height and depth of who is looked at."""
CROP_MIN_PX = 26.0
"""Smaller people are not rendered as crops: `synth crops` takes boxes from 22 pixels on."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Amount:
    """How much is rendered; less is for tests."""

    people: int = 50
    crops: int = 2
    boxes: int = 300
    frames: int = 8
    """Of each place, at most."""
    seed: int = 7001


@dataclass(frozen=True)
class Cell:
    """One way a drone looks; `None` where nobody is large enough to be rendered as a crop."""

    pitch_deg: float
    pixels_a_metre: float
    height_m: float
    boxes: int
    recall: float
    probes: int
    fnir: float | None
    fnir_interval: tuple[float, float] | None


def pixels_a_metre(height_m: float, pitch_deg: float, fov_deg: float, width_px: int) -> float:
    """Pixels of a metre across the view, at half a person's height in the middle of the picture."""
    focal_px = width_px / 2 / np.tan(np.radians(fov_deg) / 2)
    return float(focal_px * np.sin(np.radians(pitch_deg)) / height_m)


def over(pitch_deg: float, height_m: float, yaw_deg: float, fov_deg: float = FOV_DEG) -> Station:
    """A drone at a height that looks at the middle of the place."""
    away, yaw = height_m / np.tan(np.radians(pitch_deg)), np.radians(yaw_deg)
    place = (float(-away * np.cos(yaw)), float(-away * np.sin(yaw)), height_m)
    return Station(place, yaw_deg, -pitch_deg, fov_deg, View.AERIAL)


def grid() -> list[tuple[float, float]]:
    """Pitch and height of every cell."""
    at_one_metre = pixels_a_metre(1.0, 90.0, FOV_DEG, SIZE_PX[0])
    return [
        (pitch, at_one_metre * float(np.sin(np.radians(pitch))) / pixels)
        for pitch in PITCHES_DEG
        for pixels in PIXELS_A_METRE
    ]


def measure(
    detector: Detector,
    embedder: Embedder,
    looks: Sequence[tuple[float, float]],
    amount: Amount,
) -> list[Cell]:
    """A cell for each pair of pitch (degrees below the horizon) and height in metres."""
    recalls: list[tuple[int, float]] = []
    misses: list[tuple[int, float | None, tuple[float, float] | None]] = []
    gallery = _gallery(embedder, amount)
    with tqdm(total=len(looks), unit="drone", disable=None) as bar:
        for start in range(0, len(looks), len(_DRONES)):
            some = looks[start : start + len(_DRONES)]
            recalls += _recalls(detector, some, amount)
            misses += _misses(embedder, some, gallery, amount)
            bar.update(len(some))
    return [
        Cell(
            pitch_deg=pitch,
            pixels_a_metre=round(pixels_a_metre(height, pitch, FOV_DEG, SIZE_PX[0]), 4),
            height_m=round(height, 4),
            boxes=boxes,
            recall=round(recall, 4),
            probes=probes,
            fnir=fnir,
            fnir_interval=interval,
        )
        for (pitch, height), (boxes, recall), (probes, fnir, interval) in zip(
            looks, recalls, misses, strict=True
        )
    ]


def _person_px(pitch_deg: float, height_m: float) -> float:
    pixels, pitch = pixels_a_metre(height_m, pitch_deg, FOV_DEG, SIZE_PX[0]), np.radians(pitch_deg)
    return float(pixels * (PERSON_M[0] * np.cos(pitch) + PERSON_M[1] * np.sin(pitch)))


def _stations(looks: Sequence[tuple[float, float]], turn_deg: float) -> dict[int, Station]:
    return {
        drone: over(pitch, height, 70.0 * drone + turn_deg)
        for drone, (pitch, height) in zip(_DRONES, looks, strict=False)
    }


def _recalls(
    detector: Detector, looks: Sequence[tuple[float, float]], amount: Amount
) -> list[tuple[int, float]]:
    tallies: dict[int, list[Any]] = {drone: [] for drone in _DRONES[: len(looks)]}
    for number, place in enumerate(PLACES):
        options = ClipOptions(
            out=Path(),
            seed=amount.seed + number,
            seconds=4.0 * amount.frames,
            fps=1,
            people=40,
            family=1,
            cameras=tuple(tallies),
            width_px=SIZE_PX[0],
            place=place,
            wardrobe="everyday" if number % 2 == 0 else "vivid",
        )
        stage = replace(build_stage(options), stations=_stations(looks, 40.0 * number))
        wanted = amount.boxes * (number + 1) / len(PLACES)
        for frame in range(0, options.frame_count, 4):
            left = [d for d in tallies if sum(t.people for t in tallies[d]) < wanted]
            if not left:
                break
            shots = shoot(replace(stage, options=replace(options, cameras=tuple(left))), frame)
            for drone, shot in shots.items():
                boxes = np.array([[b.x0, b.y0, b.x1, b.y1] for b in shot.boxes]).reshape(-1, 4)
                counts = np.array([b.visibility >= VISIBILITY_MIN for b in shot.boxes], bool)
                tallies[drone].append(judge(detector.find(shot.picture), boxes, counts))
    merged = {drone: merge(parts) for drone, parts in tallies.items()}
    return [(tally.people, tally.rates()[0] or 0.0) for tally in merged.values()]


def _options(amount: Amount, cameras: tuple[int, ...], frames: int) -> CropsOptions:
    return CropsOptions(
        out=Path(),
        people=amount.people,
        cameras=cameras,
        frames=frames,
        seed=amount.seed,
        place="mixed",
        hour="day",
        wardrobe="everyday",
    )


def _embedded(
    embedder: Embedder, options: CropsOptions, stations: dict[int, Station] | None, seed: int
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Embeddings [K, D] of everybody's crops in every camera, whose and by which camera."""
    studio = build_studio(options)
    people = population(options.people, seed, family_size=1, closet=EVERYDAY)
    studio = replace(studio, people=people)
    if stations is not None:
        models = {drone: model_of(at, *SIZE_PX) for drone, at in stations.items()}
        studio = replace(studio, models=models)
    crops = [crop for person in people for crop in person_crops(studio, person)]
    if not crops:
        empty = np.zeros(0, np.int64)
        return np.zeros((0, embedder.dim), np.float32), empty, empty
    fitted = np.stack([fit(crop.picture, embedder.spec) for crop in crops])
    rows = np.concatenate([embedder.embed(fitted[i : i + 32]) for i in range(0, len(fitted), 32)])
    return (
        rows,
        np.array([crop.pid for crop in crops], np.int64),
        np.array([crop.camera for crop in crops], np.int64),
    )


def _centred(rows: Floats) -> Floats:
    rows = rows - rows.mean(0)
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _gallery(embedder: Embedder, amount: Amount) -> tuple[Floats, NDArray[np.int64]]:
    """A tracklet of two crops for each person and street camera, each camera less its mean."""
    options = _options(amount, _STREET, 2)
    rows, people, cameras = _embedded(embedder, options, None, amount.seed)
    found, whose = [], []
    for camera in _STREET:
        mine = rows[cameras == camera]
        names, place = np.unique(people[cameras == camera], return_inverse=True)
        sums = np.zeros((len(names), rows.shape[1]), np.float32)
        np.add.at(sums, place, mine)
        found.append(_centred(sums / np.linalg.norm(sums, axis=1, keepdims=True)))
        whose.append(names)
    return np.concatenate(found), np.concatenate(whose)


def _misses(
    embedder: Embedder,
    looks: Sequence[tuple[float, float]],
    gallery: tuple[Floats, NDArray[np.int64]],
    amount: Amount,
) -> list[tuple[int, float | None, tuple[float, float] | None]]:
    stations = _stations(looks, 0.0)
    large = tuple(
        d for d, at in zip(stations, looks, strict=True) if _person_px(*at) >= CROP_MIN_PX
    )
    found: list[tuple[int, float | None, tuple[float, float] | None]] = []
    if not large:
        return [(0, None, None) for _ in looks]
    options = _options(amount, large, amount.crops)
    flown = {drone: stations[drone] for drone in large}
    rows, people, cameras = _embedded(embedder, options, flown, amount.seed)
    for drone in stations:
        mine = cameras == drone
        if mine.sum() < amount.people * amount.crops / 2:  # too small to be cut out
            found.append((int(mine.sum()), None, None))
            continue
        scores = _centred(rows[mine]) @ gallery[0].T
        own = people[mine][:, None] == gallery[1][None]
        mated = np.where(own, scores, -2).max(1)
        stranger = np.where(own, -2, scores).max(1)
        found.append((int(mine.sum()), *_fnir(mated, stranger, people[mine])))
    return found


def _fnir(
    mated: Floats, stranger: Floats, people: NDArray[np.int64]
) -> tuple[float, tuple[float, float]]:
    """The rate, and an interval for other people: 95 % drawn over these, and `OTHERS_LOGIT`."""
    names, place = np.unique(people, return_inverse=True)
    random = np.random.default_rng(0)

    def rate(times: NDArray[np.int64]) -> float:
        passing = np.quantile(np.repeat(stranger, times), 1 - FPIR)
        missed = (mated < passing) | (mated < stranger)
        return float((missed * times).sum() / times.sum())

    drawn = []
    for _ in range(_DRAWS):
        chosen = np.bincount(random.integers(0, len(names), len(names)), minlength=len(names))
        drawn.append(rate(chosen[place]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    interval = _shifted(low, -OTHERS_LOGIT, len(place)), _shifted(high, OTHERS_LOGIT, len(place))
    return rate(np.ones(len(place), np.int64)), interval


def _shifted(rate: float, by_logit: float, probes: int) -> float:
    """A rate moved on the logit scale; none and all of the probes count as half a probe off."""
    inside = min(max(rate, 0.5 / probes), 1 - 0.5 / probes)
    odds = inside / (1 - inside) * np.exp(by_logit)
    return round(float(odds / (1 + odds)), 4)


def write(out: Path, detector: Path, embedder: Path, amount: Amount = Amount()) -> None:
    """Measure two bundles and write the table that `skyreid-edge plan` reads.

    Raises:
        InputError: one of them is no bundle of its kind.
    """
    found = measure(open_detector(detector), Embedder([embedder], view=View.AERIAL), grid(), amount)
    table = {
        "command": f"skyreid-train altitude {out.name} --detector DETECTOR --embedder EMBEDDER",
        "rendered_only": True,
        "detector": {"sha256": open_bundle(detector).sha256},
        "embedder": {"sha256": open_bundle(embedder).sha256},
        "people": amount.people,
        "fpir": FPIR,
        "cells": [asdict(cell) for cell in found],
    }
    files.write(out, (json.dumps(table, indent=1) + "\n").encode())
