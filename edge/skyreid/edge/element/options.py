"""What `reidembed` is told by its properties, and what it opens for that."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skyreid.bundle.signature import Trust, read_trust
from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.settings import Section, check, read_table
from skyreid.contract.sighting import Modality, ModelRef, View
from skyreid.edge.config import RunnerSection
from skyreid.edge.people.options import CollectorOptions, TrackerOptions
from skyreid.edge.sighter import Follower, FrameDetector

if TYPE_CHECKING:
    from skyreid.bundle.detections import Detections
    from skyreid.edge.people.tiling import Finder

S = TypeVar("S", bound=Section)

PROPERTIES: dict[str, tuple[Any, Any, str]] = {
    "bundle": (
        str,
        "",
        "embedder bundle, directory or zip; of several, with ':' between, the view's",
    ),
    "view": (str, "", "where the camera looks from: aerial or ground"),
    "detector": (
        str,
        "",
        "detector bundle; without it detections are those that the buffers carry",
    ),
    "score-min": (float, -1.0, "detections of it below this are left out; -1 = its bundle's own"),
    "tiles": (str, "1x1", "rows x columns of tiles it is run over; more find smaller people"),
    "labels": (
        str,
        "person,pedestrian",
        "of carried detections, those that are people; empty = all",
    ),
    "camera": (str, "camera", "what messages call the camera"),
    "modality": (
        str,
        "unknown",
        "what its pixels are: colour, grey, infrared; unknown: measured",
    ),
    "threads": (int, 1, "CPU threads of one call of a model"),
    "trust": (str, "", "an edge.toml or server.toml: only what its [trust] accepts is opened"),
    "settings": (
        str,
        "",
        "an edge.toml: its [tracker], [crops], [runner], and [trust] if trust is unset",
    ),
    "start-ns": (int, 0, "UTC time of stream time 0 of a file, nanoseconds; 0 = it starts now"),
}
"""Type, default and what it is, of every property that may be set; read as the element starts."""


@dataclass(frozen=True)
class Options:
    """Properties, read and checked."""

    bundles: tuple[Path, ...]
    view: View
    detector: Path | None
    """None: detections are those that the buffers carry."""
    score_min: float | None
    tiles: tuple[int, int]
    labels: frozenset[str]
    camera: str
    modality: Modality
    threads: int
    trust: Trust
    runner: RunnerSection
    tracker: TrackerOptions
    crops: CollectorOptions


def read_options(said: Mapping[str, Any]) -> Options:
    """Read the properties, by the names in `PROPERTIES`.

    Raises:
        InputError: one is missing or wrong; it says which, and what it may be.
        SettingsError: the settings file cannot be read, or a table of it is wrong.
    """
    bundles = _paths(said["bundle"])
    if not bundles:
        raise InputError(
            "property bundle is not set: an embedder bundle (directory or zip); several that "
            f"together are one model with {os.pathsep} between"
        )
    if said["view"] not in ("aerial", "ground"):
        raise InputError(
            f"property view is '{said['view']}': aerial (a drone) or ground (a street camera)"
        )
    tiles = re.fullmatch(r"([1-8])x([1-8])", said["tiles"])
    if tiles is None:
        raise InputError(f"property tiles is '{said['tiles']}': ROWSxCOLUMNS, each 1 to 8, as 2x2")
    modalities = [m.word for m in Modality]
    if said["modality"] not in modalities:
        raise InputError(
            f"property modality is '{said['modality']}': one of {', '.join(modalities)}"
        )
    settings = _paths(said["settings"])
    table = read_table(settings[0], "settings") if settings else {}
    trusted = _paths(said["trust"]) or settings
    home = settings[0].absolute().parent if settings else _cache()
    runner = _section(RunnerSection, table, "runner", said["settings"])
    detector = _paths(said["detector"])
    return Options(
        bundles=bundles,
        view=View.of(said["view"]),
        detector=detector[0] if detector else None,
        score_min=said["score-min"] if said["score-min"] >= 0 else None,
        tiles=(int(tiles[1]), int(tiles[2])),
        labels=frozenset(w for word in said["labels"].split(",") if (w := word.strip().lower())),
        camera=said["camera"],
        modality=Modality.of(said["modality"]),
        threads=said["threads"],
        trust=read_trust(trusted[0] if trusted else None),
        runner=runner.model_copy(update={"engines": home / runner.engines}),
        tracker=_section(TrackerOptions, table, "tracker", said["settings"]),
        crops=_section(CollectorOptions, table, "crops", said["settings"]),
    )


def _paths(said: str | None) -> tuple[Path, ...]:
    return tuple(Path(p).expanduser() for p in (said or "").split(os.pathsep) if p)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skyreid"


def _section(section: type[S], table: Mapping[str, Any], name: str, file: str) -> S:
    found = table.get(name, {})
    if not isinstance(found, Mapping):
        raise SettingsError(f"settings {file}: {name} is no table")
    return check(section, found, f"settings {file}: {name}")


class Brought:
    """A finder that hands on what somebody else has found in the picture."""

    def __init__(self, detections: Detections) -> None:
        self.detections = detections

    def find(self, picture: Any) -> Detections:
        """See ``tiling.Finder``."""
        return self.detections


@dataclass(frozen=True)
class Opened:
    """Models that have proved themselves, and whoever follows people with them."""

    follower: Follower
    brought: Brought | None
    """Takes the detections of each buffer; None where a detector looks."""
    model: ModelRef
    runner: str
    close: Callable[[], None]
    cut: Callable[[], None]
    """Asks a call of a model that another thread is in to end."""


def open_models(options: Options) -> Opened:
    """Open the bundles, as a device does.

    Raises:
        PlatformError: a library is missing.
        BundleError: a bundle cannot be used, or ``trust`` does not accept it.
        GateError: a self-test failed.
        EngineError: TensorRT cannot build or load an engine.
    """
    from skyreid.bundle.detections import nobody
    from skyreid.bundle.detector import open_detector
    from skyreid.bundle.embedder import Embedder
    from skyreid.bundle.runner import Execution
    from skyreid.edge.people.collector import Collector
    from skyreid.edge.people.quality import with_looks
    from skyreid.edge.people.tiling import tiled
    from skyreid.edge.people.tracker import Tracker

    o, r = options, options.runner
    execution = Execution(r.kind, r.engines, frame_max=r.frame_max)
    embedder = Embedder(
        o.bundles, view=o.view, threads=o.threads, trust=o.trust, execution=execution
    )
    brought = detector = None
    if o.detector is None:
        brought = Brought(nobody())
        finder: Finder = brought
    else:
        detector = open_detector(
            o.detector, score_min=o.score_min, threads=o.threads, trust=o.trust, execution=execution
        )
        finder = tiled(detector, o.tiles)

    def follow() -> tuple[Tracker, Collector]:
        collector = Collector(
            embedder.embed,
            embedder.spec,
            camera=o.camera,
            view=o.view,
            modality=o.modality,
            options=o.crops,
            like_min=embedder.like_min,
        )
        return Tracker(o.tracker), collector

    def close() -> None:
        embedder.close()
        if detector is not None:
            detector.close()

    def cut() -> None:
        embedder.cut()
        if detector is not None:
            detector.cut()

    follower = Follower(o.camera, FrameDetector(finder, with_looks), follow)
    return Opened(follower, brought, embedder.model, embedder.runner, close, cut)
