"""What a device's time goes into, on this machine: CPU time, all of it compared within one run.

A file is read again and again, each time a step further along the way: decoded by GStreamer alone;
handed over frame by frame; through everything but the networks, whose outputs were recorded in a
first pass; and as in a run. The passes take turns, so that what else the machine does meets all
alike; CPU time leaves it out. Beside them the embedding network alone, and with crops made for it.
"""

from __future__ import annotations

import resource
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections
from skyreid.bundle.embedder import choose, open_all
from skyreid.bundle.runner import Execution, start
from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import crop_box, fit
from skyreid.edge.app import Plan, sighter_of, source_of
from skyreid.edge.people.quality import with_looks
from skyreid.edge.people.tiling import Finder
from skyreid.edge.sighter import FrameDetector, Identity
from skyreid.edge.video.platform import load_gst

BATCH = 8
_CALLS = 20
_AHEAD = 8
"""Frames that may be decoded before they are asked for: four wait, the rest are being made. A pass
is measured from one such moment to another; what starting and ending cost is in none."""
_WARM_FRAMES = 0.25
"""Of the frames of the memory test, until what is cached is cached."""


@dataclass
class _Recorded:
    """What the networks said in the first pass, in its order."""

    people: list[Detections]
    embeddings: list[NDArray[np.float32]]
    crops: list[NDArray[np.uint8]]


class _Recording:
    """Detector and embedder that remember."""

    def __init__(self, plan: Plan, into: _Recorded) -> None:
        assert isinstance(plan.detector, FrameDetector)
        self._finder, self._embedder, self._into = plan.detector.finder, plan.embedder, into
        self.spec, self.model = plan.embedder.spec, plan.embedder.model
        self.like_min = plan.embedder.like_min

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        found = self._finder.find(picture)
        self._into.people.append(found)
        height, width = picture.shape[:2]
        for box in found.boxes[: BATCH - len(self._into.crops)]:
            area = [float(v) for v in box]
            x0, y0, x1, y1 = crop_box(
                (area[0], area[1], area[2], area[3]), width, height, self.spec.crop_margin
            )
            self._into.crops.append(picture[y0:y1, x0:x1].copy())
        return found

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        out = self._embedder.embed(crops)
        self._into.embeddings.append(out)
        return out


class _Replayed:
    """Detector and embedder that say what they said, in the same order."""

    def __init__(self, recorded: _Recorded, of: _Recording) -> None:
        self._people, self._embeddings = iter(recorded.people), iter(recorded.embeddings)
        self.spec, self.model, self.like_min = of.spec, of.model, of.like_min

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        return next(self._people)

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return next(self._embeddings)


class _Meter:
    """CPU time a frame, from the frame on by which a decoder runs ahead as it will at the end."""

    def __init__(self, frames: int) -> None:
        self._from = min(_AHEAD, frames // 4)
        self._seen = 0
        self._began_s = self._ended_s = _cpu_s()

    def count(self) -> None:
        """A frame is done with."""
        self._seen += 1
        self.end()
        if self._seen == self._from:
            self._began_s = self._ended_s

    def end(self) -> None:
        """What comes from here on is measured only if another frame does."""
        self._ended_s = _cpu_s()

    @property
    def frame_ms(self) -> float:
        """Of all but the first."""
        return 1e3 * (self._ended_s - self._began_s) / max(self._seen - self._from, 1)


def measure(plan: Plan, *, frames: int, rounds: int, growth_frames: int) -> dict[str, float]:
    """Time a device's way on a file.

    Args:
        plan: what would run; its source is a file.
        frames: of the file's beginning, in each pass; a file that ends sooner gives fewer.
        rounds: passes of each kind; the median counts.
        growth_frames: after which resident memory is compared with a quarter of them before.

    Returns:
        Of a frame ``decode_cpu_ms``, ``source_cpu_ms``, ``path_cpu_ms`` and ``full_cpu_ms``;
        ``source_ratio`` and ``path_ratio`` to decoding; crops a CPU second at batch 8,
        ``engine_crops_per_s`` and ``stage_crops_per_s`` (fit and embed), and ``stage_ratio``;
        ``rss_mb`` and ``rss_growth``.

    Raises:
        InputError: the source is no file, or has no frame.
    """
    if plan.source.kind != "file":
        raise InputError(f"bench needs a file, camera.source is {plan.source.name}")
    there = _pass(plan, frames + _AHEAD, None)
    if not there:
        raise InputError(f"{plan.source.name} holds no frame")
    frames = max(1, min(frames, there - _AHEAD))
    recorded = _Recorded([], [], [])
    recording = _Recording(plan, recorded)
    _pass(plan, frames, recording)

    def replayed(meter: _Meter | None = None) -> int:
        return _pass(plan, frames, _Replayed(recorded, recording), meter)

    passes: dict[str, Callable[[_Meter], int]] = {
        "decode": lambda meter: _decode(plan.source.target, frames, meter),
        "source": lambda meter: _pass(plan, frames, None, meter),
        "path": replayed,
        "full": lambda meter: _pass(plan, frames, recording, meter),
    }
    spent: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, run in passes.items():
            recorded.people.clear() if name == "full" else None
            recorded.embeddings.clear() if name == "full" else None
            meter = _Meter(frames)
            run(meter)
            spent[name].append(meter.frame_ms)
    facts = {f"{name}_cpu_ms": statistics.median(values) for name, values in spent.items()}
    for name in ("source", "path"):
        pairs = zip(spent[name], spent["decode"], strict=True)
        facts[f"{name}_ratio"] = statistics.median(a / b for a, b in pairs)
    facts |= _stage(plan, recorded.crops)
    return facts | _growth(replayed, growth_frames)


def _cpu_s() -> float:
    """CPU seconds of all threads of this process, the decoder's too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _decode(path: str, frames: int, meter: _Meter) -> int:
    """The file through the same decoder into nothing; returns the frames."""
    gst, _, _ = load_gst()
    counted = 0

    def count(*_: Any) -> Any:
        nonlocal counted
        counted += 1
        meter.count()
        return gst.PadProbeReturn.OK

    quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    pipeline = gst.parse_launch(
        f"filesrc location={quoted} ! decodebin3 ! video/x-raw ! "
        f"fakesink name=sink sync=false num-buffers={frames}"
    )
    pad = pipeline.get_by_name("sink").get_static_pad("sink")
    pad.add_probe(gst.PadProbeType.BUFFER, count)
    pipeline.set_state(gst.State.PLAYING)
    pipeline.get_bus().timed_pop_filtered(
        gst.CLOCK_TIME_NONE, gst.MessageType.EOS | gst.MessageType.ERROR
    )
    pipeline.set_state(gst.State.NULL)
    return counted


def _pass(plan: Plan, frames: int, networks: Any, meter: _Meter | None = None) -> int:
    """The file's first frames through the device, or its source alone; returns the frames."""
    source, count = source_of(plan, 1, lambda state, why: None), 0
    look: Callable[[Any], object] | None = None
    sighter = None
    if networks is not None:
        finder: Finder = networks
        stand_in = replace(plan, detector=FrameDetector(finder, with_looks), embedder=networks)
        who = Identity("bench", "bench", "1-bench", plan.camera.id, plan.view, networks.model)
        sighter = sighter_of(stand_in, who, 1)
        look = sighter.look
    stream = source.frames(threading.Event())
    try:
        for frame in islice(stream, frames):
            count += 1
            try:
                if look is not None:
                    look(frame)
            finally:
                frame.release()
            if meter is not None:
                meter.count()
        if sighter is not None:
            sighter.finish()
        if meter is not None:
            meter.end()
    finally:
        stream.close()
    return count


def _stage(plan: Plan, crops: list[NDArray[np.uint8]]) -> dict[str, float]:
    """The embedding network alone, and with `fit` before and normalising behind it."""
    settings, spec = plan.settings, plan.embedder.spec
    while len(crops) < BATCH:  # nobody in the picture: a person 25 m away
        crops.append(np.random.default_rng(len(crops)).integers(0, 256, (200, 90, 3), np.uint8))
    bundle = choose(open_all(settings.embedder.bundles, settings.trust), plan.view)
    execution = Execution(settings.runner.kind, settings.runner.engines)
    spent: dict[str, list[float]] = {"engine": [], "stage": []}
    fitted = np.stack([fit(crop, spec) for crop in crops])
    with start(bundle, threads=settings.embedder.threads, execution=execution) as engine:
        for number in range(-2, _CALLS):
            for name in ("engine", "stage"):
                began = _cpu_s()
                if name == "engine":
                    engine.run(fitted)
                else:
                    plan.embedder.embed(np.stack([fit(crop, spec) for crop in crops]))
                if number >= 0:
                    spent[name].append(_cpu_s() - began)
    rates = {name: BATCH / statistics.median(values) for name, values in spent.items()}
    ratios = [a / b for a, b in zip(spent["engine"], spent["stage"], strict=True)]
    return {
        "engine_crops_per_s": rates["engine"],
        "stage_crops_per_s": rates["stage"],
        "stage_ratio": statistics.median(ratios),
    }


def _growth(run: Callable[[], int], wanted: int) -> dict[str, float]:
    """Resident memory after at least `wanted` frames, in passes over all of them, and its growth.

    A pass that ended sooner would ask for embeddings that no network has given.
    """
    done, before_mb = 0, 0.0
    while done < wanted:
        done += run()
        if not before_mb and done >= _WARM_FRAMES * wanted:
            before_mb = _resident_mb()
    after_mb = _resident_mb()
    return {"rss_mb": after_mb, "rss_growth": after_mb / before_mb - 1 if before_mb else 0.0}


def _resident_mb() -> float:
    time.sleep(0.2)  # the pipeline's threads have let go
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
