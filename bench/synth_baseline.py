"""How hard a rendered set of crops is: for colour histograms, and for a trained model by altitude.

    skyreid-train synth crops DIR --people 100 --frames 3 --test 1.0 --seed N
    python bench/synth_baseline.py DIR [--bundle examples/bundle/vdt-tiny] [--json FILE]

The histogram: six horizontal strips of the whole crop, in each a joint histogram of 8 hues, 4
saturations and 4 values, whose roots are compared by their cosine (Bhattacharyya). Queries are the
first picture of every person and camera, the gallery all others, the query's own camera left out
for the query's person. The model's rows ask from one drone at a time and search the street
cameras: the higher and steeper it is, the harder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.embedder import Embedder
from skyreid.contract.input_spec import fit
from skyreid.contract.sighting import View
from skyreid.train.data.pictures import read_rgb
from skyreid.train.evaluate.metrics import Embedded, Score, protocols, score

Embed = Callable[[list[NDArray[np.uint8]], bool], NDArray[np.float32]]

STRIPS = 6
BINS = (8, 4, 4)
LIMITS = {"rank1": 0.45, "mAP": 0.22}  # the histogram must stay below, on A->G
BATCH = 64


def histograms(pictures: list[NDArray[np.uint8]], aerial: bool) -> NDArray[np.float32]:
    """Float32 [N, 768], of length 1."""
    del aerial
    rows = []
    for picture in pictures:
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
        row = []
        for strip in np.array_split(hsv, STRIPS):
            counts = cv2.calcHist([strip], [0, 1, 2], None, BINS, [0, 180, 0, 256, 0, 256])
            row.append(np.sqrt(counts.ravel() / max(1.0, float(counts.sum()))))
        rows.append(np.concatenate(row) / np.sqrt(STRIPS))
    return np.asarray(rows, np.float32)


def with_bundle(path: Path) -> Embed:
    """The bundle's embedding, with the network of each view."""
    embedders = {view is View.AERIAL: Embedder([path], view=view) for view in View}

    def embed(pictures: list[NDArray[np.uint8]], aerial: bool) -> NDArray[np.float32]:
        embedder = embedders[aerial]
        fitted = np.stack([fit(picture, embedder.spec) for picture in pictures])
        return embedder.embed(fitted)

    return embed


def embedded(files: Iterable[Path], embed: Embed) -> Embedded:
    """Every crop of a split, named as CARGO's are."""
    rows, people, cameras = [], [], []
    by_camera: dict[int, list[Path]] = {}
    for file in sorted(files):
        by_camera.setdefault(int(file.parent.name.removeprefix("Cam")), []).append(file)
    for camera, several in sorted(by_camera.items()):
        for first in range(0, len(several), BATCH):
            some = several[first : first + BATCH]
            rows.append(embed([read_rgb(file) for file in some], camera <= 5))
            people += [int(file.name.split("_")[2]) for file in some]
            cameras += [camera] * len(some)
    where = np.asarray(cameras, np.int64)
    return Embedded(np.concatenate(rows), np.asarray(people, np.int64), where, where <= 5)


def line(name: str, found: Score) -> str:
    mean = 100 * found.average_precision
    return f"{name:<44} {found.queries:7} {100 * found.rank1:6.1f} {mean:6.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("examples/bundle/vdt-tiny"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    about = json.loads((options.crops / "ids.json").read_text())["cameras"]
    rows: dict[str, Score] = {}

    def both(embed: Embed) -> tuple[Embedded, Embedded]:
        query, gallery = (
            embedded((options.crops / split).rglob("*.jpg"), embed)
            for split in ("query", "gallery")
        )
        return query, gallery

    print(f"{'':<44} {'queries':>7} {'R1':>6} {'mAP':>6}")
    for kind, embed in (
        ("histogram", histograms),
        (options.bundle.name, with_bundle(options.bundle)),
    ):
        query, gallery = both(embed)
        for name, found in protocols(query, gallery).items():
            rows[f"{kind} {name}"] = found
            print(line(f"{kind} {name}", found), flush=True)
        street = gallery.where(~gallery.aerial)
        for camera in sorted(set(query.cameras[query.aerial].tolist())):
            place = about[str(camera)]
            words = f"{place['altitude_m']:g} m, {place['pitch_deg']:g} deg"
            found = score(query.where(query.cameras == camera), street)
            rows[f"{kind} A->G, camera {camera}, {words}"] = found
            print(line(f"{kind} A->G, camera {camera}, {words}", found), flush=True)
    hard = rows["histogram A->G"]
    if hard.rank1 >= LIMITS["rank1"] or hard.average_precision >= LIMITS["mAP"]:
        print(f"too easy: colour histograms must stay below {LIMITS} on A->G")
    if options.json:
        table = {
            name: {"rank1": found.rank1, "mAP": found.average_precision, "queries": found.queries}
            for name, found in rows.items()
        }
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
