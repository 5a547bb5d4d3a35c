"""How well bundles tell people apart in videos without labels, by what a tracker knows anyway.

    python bench/real_pixels.py BUNDLE... --clips VIDEO... --detector DETECTOR

Two crops of one tracklet at least `--apart` seconds from each other are the same person; tracklets
that were ever seen in one frame are different people. All bundles get the same crops. What this
cannot see: people across cameras. A tracklet that changes its person, and two tracklets on one
person, count as errors of the embedding: the rates are too high rather than too low.

What stands still is left out: a board that the detector takes for a person is the easiest person
of all, and with many of them every embedding looks good.

Prints a row a bundle and clip, and one over all clips of what is centred: the equal error rate,
with its 95 % interval over tracklets, the area under the ROC curve and the true-positive rate at
false-positive rates .1 and .01; for single crops and for the means of a tracklet's first and second
half, as they are and less their camera's mean. From the second bundle on the row also has the
difference from the first, with its interval over the same draws. `--plot FILE` draws the ROC curves
of the last.
"""

from __future__ import annotations

import argparse
import html
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from separation import (
    Floats,
    Pairs,
    Rates,
    centred,
    drawn_error_rates,
    equal_error_rate,
    halves,
    interval,
    judge,
    require_both,
    roc,
    single_crops,
)

from skyreid.bundle.detector import open_detector
from skyreid.bundle.embedder import Embedder
from skyreid.contract.errors import InputError, run_command
from skyreid.contract.input_spec import crop_box, fit
from skyreid.contract.sighting import View
from skyreid.edge.people.quality import with_looks
from skyreid.edge.people.tiling import Finder, tiled
from skyreid.edge.people.tracker import Tracker

HEIGHT_MIN_PX = 48
"""Lower people are left out: a device would not embed them either."""
MOVED = 0.5
CENTRED = "_centred"
"""Ends the names of what is compared less the camera's mean."""


@dataclass(frozen=True)
class Tracklet:
    """Crops of one track, RGB uint8 [h, w, 3], and when they were taken."""

    times_s: list[float]
    crops: list[NDArray[np.uint8]]
    boxes_xyxy: list[NDArray[np.float64]]

    @property
    def moves(self) -> bool:
        """Whether its box was ever `MOVED` of its height away from where it was."""
        boxes = np.array(self.boxes_xyxy)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        height = float(np.median(boxes[:, 3] - boxes[:, 1]))
        return bool(np.linalg.norm(np.ptp(middles, axis=0)) >= MOVED * height)


@dataclass(frozen=True)
class Clip:
    """What was followed in one video, of one camera: tracklets by number, without what stands."""

    name: str
    tracklets: dict[int, Tracklet]
    together: set[tuple[int, int]]
    """Pairs of numbers that were seen in one frame, the smaller first."""
    still: int
    """Tracklets that were left out."""


def follow(video: Path, detector: Finder, *, every_s: float, margin: float, first: int) -> Clip:
    """Follow whom the detector finds; tracklets are numbered from `first` on.

    Raises:
        InputError: it is no video, or nobody in it moves.
    """
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
            mine = tracklets.setdefault(track.number, Tracklet([], [], []))
            mine.boxes_xyxy.append(np.array(track.box_xyxy, np.float64))
            if mine.times_s and time_s - mine.times_s[-1] < every_s:
                continue
            x0, y0, x1, y1 = (float(v) for v in track.box_xyxy)
            left, top, right, bottom = crop_box((x0, y0, x1, y1), width, height, margin)
            mine.times_s.append(time_s)
            mine.crops.append(picture[top:bottom, left:right].copy())
    moving = {number: t for number, t in tracklets.items() if t.moves}
    if not moving:
        raise InputError(
            f"{video}: {len(tracklets)} people are found and none of them moves: take another clip"
        )
    named = {number: first + place for place, number in enumerate(moving)}
    return Clip(
        video.name,
        {named[number]: t for number, t in moving.items()},
        {(named[a], named[b]) for a, b in together if a in named and b in named},
        len(tracklets) - len(moving),
    )


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
    """Print JSON rows; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="embedders that serve the view")
    parser.add_argument("--clips", type=Path, nargs="+", required=True, metavar="VIDEO")
    parser.add_argument("--detector", type=Path, required=True, help="bundle, of any family")
    parser.add_argument("--tiles", type=int, nargs=2, default=(1, 1), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--view", choices=("aerial", "ground"), default="ground")
    parser.add_argument("--every", type=float, default=0.5, metavar="S", help="between two crops")
    parser.add_argument("--apart", type=float, default=2.0, metavar="S", help="of the same person")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="of all clips")
    arguments = parser.parse_args()
    for given in (arguments.bundles, arguments.clips):
        if len({path.name for path in given}) < len(given):
            parser.error("two bundles or clips have one name, by which rows are told apart")
    return run_command(lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> int:
    view = View.AERIAL if arguments.view == "aerial" else View.GROUND
    embedders = {path.name: Embedder([path], view=view) for path in arguments.bundles}
    margins = {embedder.spec.crop_margin for embedder in embedders.values()}
    if len(margins) > 1:
        raise InputError(f"the bundles ask for different crop margins: {sorted(margins)}")
    (margin,), (rows, columns) = margins, arguments.tiles
    detector = tiled(open_detector(arguments.detector), (rows, columns))
    clips: list[Clip] = []
    for video in arguments.clips:
        first = sum(len(clip.tracklets) for clip in clips)
        clips.append(follow(video, detector, every_s=arguments.every, margin=margin, first=first))
    curves = {}
    drawn_first: dict[tuple[str, str], tuple[Pairs, Rates]] = {}
    for name, embedder in embedders.items():
        by_clip = {clip.name: _ways(clip, embedder, arguments.apart) for clip in clips}
        if len(clips) > 1:
            by_clip["all"] = {  # cosines of two cameras are on one scale only when centred
                way: _pooled([by_clip[clip.name][way] for clip in clips])
                for way in by_clip[clips[0].name]
                if way.endswith(CENTRED)
            }
        for clip_name, ways in by_clip.items():
            chosen = [clip for clip in clips if clip_name in (clip.name, "all")]
            row: dict[str, object] = {
                "bundle": name,
                "clip": clip_name,
                "tracklets": sum(len(clip.tracklets) for clip in chosen),
                "still": sum(clip.still for clip in chosen),
                "seen_together": sum(len(clip.together) for clip in chosen),
            }
            against: dict[str, object] = {}
            for way, pairs in ways.items():
                require_both(pairs)
                drawn = drawn_error_rates(pairs)
                row[way] = judge(pairs, drawn)
                their, theirs = drawn_first.setdefault((clip_name, way), (pairs, drawn))
                less = equal_error_rate(*roc(pairs)) - equal_error_rate(*roc(their))
                against[way] = {"eer": less, "eer_interval": interval(drawn - theirs)}
            if name != next(iter(embedders)):
                row["against"] = {"bundle": next(iter(embedders)), **against}
            print(json.dumps(row), flush=True)
        for way, pairs in list(by_clip.values())[-1].items():
            curves[f"{name}, {way.replace('_', ', ')}"] = roc(pairs)
    if arguments.plot is not None:
        draw(curves, arguments.plot)
    return 0


def _ways(clip: Clip, embedder: Embedder, apart: float) -> dict[str, Pairs]:
    """Pairs of a clip, in each way that they are compared."""
    rows: dict[int, Floats] = {
        number: embedder.embed(np.stack([fit(crop, embedder.spec) for crop in t.crops]))
        for number, t in clip.tracklets.items()
    }
    times_s = {number: t.times_s for number, t in clip.tracklets.items()}
    return {
        name: pairs
        for after, compared in (("", rows), (CENTRED, centred(rows)))
        for name, pairs in (
            (f"crops{after}", single_crops(compared, times_s, clip.together, apart)),
            (f"halves{after}", halves(compared, clip.together)),
        )
    }


def _pooled(parts: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([pairs.scores for pairs in parts]),
        np.concatenate([pairs.one for pairs in parts]),
        np.concatenate([pairs.other for pairs in parts]),
    )


if __name__ == "__main__":
    raise SystemExit(main())
