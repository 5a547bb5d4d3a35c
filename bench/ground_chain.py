"""The whole chain over a clip whose drones know their place by their own telemetry alone.

    python bench/ground_chain.py CLIP --quality gnss --seed 7   # minutes, on one machine

Each drone's pictures become a transport stream with KLV beside them, with errors by ``--seed``
(`synth/telemetry.py`); its device is told the quality and nothing else. Street cameras keep their
poses. What comes out is scored as ``scripts/demo --clip`` scores it.

Then each drone's bias is taken from people whom a street camera saw too (``skyreid-server journal
places``, ``skyreid-edge calibrate --bias --run``), and where the drone put people is held against
the truth before and after; ``--kept DIR`` does that alone, with what an earlier run left there.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import tomllib

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from chain import Chain
from clip import videos_of
from demo import score_clip, watch
from settings_files import q

from skyreid.bundle.detections import iou
from skyreid.contract.camera import Pose, read_poses
from skyreid.contract.recording import read_mot, read_run, read_said_poses
from skyreid.contract.sighting import View
from skyreid.contract.site import read_site
from skyreid.edge.calibrate import bias_of_people, read_people
from skyreid.edge.people.ground import locate
from skyreid.edge.telemetry.options import QUALITIES, TelemetryOptions
from skyreid.server.store.places import as_csv, seen_twice
from skyreid.synth.telemetry import ORIGIN, write_telemetry


def site_of(views: dict[str, str], poses: Path) -> str:
    """The site file: on the earth, and with poses of street cameras alone."""
    lines = ['id = "ground"', 'pictures = "never"', "[origin]"]
    lines += [f"{name} = {value}" for name, value in ORIGIN.model_dump().items()]
    for camera, view in views.items():
        lines += ["[[camera]]", f"id = {q(camera)}", f"view = {q(view)}"]
        if view == "ground":
            lines.append(f"poses = {q(poses)}")
    return "\n".join(lines) + "\n"


WITHIN_90 = 4.605
"""Squared Mahalanobis distance in two dimensions that nine of ten are within."""


def off_m(clip: Path, run: Path, camera: str, options: TelemetryOptions) -> np.ndarray:
    """Of each box how far off a drone's place is, metres, and whether the 90 % ellipse holds it.

    Without what the lag may be off by, which a recorded pose does not say.
    """
    by = np.array(options.displacement)
    s = options.sigmas
    turn, up = np.radians(s.attitude_deg), np.hypot(s.height_m, options.ground_sigma_m)
    cov = np.diag(np.array([s.position_m, s.position_m, up, turn, turn, turn]) ** 2)
    info, fps = read_run(run), read_poses(clip / "calib.json", camera).fps
    poses = dict(zip(*read_said_poses(run, camera), strict=True))
    found = read_mot(run / "tracks" / f"{camera}.txt")
    truth = read_mot(clip / "gt" / f"{camera}.txt", truth=True)
    world = np.loadtxt(clip / "world.csv", delimiter=",", skiprows=1)
    place = {(int(row[0]), int(row[1])): row[2:4] for row in world}
    times, off = np.array(sorted(poses)), []
    for frame in np.unique(found.frame):
        there, here = truth.frame == frame, found.frame == frame
        at_ns = int(times[np.abs(times - info.start_ns - (frame - 1) * 1e9 / fps).argmin()])
        pose = Pose(poses[at_ns].displaced(by), cov)
        boxes = found.box_xyxy[here]
        overlap = iou(boxes, truth.box_xyxy[there])
        for box, row in zip(boxes, overlap, strict=True):
            if len(row) and row.max() >= 0.5:
                put = locate(pose, box, View.AERIAL)
                where = place[int(frame), int(truth.identity[there][row.argmax()])]
                if put is not None:
                    away = np.array([put.east_m, put.north_m]) - where
                    ellipse = [[put.cov_ee_m2, put.cov_en_m2], [put.cov_en_m2, put.cov_nn_m2]]
                    held = away @ np.linalg.solve(ellipse, away) <= WITHIN_90
                    off.append((float(np.hypot(*away)), bool(held)))
    return np.array(off)


def by_people(clip: Path, work: Path, camera: str, quality: str) -> None:
    """Print how far off one drone is as said, and less what people say of its bias."""
    site, run = read_site(work / "site.toml"), work / "runs" / camera
    rows = seen_twice(work / "server" / "journal.db", site, camera, 0.95)
    table = work / f"{camera}.csv"
    assert site.origin is not None
    table.write_text("\n".join(as_csv(rows, site.origin)) + "\n")
    options = TelemetryOptions.model_validate({"source": "klv", "quality": quality})
    seen, _ = read_people(table, run, camera, site.origin, None)
    lines = bias_of_people(seen, options)
    told = tomllib.loads("\n".join(lines[lines.index("") :]))["telemetry"]
    less = TelemetryOptions.model_validate({**options.model_dump(), **told})
    print(f"{camera}: {lines[0]}")
    for name, these in (("as said", options), ("less bias", less)):
        off, held = off_m(clip, run, camera, these).T
        print(
            f"  {name:10} {len(off)} boxes, median {np.median(off):.2f} m off, 90 % "
            f"{np.percentile(off, 90):.2f}, ellipse holds {100 * held.mean():.1f} %",
            flush=True,
        )


def main() -> None:
    """Write streams, run, score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--quality", choices=QUALITIES, default="gnss")
    parser.add_argument("--seed", type=int, default=7, help="of the telemetry's errors")
    parser.add_argument("--out", type=Path, help="a new folder, kept (default: /tmp)")
    parser.add_argument("--json", type=Path, help="write the report as JSON")
    parser.add_argument("--kept", type=Path, help="what an earlier run left; run nothing")
    options = parser.parse_args()
    work = options.kept or run(options)
    for camera in sorted(path.stem for path in (work / "streams").glob("*.ts")):
        by_people(options.clip, work, camera, options.quality)


def run(options: argparse.Namespace) -> Path:
    """The chain over the clip; where it wrote."""
    work = options.out or Path(tempfile.mkdtemp(prefix="skyreid-ground-"))
    streams, calib = work / "streams", options.clip.resolve() / "calib.json"
    streams.mkdir(parents=True)
    videos = videos_of(options.clip)
    drones = {v.camera: read_poses(calib, v.camera) for v in videos if v.view == "aerial"}
    for camera in drones:
        (streams / f"{camera}.mp4").symlink_to(options.clip.resolve() / f"{camera}.mp4")
    write_telemetry(streams, drones, options.quality, options.seed)
    videos = tuple(
        replace(v, source=str(streams / f"{v.camera}.ts")) if v.camera in drones else v
        for v in videos
    )
    site = work / "site.toml"
    site.write_text(site_of({v.camera: v.view for v in videos}, calib))
    chain = Chain(videos, work, site=site)
    for camera in drones:
        with (work / f"{camera}.toml").open("a") as settings:
            settings.write(f'[telemetry]\nsource = "klv"\nquality = "{options.quality}"\n')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, chain.end)
    try:
        chain.start_broker()
        chain.start_server()
        for camera in chain.cameras:
            chain.start_edge(camera)
        watch(chain)
        report = score_clip(chain, options.clip)
    finally:
        chain.stop()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"kept in {work}")
    return work


if __name__ == "__main__":
    main()
