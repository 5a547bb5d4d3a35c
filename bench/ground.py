"""A row per quality of telemetry: how far the device's places are off, and whether it knows.

    python bench/ground.py WORK_DIR                  # 216 draws of each quality, about 15 minutes
    python bench/ground.py WORK_DIR --draws 27
    python bench/ground.py WORK_DIR --anchors 4      # and after `skyreid-edge calibrate --bias`
    python bench/ground.py WORK_DIR --over mavlink   # over UDP on loopback instead

Renders nine clips (three places; drones that hover, orbit and cross) of drones at 15, 22 and 30 m,
once, and finds the people with the shipped detector, once. Each draw writes the clip's pictures and
telemetry with errors anew into a transport stream, which the device reads as it reads any: its
pose at every frame, and from it and the detector's box the place and its ellipse. Ground truth is
where the person was rendered. With anchors, so many places of the ground are found, to two pixels,
in one picture of the flight a second after its start, and what `calibrate --bias` makes of them is
set.

Over MAVLink an autopilot says the same errors ten times a second to a UDP port of this machine, on
which the device listens; the link is 300 ms late and by chance up to 120 ms more, so that messages
overtake each other. Each message is sent before the first frame that is captured after it has come:
a flight takes no longer than its arithmetic. What a pose is late by is its place off along the way,
over the speed, where a drone moves by .5 m/s and more; of quality `exact`, for noise is no lag.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import tomllib

from skyreid.bundle.detections import iou
from skyreid.contract.camera import CameraModel, CameraPoses, Pose, read_poses
from skyreid.contract.recording import read_mot
from skyreid.contract.rotation import turn
from skyreid.contract.sighting import View
from skyreid.edge.calibrate import CLICK_PX, Place, bias
from skyreid.edge.people.ground import MIDDLE_M, locate
from skyreid.edge.telemetry.anchors import Anchor
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.mavlink_feed import MavlinkFeed
from skyreid.edge.telemetry.mavlink_link import UdpLink
from skyreid.edge.telemetry.options import QUALITIES, Quality, TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.clock import FileClock
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource
from skyreid.synth.telemetry import (
    LEVELS,
    ORIGIN,
    START_NS,
    draw_packets,
    pose_at,
    write_telemetry,
)

ROOT = Path(__file__).parents[1]
DETECTOR = ROOT / "examples" / "bundle" / "detector"
WITHIN_90 = 4.605
"""Squared Mahalanobis distance in two dimensions that nine of ten are within."""
EACH = 6
"""One in so many people is judged in each draw: those of one draw say nearly the same."""
WARM_S = 1.0
"""Of each clip, not judged: a flight has begun before anybody looks."""
SAID_EVERY_S, LINK_S, JITTER_S = 0.1, 0.3, 0.12
"""Of an autopilot's messages, and of the link that they take."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A person whom the detector found, and where they were."""

    frame: int
    box: tuple[float, float, float, float]
    place: np.ndarray
    visibility: float


@dataclass(frozen=True, eq=False)
class Flight:
    """What comes of one draw: frames, with KLV beside them, or messages."""

    frames: Sequence[Frame]
    sent: Sequence[tuple[int, bytes]]
    """When each comes, UTC in nanoseconds, and its bytes."""


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


def poses_by(options: TelemetryOptions, flight: Flight) -> list[Pose | None]:
    """What the device takes for the camera's pose at each of them."""
    if options.source == "klv":
        poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
        return [poses.at(frame) for frame in flight.frames]
    port, waiting, found = UdpLink("127.0.0.1", 0), list(flight.sent), list[Pose | None]()
    feed = MavlinkFeed(port, ORIGIN, options)
    poses = TelemetryPoses(feed, options, plane_m=MIDDLE_M)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for frame in flight.frames:
            while waiting and waiting[0][0] <= frame.captured_at_ns:
                link.sendto(waiting.pop(0)[1], ("127.0.0.1", port.port))
            found.append(poses.at(frame))
    feed.close()
    return found


def fly(clip: Clip, quality: Quality, seed: int, over: str) -> Flight:
    """A flight with errors, as it is said."""
    if over == "mavlink":
        return Flight(frames_of(clip), messages(clip, quality, seed))
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        shutil.copy(clip.folder / f"{clip.camera}.mp4", folder)
        write_telemetry(folder, {clip.camera: clip.poses}, quality, seed)
        return Flight(said_in(folder / f"{clip.camera}.ts"), ())


@cache
def frames_of(clip: Clip) -> Sequence[Frame]:
    """Of its pictures alone, which are the same in every draw."""
    return said_in(clip.folder / f"{clip.camera}.mp4")


def messages(clip: Clip, quality: Quality, seed: int) -> list[tuple[int, bytes]]:
    """What an autopilot says with the errors of a quality: when each comes, UTC, and its bytes."""
    from ground_autopilot import EARTH, VEHICLE, Autopilot

    errors = LEVELS[quality]
    constant, _ = draw_packets(clip.poses, quality, [seed, int(clip.camera.removeprefix("cam"))])
    rng = np.random.default_rng([seed, 92])

    def said(time_s: float) -> CameraModel:
        old = pose_at(clip.poses, max(0.0, time_s - constant.lag_ms / 1000))
        place, angles = old.position + constant.position_m, np.radians(constant.attitude_deg)
        rotation = turn(angles) @ old.rotation
        return CameraModel(old.matrix, rotation, -rotation @ place, old.width_px, old.height_px)

    # One in two gimbals counts its yaw from the nose.
    flags = EARTH if seed % 2 else VEHICLE
    drone = Autopilot(ORIGIN, said, START_NS, flags=flags)
    sent = []
    last = round(len(clip.poses.frames) / clip.poses.fps / SAID_EVERY_S)
    for number in range(-20, last):  # it was on before
        time_s = number * SAID_EVERY_S
        noise = rng.normal(size=6)
        what = [
            drone.position(time_s, errors.position_noise_m * noise[:3]),
            drone.attitude(time_s + 0.013),
            drone.gimbal(time_s + 0.02, np.radians(errors.attitude_noise_deg) * noise[3:]),
        ]
        if number % 10 == 0:
            what.insert(0, drone.system_time(time_s))
        for data in what:
            late_s = LINK_S + rng.uniform(0, JITTER_S)
            if rng.random() >= errors.loss:
                sent.append((START_NS + round((time_s + late_s) * 1e9), data))
    return sorted(sent, key=lambda each: each[0])


def late_ms(clip: Clip, said: Sequence[Pose | None]) -> list[float]:
    """By how many milliseconds poses are behind their frames, where the drone moves."""
    late, fps = list[float](), clip.poses.fps
    for index in range(round(WARM_S * fps), len(clip.poses.frames) - 1):
        pose, truth = said[index], clip.poses.models
        speed = (truth[index + 1].position - truth[index - 1].position) * fps / 2
        if pose is not None and np.linalg.norm(speed) >= 0.5:
            off = truth[index].position - pose.model.position
            late.append(1e3 * float(off @ speed) / float(speed @ speed))
    return late


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
    places: list[Place] = []
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


def draw(
    clip: Clip, quality: Quality, seed: int, anchors: int, over: str
) -> tuple[list[Places], list[float]]:
    """One flight with errors, as telemetry says it, and, with anchors, less its bias; and lag."""
    flight = fly(clip, quality, seed, over)
    source = "klv" if over == "klv" else "udp://127.0.0.1:0"
    lens = clip.poses.models[0]
    fov_deg = float(np.degrees(2 * np.arctan(lens.width_px / 2 / lens.matrix[0, 0])))
    # The rendered ground is flat.
    options = TelemetryOptions(source=source, quality=quality, terrain_sigma_m=0, fov_deg=fov_deg)
    said = poses_by(options, flight)
    found = [judged(clip, said, seed)]
    if anchors:
        corrected = poses_by(calibrated(clip, options, said, anchors, seed), flight)
        found.append(judged(clip, corrected, seed))
    return found, late_ms(clip, said)


def main() -> None:
    """Render, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for the clips, kept")
    parser.add_argument("--draws", type=int, default=216, help="of each quality")
    parser.add_argument("--quality", choices=QUALITIES, nargs="*", default=list(QUALITIES))
    parser.add_argument("--anchors", type=int, default=0, help="places found in a picture")
    parser.add_argument("--over", choices=["klv", "mavlink"], default="klv")
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
            draw(clips[n % len(clips)], quality, seed, options.anchors, options.over)
            for n, seed in enumerate(seeds)
        ]
        of_each = list(zip(*(found for found, _ in drawn), strict=True))
        for name, found in zip((quality, "  less bias"), of_each, strict=False):
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
        if quality == "exact":
            late = np.abs([ms for _, some in drawn for ms in some])
            print(
                f"             a pose is off its frame by {np.median(late):.0f} ms (median), "
                f"{np.percentile(late, 90):.0f} (90 %), {np.percentile(late, 99):.0f} (99 %)",
                flush=True,
            )


if __name__ == "__main__":
    main()
