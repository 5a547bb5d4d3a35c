"""How people look in real clips and in the rendered world: colours, sharpness, sizes, gaps.

    python bench/world_statistics.py --clips VIDEO... --detector DETECTOR --crops DIR...

Clips are followed as `bench/real_pixels.py` does; sets are those of `skyreid-train synth crops`.
The body is the middle of a crop, half its width and two thirds of its height, so that the ground
counts little. Per crop, as rows of a Markdown table, medians unless said:

* height of the box in pixels, and its 10th and 90th percentile;
* saturation (HSV, 0 to 255) of the body: median and 90th percentile of its pixels;
* dark or grey: part of the body's pixels with a value below 60 or a saturation below 40;
* value: median of the body's pixels;
* hue entropy in bits over 16 bins, of the pixels that are neither;
* sharpness: variance of the Laplacian at 128 x 64;
* contrast: deviation of the grey picture at 128 x 64;
* gap: part of the time of tracklets that lies in holes of more than `HOLE_S` without a crop.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from real_pixels import follow

from skyreid.bundle.detector import open_detector
from skyreid.contract.errors import InputError, run_command
from skyreid.edge.people.tiling import tiled

UInt8 = NDArray[np.uint8]
COLUMNS = (
    "crops",
    "height px",
    "10 to 90 %",
    "saturation",
    "its 90 %",
    "dark or grey",
    "value",
    "hue entropy",
    "sharpness",
    "contrast",
    "gap",
)
DARK, PALE = 60, 40
PER_SET = 3000
EVERY_S, HOLE_S = 0.5, 1.0
MARGIN = 0.05


def looks(crop: UInt8) -> tuple[float, ...]:
    """Saturation, its 90th percentile, dark or grey, value, hue entropy, sharpness, contrast."""
    height, width = crop.shape[:2]
    body = crop[height // 6 : height - height // 6, width // 4 : max(width - width // 4, 1)]
    hue, saturation, value = cv2.split(cv2.cvtColor(body, cv2.COLOR_RGB2HSV))
    pale = (value < DARK) | (saturation < PALE)
    counts = np.bincount(hue[~pale] // 12, minlength=16).astype(np.float64)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    small = cv2.resize(crop, (64, 128), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return (
        float(np.median(saturation)),
        float(np.percentile(saturation, 90)),
        float(pale.mean()),
        float(np.median(value)),
        float(-(shares * np.log2(shares)).sum()),
        float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        float(grey.std()),
    )


def row(name: str, crops: Sequence[UInt8], heights: NDArray[np.float64], gap: str) -> str:
    """A line of the table."""
    medians = np.median([looks(crop) for crop in crops], axis=0)
    low, middle, high = np.percentile(heights, [10, 50, 90])
    cells = [
        name,
        str(len(crops)),
        f"{middle:.0f}",
        f"{low:.0f} to {high:.0f}",
        *(f"{medians[index]:.0f}" for index in (0, 1)),
        f"{medians[2]:.2f}",
        f"{medians[3]:.0f}",
        f"{medians[4]:.2f}",
        *(f"{medians[index]:.0f}" for index in (5, 6)),
        gap,
    ]
    return f"| {' | '.join(cells)} |"


def gap(times_s: Sequence[Sequence[float]]) -> float:
    """Part of the time of tracklets, from their crops' times, in holes of more than `HOLE_S`."""
    steps = np.concatenate([np.diff(times) for times in times_s])
    return float(steps[steps > HOLE_S].sum() / max(steps.sum(), 1e-9))


def _clip(video: Path, arguments: argparse.Namespace) -> str:
    detector = tiled(open_detector(arguments.detector), tuple(arguments.tiles))
    clip = follow(video, detector, every_s=EVERY_S, margin=MARGIN, first=0)
    crops = [crop for t in clip.tracklets.values() for crop in t.crops]
    heights = np.array([crop.shape[0] / (1 + 2 * MARGIN) for crop in crops])
    missing = gap([t.times_s for t in clip.tracklets.values()])
    return row(video.name, crops, heights, f"{missing:.2f}")


def _set(folder: Path) -> list[str]:
    """A row for the drones and one for the street cameras."""
    rows = []
    for name, cameras in (("drones", range(1, 6)), ("street", range(6, 14))):
        files = sorted(f for c in cameras for f in folder.glob(f"*/Cam{c}/*.jpg"))
        if not files:
            continue
        chosen = files[:: -(-len(files) // PER_SET)]
        crops = [cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB) for f in chosen]
        heights = np.array([crop.shape[0] for crop in crops], np.float64)
        rows.append(row(f"{folder.name}, {name}", crops, heights, ""))
    if not rows:
        raise InputError(f"{folder} has no crops: give a folder of skyreid-train synth crops")
    return rows


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, nargs="*", default=[], metavar="VIDEO")
    parser.add_argument("--detector", type=Path, help="bundle, of any family; for clips")
    parser.add_argument("--tiles", type=int, nargs=2, default=(1, 1), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--crops", type=Path, nargs="*", default=[], metavar="DIR")
    arguments = parser.parse_args()
    if arguments.clips and arguments.detector is None:
        parser.error("--clips need --detector")

    def measure() -> int:
        print(f"| | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
        for video in arguments.clips:
            print(_clip(video, arguments), flush=True)
        for folder in arguments.crops:
            print("\n".join(_set(folder)), flush=True)
        return 0

    return run_command(measure)


if __name__ == "__main__":
    raise SystemExit(main())
