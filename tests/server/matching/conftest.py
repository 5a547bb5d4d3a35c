"""A made-up plaza: people walk, cameras look, devices report. No pictures, all arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Box, Clock, Ground, Kind, Modality, Sighting, View
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals

START_NS = 1_790_000_000_000_000_000
DIM = 64


@dataclass(frozen=True)
class Camera:
    name: str
    view: View
    low: tuple[float, float] = (-20.0, -20.0)
    high: tuple[float, float] = (20.0, 20.0)
    pose: bool = True
    shift_m: tuple[float, float] = (0.0, 0.0)
    """How wrong the pose is."""


@dataclass(frozen=True)
class World:
    """``told``: (device, boot, model key, sighting) by capture time; ``truth``: whose it is."""

    told: list[tuple[str, str, str, Sighting]]
    truth: dict[TrackKey, int]


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def make_world(
    seed: int,
    cameras: list[Camera],
    *,
    people: int = 8,
    seconds: int = 12,
    stay_s: tuple[float, float] | None = None,
    noise: float = 0.7,
    view_gap: float = 0.6,
    breaks: float = 0.05,
    infrared_from_s: int | None = None,
    noticed: bool = True,
) -> World:
    """People cross a square of 20 m; every camera follows those in its field, with breaks.

    ``stay_s``: how long somebody stays (uniform), None = all the time. ``noise`` and ``view_gap``
    say how much a crop and a view differ from the person; ``breaks`` is the chance per second that
    a tracker loses somebody. From ``infrared_from_s`` on all cameras see in infrared: the shipped
    embedder then has a person at a cosine of .39 +- .15 to their own look before (here: signs of
    three dimensions in ten are turned), strangers at 0 +- .13, and those seen so compare as before.
    A device that ``noticed`` says so, and its aggregates begin anew from there.
    """
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(people, DIM)) / np.sqrt(DIM)
    of_view = {v: rng.normal(size=(people, DIM)) / np.sqrt(DIM) for v in View}
    of_camera = {c.name: rng.normal(size=DIM) / np.sqrt(DIM) for c in cameras}
    infrared = np.where(np.random.default_rng([seed, 1]).permutation(DIM) < 0.305 * DIM, -1, 1)
    a, b = rng.uniform(-9, 9, (people, 2)), rng.uniform(-9, 9, (people, 2))
    here = np.ones((people, seconds), np.bool_)
    if stay_s is not None:
        stays = rng.uniform(*stay_s, people)
        begin = rng.uniform(-stays, seconds)
        now = np.arange(seconds)[None]
        here = (now >= begin[:, None]) & (now < (begin + stays)[:, None])
    told: list[tuple[str, str, str, Sighting]] = []
    truth: dict[TrackKey, int] = {}
    for camera in cameras:
        device, number, seq = f"dev-{camera.name}", 0, 0
        for person in range(people):
            walk = a[person] + np.linspace(0, 1, seconds)[:, None] * (b[person] - a[person])
            track = None
            for second in range(seconds):
                inside = (walk[second] >= camera.low).all() and (walk[second] <= camera.high).all()
                if not inside or not here[person, second] or rng.random() < breaks:
                    track = None
                    continue
                if track is None:
                    number += 1
                    track, first, revision, crops = number, second, 0, 0
                    total = np.zeros(DIM)
                    truth[TrackKey(device, "1-a", camera.name, track)] = person
                else:
                    revision += 1
                crops += 2
                scatter = rng.normal(size=DIM) * noise / np.sqrt(DIM) / np.sqrt(2)
                light = infrared_from_s is not None and second >= infrared_from_s
                if noticed and light and second == infrared_from_s:
                    total, crops = np.zeros(DIM), 2
                total += (infrared if light else 1) * (
                    looks[person]
                    + view_gap * of_view[camera.view][person]
                    + 0.8 * of_camera[camera.name]
                    + scatter
                )
                ground = None
                if camera.pose:
                    east, north = walk[second] + rng.normal(0, 0.3, 2) + camera.shift_m
                    ground = Ground(float(east), float(north), 0.1, 0.0, 0.1)
                seq += 1
                sighting = Sighting(
                    seq,
                    camera.name,
                    camera.view,
                    track,
                    revision,
                    Kind.UPDATE if revision else Kind.NEW,
                    START_NS + first * 10**9,
                    START_NS + second * 10**9 + 1000 * (number % 7),
                    Clock.NTP,
                    1,
                    Box(10, 10, 40, 90, 640, 360),
                    0.9,
                    crops,
                    unit(total),
                    0.9,
                    ground,
                    modality=Modality.GREY if light and noticed else Modality.UNKNOWN,
                )
                told.append((device, "1-a", "model0", sighting))
    told.sort(key=lambda row: (row[3].captured_at_ns, row[0], row[3].track))
    return World(told, truth)


PLAZA = [
    Camera("cam1", View.AERIAL),
    Camera("cam3", View.AERIAL),
    Camera("cam6", View.GROUND, low=(-20, -20), high=(20, 5)),
    Camera("cam8", View.GROUND, low=(-5, -20), high=(20, 20)),
]


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    return make_world


@pytest.fixture(scope="session")
def plaza() -> list[Camera]:
    return PLAZA


@pytest.fixture(scope="session")
def blind() -> list[Camera]:
    """The plaza's cameras where nobody knows the poses."""
    return [replace(camera, pose=False) for camera in PLAZA]


def run(
    world: World,
    options: MatchingOptions | None = None,
    *,
    step_s: float = 0.5,
    priors: Mapping[str, Normals] | None = None,
) -> Matcher:
    """Feed a world in order of capture, deciding as time goes on."""
    matcher = Matcher(options or MatchingOptions(), priors=priors or {})
    horizon_ns = START_NS
    for device, boot, model, sighting in world.told:
        while sighting.captured_at_ns > horizon_ns:
            matcher.advance(horizon_ns)
            horizon_ns += round(step_s * 1e9)
        matcher.add(device, boot, model, sighting)
    matcher.advance(None)
    return matcher


@pytest.fixture(scope="session")
def matched() -> Callable[..., Matcher]:
    return run


def pair_scores(matcher: Matcher, truth: dict[TrackKey, int]) -> tuple[float, float]:
    """Precision and recall over pairs of tracklets of different cameras."""
    keys = [k for k in sorted(truth) if k in matcher.state.tracks]
    right = said = there = 0
    for i, a in enumerate(keys):
        for b in keys[:i]:
            if a.camera == b.camera:
                continue
            same = truth[a] == truth[b]
            joined = matcher.state.tracks[a] == matcher.state.tracks[b]
            right += same and joined
            said += joined
            there += same
    return right / max(said, 1), right / max(there, 1)


@pytest.fixture(scope="session")
def pairs_right() -> Callable[..., tuple[float, float]]:
    return pair_scores
