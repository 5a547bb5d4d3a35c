"""Roboflow's `trackers` on the boxes of recorded runs, by an interpreter that has them: no skyreid.

    python -m venv PEERS && PEERS/bin/pip install trackers==2.6.1
    PEERS/bin/python bench/tracker_peers.py OUT RUN_DIR... [--fps 8]
    python bench/tracker.py CLIP_DIR --tracks OUT/bytetrack OUT/ocsort OUT/botsort

Writes MOTChallenge rows, OUT/NAME/cam{n}.txt. Their defaults, but for thresholds of scores (ours:
the detector's end at .4) and the frame rate. No picture is given, so BoT-SORT has no motion of the
camera; nobody of theirs looks at appearance.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np


def peers(fps: float) -> dict[str, Any]:
    """New trackers, by name; each forgets after a second, as ours."""
    from trackers import BoTSORTTracker, ByteTrackTracker, OCSORTTracker

    # Their buffer is in frames of a rate of 30, whatever the rate is.
    both = {"lost_track_buffer": 30, "frame_rate": fps, "high_conf_det_threshold": 0.4}
    return {
        "bytetrack": ByteTrackTracker(track_activation_threshold=0.4, **both),
        "ocsort": OCSORTTracker(**both),
        "botsort": BoTSORTTracker(track_activation_threshold=0.4, enable_cmc=False, **both),
    }


def main() -> None:
    import supervision

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="recorded runs")
    parser.add_argument("--fps", type=float, default=8.0)
    arguments = parser.parse_args()
    for path in sorted(p for run in arguments.runs for p in (run / "detections").glob("*.txt")):
        table = np.loadtxt(path, delimiter=",", ndmin=2)
        for name, tracker in peers(arguments.fps).items():
            (arguments.out / name).mkdir(parents=True, exist_ok=True)
            with open(arguments.out / name / path.name, "w") as file:
                for frame in range(1, int(table[:, 0].max()) + 1):
                    x, y, width, height, score = table[table[:, 0] == frame, 2:7].T
                    boxes = np.column_stack([x, y, x + width, y + height])
                    found = supervision.Detections(
                        xyxy=boxes, confidence=score, class_id=np.zeros(len(boxes), int)
                    )
                    seen = tracker.update(found)
                    for box, number in zip(seen.xyxy, seen.tracker_id, strict=True):
                        if number is not None and number >= 0:
                            row = [
                                frame,
                                int(number),
                                *box[:2],
                                *(box[2:] - box[:2]),
                                1,
                                -1,
                                -1,
                                -1,
                            ]
                            file.write(",".join(f"{v:g}" for v in row) + "\n")
            print(f"{path.stem} {name}", flush=True)


if __name__ == "__main__":
    main()
