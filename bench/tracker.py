"""A row per camera of how well the tracker follows people, from true boxes or a detector's.

    python bench/tracker.py CLIP_DIR                      # from the true boxes of CLIP_DIR/gt
    python bench/tracker.py CLIP_DIR --run RUN_DIR...     # from RUN_DIR/detections/*.txt
    python bench/tracker.py CLIP_DIR --tracks RUN_DIR/tracks...  # tracks as they were recorded;
                                                          # of others: bench/tracker_peers.py
    python bench/tracker.py CLIP_DIR --motion true gnss   # told how the camera moved: by its true
                                                          # poses, by telemetry with errors

Recorded detections carry no colours, so that the tracker goes by position alone. Recorded tracks
are the device's, with colours, cut and put together by appearance. ``mixed``: tracks whose most
frequent person has less than .8 of their boxes. People with a visibility below .5 or lower than
24 px are don't-care, handled as MOT17 does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np

from skyreid.bundle.detections import Detections, iou
from skyreid.contract.camera import read_poses
from skyreid.contract.recording import MotRows, read_mot
from skyreid.contract.sighting import Clock, View
from skyreid.edge.people.ground import MIDDLE_M, KnownPoses
from skyreid.edge.people.tracker import Tracker, assign
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.options import QUALITIES, TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.frame import Frame

Motions = list[np.ndarray | None]
Boxes = dict[int, list[tuple[int, np.ndarray]]]


def motions_of(clip: Path, camera: str, source: str, frames: int) -> Motions:
    """How the picture moved before each frame: nobody says it, the true poses, or telemetry."""
    if source == "none":
        return [None] * frames
    truth = read_poses(clip / "calib.json", camera)
    if truth.view is View.GROUND:
        return [None] * frames
    size = truth.models[0].width_px, truth.models[0].height_px
    packets: dict[int, bytes] = {}
    known: KnownPoses | TelemetryPoses = KnownPoses(truth, None)
    if source != "true":
        from skyreid.synth.telemetry import ORIGIN, draw_packets

        options = TelemetryOptions.model_validate({"source": "klv", "quality": source})
        known = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
        packets = draw_packets(truth, source, [1])[1]
    said: Motions = []
    for index in range(frames):
        at_ns = 10**18 + round(index * 1e9 / truth.fps)
        came = ((at_ns, packets[index]),) if index in packets else ()
        frame = Frame(index + 1, at_ns, Clock.FILE, 0, *size, telemetry=came, media_ns=at_ns)
        pose = known.at(frame)
        said.append(None if pose is None else pose.motion)
    return said


def follow(rows: MotRows, motions: Motions, fps: float) -> Boxes:
    """Confirmed tracks that were detected, by frame."""
    tracker, out = Tracker(), {}
    for frame, motion in enumerate(motions, 1):
        chosen = rows.frame == frame
        found = Detections(
            rows.box_xyxy[chosen].astype(np.float32), rows.score[chosen].astype(np.float32)
        )
        tracks = tracker.update(found, (frame - 1) / fps, motion)
        out[frame] = [(t.number, t.box_xyxy) for t in tracks if t.detected and t.confirmed]
    return out


def recorded(rows: MotRows, truth: MotRows) -> Boxes:
    """Tracks as they were written down, by frame."""
    return {
        frame: [
            (int(n), box) for n, box in zip(rows.identity[here], rows.box_xyxy[here], strict=True)
        ]
        for frame in range(1, int(truth.frame.max()) + 1)
        for here in (rows.frame == frame,)
    }


def judge(found: Boxes, truth: MotRows) -> str:
    """IDF1, HOTA and purity (boxes whose person is their track's majority) in percent."""
    from trackeval.metrics import HOTA, Identity

    people: dict[int, int] = {}
    tracks: dict[int, int] = {}
    told: dict[int, list[int]] = {}
    gt_ids, tracker_ids, similarity = [], [], []
    for frame, rows in found.items():
        here = truth.frame == frame
        boxes, ids = truth.box_xyxy[here], truth.identity[here]
        care = (truth.visibility[here] >= 0.5) & (boxes[:, 3] - boxes[:, 1] >= 24)
        mine = np.array([box for _, box in rows]).reshape(-1, 4)
        overlap = iou(boxes, mine)
        pairs = assign(np.where(overlap >= 0.5, 1 - overlap, np.inf), 1.0)
        for person, track in pairs:
            told.setdefault(rows[track][0], []).append(int(ids[person]))
        ignored = {track for person, track in pairs if not care[person]}
        kept = [k for k in range(len(rows)) if k not in ignored]
        gt_ids.append(np.array([people.setdefault(int(i), len(people)) for i in ids[care]], int))
        tracker_ids.append(
            np.array([tracks.setdefault(rows[k][0], len(tracks)) for k in kept], int)
        )
        similarity.append(overlap[care][:, kept])
    data = {
        "gt_ids": gt_ids,
        "tracker_ids": tracker_ids,
        "similarity_scores": similarity,
        "num_gt_ids": len(people),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": sum(map(len, gt_ids)),
        "num_tracker_dets": sum(map(len, tracker_ids)),
    }
    with contextlib.redirect_stdout(io.StringIO()):  # TrackEval prints its configuration
        hota, identity = HOTA().eval_sequence(data), Identity().eval_sequence(data)
    matched = sum(map(len, told.values()))
    pure = sum(int(np.bincount(ids).max()) for ids in told.values())
    mixed = sum(np.bincount(ids).max() < 0.8 * len(ids) for ids in told.values())
    return (
        f"IDF1 {100 * identity['IDF1']:5.1f}  HOTA {100 * hota['HOTA'].mean():5.1f}  "
        f"purity {100 * pure / max(matched, 1):5.1f}  tracks {len(told)}  "
        f"mixed {mixed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, help="directory with gt/cam{n}.txt")
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="recorded runs")
    parser.add_argument("--tracks", type=Path, nargs="*", default=[], help="folders of cam{n}.txt")
    parser.add_argument("--fps", type=float, default=8.0)
    parser.add_argument(
        "--motion", choices=["none", "true", *QUALITIES], nargs="+", default=["none"]
    )
    arguments = parser.parse_args()
    for path in sorted(p for each in arguments.tracks for p in each.glob("*.txt")):
        truth = read_mot(arguments.clip / "gt" / path.name, truth=True)
        print(f"{path.stem:6s} {judge(recorded(read_mot(path), truth), truth)}  {path.parent}")
    if arguments.tracks:
        return
    sources = {path.stem: path for path in sorted((arguments.clip / "gt").glob("*.txt"))}
    if arguments.run:
        sources = {p.stem: p for run in arguments.run for p in (run / "detections").glob("*.txt")}
    for camera, path in sorted(sources.items()):
        truth = read_mot(arguments.clip / "gt" / f"{camera}.txt", truth=True)
        for source in arguments.motion:
            motions = motions_of(arguments.clip, camera, source, int(truth.frame.max()))
            found = follow(read_mot(path), motions, arguments.fps)
            print(f"{camera:6s} {source:6s} {judge(found, truth)}", flush=True)


if __name__ == "__main__":
    main()
