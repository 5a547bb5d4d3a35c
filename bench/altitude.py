"""Whether `skyreid-edge plan` is right about heights that its table was not made of.

    python bench/altitude.py DETECTOR EMBEDDER [--table FILE]

Puts a drone over the rendered places at each height (other people and walks than the table's),
measures recall and FNIR as `skyreid-train altitude` does, and prints what `plan` expects beside it.
Exit code 1 where recall is more than .05 off or FNIR outside of its interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from skyreid.bundle.detector import open_detector
from skyreid.bundle.embedder import Embedder
from skyreid.contract.errors import run_command
from skyreid.contract.sighting import View
from skyreid.edge.altitude import Camera, read, shipped
from skyreid.train.evaluate.altitude import FOV_DEG, SIZE_PX, Amount, measure

RECALL_OFF = 0.05
LOOKS = ((37.0, 16.0), (52.0, 26.0), (82.0, 22.0))
"""Degrees below the horizon and metres: between the cells of the table in both."""


def main() -> int:
    """Print a row a height; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("embedder", type=Path)
    parser.add_argument("--table", type=Path, help="default: the shipped one")
    parser.add_argument("--seed", type=int, default=8301, help="of places and people")
    arguments = parser.parse_args()
    return run_command(lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    table = shipped() if arguments.table is None else read(arguments.table)
    cells = measure(
        open_detector(arguments.detector),
        Embedder([arguments.embedder], view=View.AERIAL),
        LOOKS,
        Amount(seed=arguments.seed),
    )
    wrong = 0
    for (pitch, height), cell in zip(LOOKS, cells, strict=True):
        expected = table.expected(Camera(pitch, FOV_DEG, SIZE_PX[0]), height)
        low, high = expected.fnir_interval or (0.0, 1.0)
        holds = (
            expected.recall is not None
            and abs(cell.recall - expected.recall) <= RECALL_OFF
            and (cell.fnir is None or low <= cell.fnir <= high)
        )
        wrong += not holds
        row = {
            "pitch_deg": pitch,
            "height_m": height,
            "pixels_a_metre": round(cell.pixels_a_metre, 1),
            "recall": round(cell.recall, 3),
            "expected_recall": expected.recall,
            "boxes": cell.boxes,
            "fnir": cell.fnir,
            "expected_fnir": expected.fnir,
            "interval": expected.fnir_interval,
            "probes": cell.probes,
            "holds": holds,
        }
        print(json.dumps(row), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
