"""Detectors on real video without labels: against a reference detector, and where nobody is.

    python bench/real_detector.py DETECTOR... --reference DETECTOR --clips VIDEO... --empty VIDEO...

On every tenth frame of a clip, boxes of the reference (a YOLOX bundle, say, over 2 x 2 tiles;
`--tiles 1 1` where people are larger than a tile's overlap, for a seam makes two boxes of them)
with a score of at least .5 count as the people, those from .1 on as don't-cares: whom it misses,
and what it takes for somebody, counts against a detector that is right. On the empty videos every
box at the detector's own threshold is false; only their last third is used, because frames of the
first two may have been trained on (`skyreid-train synth cutouts --empty`).

Prints average precision, recall and precision at the detector's own threshold, and the best F1
with its score; false boxes a frame; and the time of a 1280 x 720 and of a 1920 x 1080 frame on one
thread, all detectors in turn. `--sheet FILE` shows the first detector's highest false alarms, those
of the empty videos too, and largest misses, heads made unrecognisable; use clips whose licence lets
you show them. `--truth FILE` keeps the reference's boxes for another run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.detections import Detections, intersection
from skyreid.bundle.detector import open_detector
from skyreid.bundle.recall import Tally, judge, merge
from skyreid.contract.errors import InputError, run_command
from skyreid.edge.people.tiling import Finder, tiled
from skyreid.synth.pasted.stock import TRAINED_PART
from skyreid.train.detector.clips import read_frames
from skyreid.train.detector.evaluate import average_precision, best_threshold

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

STEP = 10
SURE = 0.5
"""Score from which on a box of the reference is a person."""
UNSURE = 0.1
"""From here on it is a don't-care."""
SCORE_FLOOR = 0.05
SIZES_PX = ((720, 1280), (1080, 1920))
_CELL_PX = (96, 144)
_HEAD = 0.3
"""Part of a box from its top that is shown as squares: the reference's boxes are loose."""
_SQUARES = 3
"""Of a head, from side to side: nobody is known by nine of them."""


@dataclass(frozen=True)
class Mistake:
    """A crop uint8 [h, w, 3] with its box, and how bad it is: a score, or a height in pixels."""

    crop: UInt8
    weight: float


def look(reference: Finder, video: Path) -> dict[int, Detections]:
    """What the reference finds in every tenth frame, down to `UNSURE`."""
    return {number: reference.find(frame) for number, frame in read_frames(video, STEP)}


def against(
    detector: Finder, video: Path, truth: dict[int, Detections], score_min: float
) -> tuple[Tally, list[Mistake], list[Mistake]]:
    """A detector's tally on a clip, with its false alarms and its misses at a threshold."""
    parts, false, missed = [], [], []
    for number, frame in read_frames(video, STEP):
        people = truth[number]
        found = detector.find(frame)
        shown = without_heads(frame, people.boxes)
        parts.append(judge(found, people.boxes, people.scores >= SURE))
        above = found.boxes[found.scores >= score_min]
        scores = found.scores[found.scores >= score_min]
        for box, score in zip(above, scores, strict=True):
            if not _meets(box, people.boxes):
                false.append(Mistake(_around(shown, box), float(score)))
        for box in people.boxes[people.scores >= SURE]:
            if not _meets(box, above):
                missed.append(Mistake(_around(shown, box), float(box[3] - box[1])))
    return merge(parts), false, missed


def without_heads(frame: UInt8, people: Float32) -> UInt8:
    """A copy of uint8 [h, w, 3] in which the head of every box [N, 4] is a few squares."""
    shown = frame.copy()
    height, width = frame.shape[:2]
    for x0, y0, x1, y1 in people:
        left, right = max(0, int(x0)), min(width, int(np.ceil(x1)))
        top, bottom = max(0, int(y0)), min(height, int(np.ceil(y0 + _HEAD * (y1 - y0))))
        if right > left and bottom > top:
            head = shown[top:bottom, left:right]
            coarse = cv2.resize(head, (_SQUARES, _SQUARES), interpolation=cv2.INTER_AREA)
            head[:] = cv2.resize(coarse, head.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return shown


def false_boxes(detector: Finder, video: Path) -> tuple[list[Mistake], int]:
    """Boxes on the last third of a video, and how many frames that is."""
    source = cv2.VideoCapture(str(video))
    first = int(source.get(cv2.CAP_PROP_FRAME_COUNT) * TRAINED_PART)
    source.release()
    false, frames = [], 0
    for number, frame in read_frames(video, STEP):
        if number <= first:
            continue
        found, frames = detector.find(frame), frames + 1
        for box, score in zip(found.boxes, found.scores, strict=True):
            false.append(Mistake(_around(frame, box), float(score)))
    return false, frames


def milliseconds(
    detectors: Sequence[Finder], size_px: tuple[int, int], rounds: int = 15
) -> list[float]:
    """Median time of one frame, the detectors in turn so that they share the machine's moods."""
    noise = np.random.default_rng(0).integers(0, 256, (*size_px, 3)).astype(np.uint8)
    frame = np.asarray(cv2.GaussianBlur(noise, (0, 0), 8), np.uint8)
    taken: list[list[float]] = [[] for _ in detectors]
    for _ in range(rounds):
        for detector, times in zip(detectors, taken, strict=True):
            began = time.perf_counter()
            detector.find(frame)
            times.append(1000 * (time.perf_counter() - began))
    return [float(np.median(times)) for times in taken]


def sheet(false: Sequence[Mistake], missed: Sequence[Mistake], columns: int = 12) -> UInt8:
    """Up to two rows of false alarms, highest score first, above misses, largest first."""
    rows = []
    for mistakes in (false, missed):
        worst = sorted(mistakes, key=lambda m: -m.weight)[: 2 * columns]
        cells = [cv2.resize(m.crop, _CELL_PX, interpolation=cv2.INTER_AREA) for m in worst]
        blank = np.full((_CELL_PX[1], _CELL_PX[0], 3), 245, np.uint8)
        cells += [blank] * (max(1, -(-len(cells) // columns)) * columns - len(cells))
        rows += [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
        rows.append(np.full((8, rows[0].shape[1], 3), 245, np.uint8))
    return np.asarray(np.vstack(rows[:-1]), np.uint8)


def _meets(box: Float32, others: Float32) -> bool:
    """Whether a box lies over half of another, or another over half of it."""
    sizes = (others[:, 2:] - others[:, :2]).prod(1)
    least = np.minimum((box[2:] - box[:2]).prod(), sizes)
    return bool((intersection(box[None], others)[0] > 0.5 * least).any())


def _around(frame: UInt8, box: Float32) -> UInt8:
    """The box with half its height around it, drawn in, as a crop of 2 : 3."""
    x0, y0, x1, y1 = (float(edge) for edge in box[:4])
    half_h = max(0.9 * (y1 - y0), 1.35 * (x1 - x0), 20.0)
    half_w = half_h * 2 / 3
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    drawn = frame.copy()
    thick = max(1, round(half_h / 60))
    corners = [round(edge) for edge in (x0, y0, x1, y1)]
    cv2.rectangle(drawn, corners[:2], corners[2:], (255, 255, 0), thick)
    pad = int(np.ceil(half_h)) + 1
    drawn = np.pad(drawn, ((pad, pad), (pad, pad), (0, 0)))
    left, top = int(cx - half_w) + pad, int(cy - half_h) + pad
    return drawn[top : top + int(2 * half_h), left : left + int(2 * half_w)].copy()


def _truth(args: argparse.Namespace) -> dict[str, dict[int, Detections]]:
    """What the reference sees, by video name and frame, from the file where it has it."""
    kept: dict[str, dict[str, list[list[float]]]] = {}
    if args.truth is not None and args.truth.is_file():
        kept = json.loads(args.truth.read_text())
    rows, columns = args.tiles
    keys = {video.name: f"{video.name} {rows}x{columns}" for video in args.clips}
    missing = [video for video in args.clips if keys[video.name] not in kept]
    if missing:
        reference = tiled(open_detector(args.reference, score_min=UNSURE), (rows, columns))
        for video in missing:
            kept[keys[video.name]] = {
                str(number): np.column_stack([found.boxes, found.scores]).tolist()
                for number, found in look(reference, video).items()
            }
        if args.truth is not None:
            args.truth.write_text(json.dumps(kept))
    return {
        name: {int(number): _detections(boxes) for number, boxes in kept[key].items()}
        for name, key in keys.items()
    }


def _detections(rows: Sequence[Sequence[float]]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def threshold(path: Path) -> float:
    """A bundle's own."""
    spec = open_bundle(path).manifest.detector
    if spec is None:
        raise InputError(f"{path} is no detector bundle")
    return spec.score_min


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    truth = _truth(args)
    false: list[Mistake] = []
    missed: list[Mistake] = []
    for path in args.detectors:
        score_min = threshold(path) if args.score is None else args.score
        low, own = (open_detector(path, score_min=score) for score in (SCORE_FLOOR, score_min))
        print(f"{path}, score >= {score_min:.2f}")
        for video in args.clips:
            tally, wrong, lost = against(low, video, truth[video.name], score_min)
            recall, precision = tally.rates(score_min)
            score, f1 = best_threshold([tally])
            print(
                f"  {video.name:<34} AP {average_precision(tally):.3f}  recall {recall or 0:.3f}  "
                f"precision {precision or 0:.3f}  best F1 {f1:.3f} at {score:.2f}  "
                f"({tally.people} boxes)",
                flush=True,
            )
            if path == args.detectors[0]:
                false, missed = false + wrong, missed + lost
        for video in args.empty:
            wrong, frames = false_boxes(own, video)
            share = len(wrong) / max(1, frames)
            print(f"  {video.name:<34} {share:.2f} false boxes a frame ({frames})")
            if path == args.detectors[0]:
                false += wrong
    opened = [open_detector(path) for path in args.detectors]
    for size_px in SIZES_PX:
        for path, taken_ms in zip(args.detectors, milliseconds(opened, size_px), strict=True):
            print(f"{path}: {taken_ms:.0f} ms a frame of {size_px[1]} x {size_px[0]}")
    if args.sheet is not None:
        cv2.imwrite(str(args.sheet), sheet(false, missed)[..., ::-1])
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detectors", nargs="+", type=Path, metavar="DETECTOR", help="bundles")
    parser.add_argument("--reference", type=Path, required=True, metavar="DETECTOR", help="bundle")
    parser.add_argument("--clips", nargs="+", type=Path, default=[], metavar="VIDEO")
    parser.add_argument("--empty", nargs="+", type=Path, default=[], metavar="VIDEO")
    parser.add_argument(
        "--tiles", nargs=2, type=int, default=(2, 2), metavar="N", help="rows, columns"
    )
    parser.add_argument("--score", type=float, help="threshold instead of each detector's own")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="the reference's boxes")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="false alarms and misses")
    args = parser.parse_args(argv)
    return run_command(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
