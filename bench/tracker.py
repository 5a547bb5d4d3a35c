"""A row per camera of how well the tracker follows people, from true boxes or a detector's.

    python bench/tracker.py CLIP_DIR                      # from the true boxes of CLIP_DIR/gt
    python bench/tracker.py CLIP_DIR --run RUN_DIR...     # from RUN_DIR/detections/*.txt

Recorded detections carry no colours, so that the tracker goes by position alone. People with a
visibility below .5 or lower than 24 px are don't-care, handled as MOT17 does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np

from skyreid.bundle.detections import Detections, iou
from skyreid.contract.recording import MotRows, read_mot
from skyreid.edge.people.assignment import assign
from skyreid.edge.people.tracker import Tracker

Boxes = dict[int, list[tuple[int, np.ndarray]]]


def follow(rows: MotRows, frames: int, fps: float) -> Boxes:
    """Confirmed tracks that were detected, by frame."""
    tracker, out = Tracker(), {}
    for frame in range(1, frames + 1):
        chosen = rows.frame == frame
        found = Detections(
            rows.box_xyxy[chosen].astype(np.float32), rows.score[chosen].astype(np.float32)
        )
        tracks = tracker.update(found, (frame - 1) / fps)
        out[frame] = [(t.number, t.box_xyxy) for t in tracks if t.detected and t.confirmed]
    return out


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
    return (
        f"IDF1 {100 * identity['IDF1']:5.1f}  HOTA {100 * hota['HOTA'].mean():5.1f}  "
        f"purity {100 * pure / max(matched, 1):5.1f}  tracks {len(told)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, help="directory with gt/cam{n}.txt")
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="recorded runs")
    parser.add_argument("--fps", type=float, default=8.0)
    arguments = parser.parse_args()
    sources = {path.stem: path for path in sorted((arguments.clip / "gt").glob("*.txt"))}
    if arguments.run:
        sources = {p.stem: p for run in arguments.run for p in (run / "detections").glob("*.txt")}
    for camera, path in sorted(sources.items()):
        truth = read_mot(arguments.clip / "gt" / f"{camera}.txt", truth=True)
        found = follow(read_mot(path), int(truth.frame.max()), arguments.fps)
        print(f"{camera:6s} {judge(found, truth)}")


if __name__ == "__main__":
    main()
