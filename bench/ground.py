"""A row per quality of telemetry: how far the device's places are off, and whether it knows.

    python bench/ground.py WORK_DIR                  # 216 draws of each quality, about 15 minutes
    python bench/ground.py WORK_DIR --draws 27
    python bench/ground.py WORK_DIR --anchors 4      # and after `skyreid-edge calibrate --bias`

Renders nine clips (three places; drones that hover, orbit and cross) of drones at 15, 22 and 30 m,
once, and finds the people with the shipped detector, once. Each draw writes the clip's pictures and
telemetry with errors anew into a transport stream, which the device reads as it reads any: its
pose at every frame, and from it and the detector's box the place and its ellipse. Ground truth is
where the person was rendered. With anchors, so many places of the ground are found, to two pixels,
in one picture of the flight a second after its start, and what `calibrate --bias` makes of them is
set.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tomllib

from skyreid.bundle.detections import iou
from skyreid.contract.camera import CameraPoses, Pose, read_poses
from skyreid.contract.recording import read_mot
from skyreid.contract.sighting import View
from skyreid.edge.calibrate import CLICK_PX, Place, bias
from skyreid.edge.people.ground import MIDDLE_M, locate
from skyreid.edge.telemetry.anchors import Anchor
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.options import QUALITIES, Quality, TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.clock import FileClock
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource
from skyreid.synth.telemetry import ORIGIN, START_NS, write_telemetry

ROOT = Path(__file__).parents[1]
DETECTOR = ROOT / "examples" / "bundle" / "detector"
WITHIN_90 = 4.605
"""Squared Mahalanobis distance in two dimensions that nine of ten are within."""
EACH = 6
"""One in so many people is judged in each draw: those of one draw say nearly the same."""
WARM_S = 1.0
"""Of each clip, not judged: a flight has begun before anybody looks."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A person whom the detector found, and where they were."""

    frame: int
    box: tuple[float, float, float, float]
    place: np.ndarray
    visibility: float


@dataclass(frozen=True, eq=False)
class Clip:
    """One drone's flight."""

    folder: Path
    camera: str
    poses: CameraPoses
    seen: tuple[Seen, ...]


def render(folder: Path, place: str, path: str, seed: int, *, seconds: float = 4.0) -> None:
    """A clip of one drone, unless it is there."""
    from skyreid.synth.__main__ import main as synth

    if (folder / "clip.json").exists():
        return
    camera = 1 + seed % 3
    size = ["--seconds", str(seconds), "--fps", "8", "--people", "12", "--width", "640"]
    how = ["--place", place, "--path", path, "--telemetry", "exact", "--seed", str(seed)]
    if synth(["clip", str(folder), "--cameras", str(camera), *size, *how]):
        raise SystemExit(f"{folder} cannot be rendered")


def read(path: Path) -> GstSource:
    """The device's own reading of a file."""
    source = parse_source(str(path))
    return GstSource(build(source, probe()), source, FileClock(START_NS))


def find(folder: Path) -> Clip:
    """Whom the detector finds in a clip; from a file where that was asked before."""
    from skyreid.bundle.detector import open_detector

    camera = next(folder.glob("cam*.mp4")).stem
    found = folder / "found.json"
    if not found.exists():
        detector = open_detector(DETECTOR)
        boxes = []
        for frame in read(folder / f"{camera}.ts").frames(threading.Event()):
            boxes.append(detector.find(frame.rgb()).boxes.tolist())
            frame.release()
        found.write_text(json.dumps(boxes))
    truth = read_mot(folder / "gt" / f"{camera}.txt", truth=True)
    world = np.loadtxt(folder / "world.csv", delimiter=",", skiprows=1)
    place = {(int(row[0]), int(row[1])): row[2:4] for row in world}
    seen = []
    for index, boxes in enumerate(json.loads(found.read_text())):
        here = np.flatnonzero(truth.frame == index + 1)
        if not boxes or not len(here):
            continue
        overlap = iou(np.array(boxes), truth.box_xyxy[here])
        for row, box in enumerate(boxes):
            best = int(overlap[row].argmax())
            if overlap[row, best] < 0.5 or overlap[:, best].argmax() != row:
                continue
            who = here[best]
            if truth.visibility[who] >= 0.5:
                where = place[index + 1, int(truth.identity[who])]
                seen.append(Seen(index, tuple(box), where, float(truth.visibility[who])))
    return Clip(folder, camera, read_poses(folder / "calib.json", camera), tuple(seen))


def said_in(path: Path) -> list[Frame]:
    """The frames of a transport stream with what was said beside them, without their pictures."""
    frames = []
    for frame in read(path).frames(threading.Event()):
        frames.append(replace(frame, planes=None, picture=None, release=lambda: None))
        frame.release()
    return frames


def poses_by(options: TelemetryOptions, frames: Sequence[Frame]) -> list[Pose | None]:
    """What the device takes for the camera's pose at each of them."""
    poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
    return [poses.at(frame) for frame in frames]


def calibrated(
    clip: Clip, options: TelemetryOptions, said: Sequence[Pose | None], anchors: int, seed: int
) -> TelemetryOptions:
    """What is set after `calibrate --bias` by places in one picture of the flight."""
    rng = np.random.default_rng([seed, 91])
    index = round(WARM_S * clip.poses.fps)
    truth, pose = clip.poses.models[index], said[index]
    if pose is None:
        return options
    size = np.array([truth.width_px, truth.height_px])
    places = []
    while len(places) < anchors:
        pixel = rng.uniform(0.1, 0.9, 2) * size
        point = truth.ground_point(*pixel)
        if point is None:
            continue
        found = pixel + rng.normal(0, CLICK_PX, 2)
        anchor = Anchor(pose.model, (float(found[0]), float(found[1])), np.array([*point, 0.0]))
        places.append(Place("", anchor))
    lines = bias(places, options)[1]
    told = tomllib.loads("\n".join(lines[lines.index("[telemetry]  # of this flight") :]))
    return options.model_copy(
        update={
            name: tuple(v) if isinstance(v, list) else v for name, v in told["telemetry"].items()
        }
    )


Places = tuple[list[float], list[bool], int]


def judged(clip: Clip, said: Sequence[Pose | None], seed: int) -> Places:
    """Metres off, whether the ellipse holds, and people without a place."""
    off, held, lost = [], [], 0
    for person in clip.seen[seed % EACH :: EACH]:
        if person.frame < WARM_S * clip.poses.fps:
            continue
        pose = said[person.frame]
        found = None if pose is None else locate(pose, person.box, View.AERIAL)
        if found is None:
            lost += 1
            continue
        away = np.array([found.east_m, found.north_m]) - person.place
        cov = np.array([[found.cov_ee_m2, found.cov_en_m2], [found.cov_en_m2, found.cov_nn_m2]])
        off.append(float(np.hypot(*away)))
        held.append(bool(away @ np.linalg.solve(cov, away) <= WITHIN_90))
    return off, held, lost


def draw(clip: Clip, quality: Quality, seed: int, anchors: int) -> list[Places]:
    """One flight with errors, as telemetry says it, and, with anchors, less its bias."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        shutil.copy(clip.folder / f"{clip.camera}.mp4", folder)
        write_telemetry(folder, {clip.camera: clip.poses}, quality, seed)
        frames = said_in(folder / f"{clip.camera}.ts")
    # The rendered ground is flat.
    options = TelemetryOptions(source="klv", quality=quality, terrain_sigma_m=0)
    said = poses_by(options, frames)
    found = [judged(clip, said, seed)]
    if anchors:
        corrected = poses_by(calibrated(clip, options, said, anchors, seed), frames)
        found.append(judged(clip, corrected, seed))
    return found


def main() -> None:
    """Render, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for the clips, kept")
    parser.add_argument("--draws", type=int, default=216, help="of each quality")
    parser.add_argument("--quality", choices=QUALITIES, nargs="*", default=list(QUALITIES))
    parser.add_argument("--anchors", type=int, default=0, help="places found in a picture")
    options = parser.parse_args()
    kinds = [(p, f) for p in ("plaza", "street", "yard") for f in ("hover", "orbit", "transit")]
    clips = []
    for seed, (place, path) in enumerate(kinds):
        folder = options.work / f"{place}-{path}"
        render(folder, place, path, seed)
        clips.append(find(folder))
    print("quality  draws  places  ellipse holds  by draw (p10)  median m   p90 m   no place")
    for quality in options.quality:
        seeds = range(1000, 1000 + options.draws)
        drawn = [
            draw(clips[n % len(clips)], quality, seed, options.anchors)
            for n, seed in enumerate(seeds)
        ]
        for name, found in zip((quality, "  less bias"), zip(*drawn, strict=True), strict=False):
            off = [metres for some, _, _ in found for metres in some]
            held = [inside for _, some, _ in found for inside in some]
            lost = sum(none for _, _, none in found)
            shares = [np.mean(some) for _, some, _ in found if some]
            print(
                f"{name:11}  {options.draws:5}  {len(off):6}  {100 * np.mean(held):11.1f} %  "
                f"{100 * np.percentile(shares, 10):11.0f} %  {np.median(off):8.2f}  "
                f"{np.percentile(off, 90):6.2f}  {100 * lost / (lost + len(off)):7.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
