"""How well bundles tell people apart in a video without labels, by what a tracker knows anyway.

    python bench/real_pixels.py VIDEO --detector DETECTOR BUNDLE...

Two crops of one tracklet at least `--apart` seconds from each other are the same person; tracklets
that were ever seen in one frame are different people. All bundles get the same crops. What this
cannot see: people across cameras. A tracklet that changes its person, and two tracklets on one
person, count as errors of the embedding: the rates are too high rather than too low.

Prints per bundle the equal error rate, the area under the ROC curve and the true-positive rate at
false-positive rates .1 and .01, once for single crops and once for the means of a tracklet's first
and second half. `--plot FILE` draws the ROC curves as SVG.
"""

from __future__ import annotations

import argparse
import html
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detector import open_detector
from skyreid.bundle.embedder import Embedder
from skyreid.contract.errors import InputError, run_command
from skyreid.contract.input_spec import crop_box, fit
from skyreid.contract.sighting import View
from skyreid.edge.people.colours import with_looks
from skyreid.edge.people.tiling import Finder, tiled
from skyreid.edge.people.tracker import Tracker

Floats = NDArray[np.float32]

HEIGHT_MIN_PX = 48
"""Lower people are left out: a device would not embed them either."""


@dataclass(frozen=True)
class Tracklet:
    """Crops of one track, RGB uint8 [h, w, 3], and when they were taken."""

    times_s: list[float]
    crops: list[NDArray[np.uint8]]


def follow(
    video: Path, detector: Finder, *, every_s: float, margin: float
) -> tuple[dict[int, Tracklet], set[tuple[int, int]]]:
    """All tracklets, and the pairs of them that were seen in one frame (smaller number first)."""
    source = cv2.VideoCapture(str(video))
    fps = source.get(cv2.CAP_PROP_FPS)
    if not source.isOpened() or not fps > 0:
        raise InputError(f"cannot read {video} as a video")
    tracker = Tracker()
    tracklets: dict[int, Tracklet] = {}
    together: set[tuple[int, int]] = set()
    frame = 0
    while True:
        there, bgr = source.read()
        if not there:
            break
        picture = np.ascontiguousarray(bgr[:, :, ::-1])
        height, width = picture.shape[:2]
        time_s, frame = frame / fps, frame + 1
        seen = [
            t
            for t in tracker.update(with_looks(picture, detector.find(picture)), time_s)
            if t.confirmed and t.detected and t.box_xyxy[3] - t.box_xyxy[1] >= HEIGHT_MIN_PX
        ]
        numbers = sorted(t.number for t in seen)
        together.update(itertools.combinations(numbers, 2))
        for track in seen:
            mine = tracklets.setdefault(track.number, Tracklet([], []))
            if mine.times_s and time_s - mine.times_s[-1] < every_s:
                continue
            x0, y0, x1, y1 = (float(v) for v in track.box_xyxy)
            left, top, right, bottom = crop_box((x0, y0, x1, y1), width, height, margin)
            mine.times_s.append(time_s)
            mine.crops.append(picture[top:bottom, left:right].copy())
    return tracklets, together


def single_crops(
    rows: dict[int, Floats],
    times_s: dict[int, list[float]],
    together: set[tuple[int, int]],
    apart: float,
) -> tuple[Floats, Floats]:
    """Cosines of crops: one tracklet `apart` seconds apart, and two that were seen together."""
    same, different = [], []
    for number, mine in rows.items():
        when = np.asarray(times_s[number])
        far = np.triu(np.abs(when[:, None] - when[None]) >= apart, 1)
        same.append((mine @ mine.T)[far])
    for one, other in together:
        if one in rows and other in rows:
            different.append((rows[one] @ rows[other].T).ravel())
    return _joined(same), _joined(different)


def halves(rows: dict[int, Floats], together: set[tuple[int, int]]) -> tuple[Floats, Floats]:
    """Cosines of means: a tracklet's two halves, and halves of two that were seen together."""
    means: dict[int, Floats] = {}
    for number, mine in rows.items():
        if len(mine) >= 2:
            middle = len(mine) // 2
            both = np.stack([mine[:middle].mean(0), mine[middle:].mean(0)])
            means[number] = both / np.linalg.norm(both, axis=1, keepdims=True)
    same = [m[0] @ m[1] for m in means.values()]
    different = [(means[a] @ means[b].T).ravel() for a, b in together if a in means and b in means]
    return np.asarray(same, np.float32), _joined(different)


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0, np.float32), *parts])


def roc(same: Floats, different: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False- and true-positive rates at every threshold, falling, starting at (0, 0)."""
    scores = np.concatenate([same, different])
    positive = np.concatenate([np.ones(len(same)), np.zeros(len(different))])
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are one threshold
    hits = np.cumsum(positive[order])[last] / len(same)
    false = np.cumsum(1 - positive[order])[last] / len(different)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], hits])


def judge(same: Floats, different: Floats) -> dict[str, float]:
    """Equal error rate, area under the curve, and hits at two false-positive rates.

    Raises:
        InputError: when there is nothing to compare.
    """
    for pairs, of in ((same, "one tracklet"), (different, "two people seen at once")):
        if not len(pairs):
            raise InputError(f"the video has no two crops of {of} to compare: take a longer one")
    false, hits = roc(same, different)
    at = int(np.argmin(np.abs(false - (1 - hits))))
    return {
        "same": len(same),
        "different": len(different),
        "eer": float((false[at] + 1 - hits[at]) / 2),
        "auc": float(np.trapezoid(hits, false)),
        "tpr_at_fpr_0.1": float(hits[false <= 0.1].max()),
        "tpr_at_fpr_0.01": float(hits[false <= 0.01].max()),
    }


def draw(curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], path: Path) -> None:
    """ROC curves over a logarithmic false-positive rate, 1e-3 to 1, as SVG."""
    colours = ("#1f6feb", "#8ab4f8", "#d1480f", "#f0a080", "#2f9e44", "#9bd3a7")
    size, edge = 360, 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size + 2 * edge} '
        f'{size + 2 * edge}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]

    def write(x: float, y: float, text: str, anchor: str = "start", colour: str = "#333") -> None:
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
            f"{html.escape(text)}</text>"
        )

    for tick in (1e-3, 1e-2, 1e-1, 1.0):
        x = edge + size * (np.log10(tick) + 3) / 3
        parts.append(f'<path d="M{x:.1f} {edge}V{edge + size}" stroke="#ddd"/>')
        write(x, edge + size + 16, f"{tick:g}", "middle")
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = edge + size * (1 - tick)
        parts.append(f'<path d="M{edge} {y:.1f}H{edge + size}" stroke="#ddd"/>')
        write(edge - 6, y + 4, f"{tick:g}", "end")
    for number, (name, (false, hits)) in enumerate(curves.items()):
        colour = colours[number % len(colours)]
        kept = false >= 1e-3
        xs = edge + size * (np.log10(false[kept]) + 3) / 3
        ys = edge + size * (1 - hits[kept])
        places = dict.fromkeys(zip(xs.round(), ys.round(), strict=True))  # not one a pair: a pixel
        line = " ".join(f"{a:.0f},{b:.0f}" for a, b in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        write(edge + size - 6, edge + size - 10 - 16 * number, name, "end", colour)
    write(edge + size / 2, edge + size + 36, "false-positive rate", "middle")
    write(edge, edge - 10, "true-positive rate")
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def main() -> int:
    """Print a JSON row a bundle; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+", help="embedders that serve the view")
    parser.add_argument("--detector", type=Path, required=True, help="bundle, of any family")
    parser.add_argument("--tiles", type=int, nargs=2, default=(1, 1), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--view", choices=("aerial", "ground"), default="ground")
    parser.add_argument("--every", type=float, default=0.5, metavar="S", help="between two crops")
    parser.add_argument("--apart", type=float, default=2.0, metavar="S", help="of the same person")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    if len({path.name for path in arguments.bundles}) < len(arguments.bundles):
        parser.error("two bundles have the same name, by which rows and curves are told apart")
    return run_command(lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    view = View.AERIAL if arguments.view == "aerial" else View.GROUND
    embedders = {path: Embedder([path], view=view) for path in arguments.bundles}
    margins = {embedder.spec.crop_margin for embedder in embedders.values()}
    if len(margins) > 1:
        raise InputError(f"the bundles ask for different crop margins: {sorted(margins)}")
    rows_, columns = arguments.tiles
    detector = tiled(open_detector(arguments.detector), (rows_, columns))
    tracklets, together = follow(
        arguments.video, detector, every_s=arguments.every, margin=margins.pop()
    )
    curves = {}
    for path, embedder in embedders.items():
        rows = {
            number: embedder.embed(np.stack([fit(crop, embedder.spec) for crop in t.crops]))
            for number, t in tracklets.items()
        }
        times_s = {number: t.times_s for number, t in tracklets.items()}
        crops = single_crops(rows, times_s, together, arguments.apart)
        means = halves(rows, together)
        found = {
            "bundle": path.name,
            "tracklets": len(tracklets),
            "seen_together": len(together),
            "crops": judge(*crops),
            "halves": judge(*means),
        }
        print(json.dumps(found))
        curves[f"{path.name}, crops"] = roc(*crops)
        curves[f"{path.name}, halves"] = roc(*means)
    if arguments.plot is not None:
        draw(curves, arguments.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
