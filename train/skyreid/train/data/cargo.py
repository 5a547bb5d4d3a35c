"""Reader of CARGO-shaped trees: `{train,query,gallery}/Cam{c}/Cam{c}_{day|night}_{pid}_{k}.jpg`.

Layout of Zhang et al., "View-decoupled Transformer for Person Re-identification under
Aerial-ground Camera Network", CVPR 2024. Cameras 1 to 5 fly, 6 to 13 stand. `skyreid-train synth
crops` writes such trees, and its ids.json says how high the cameras are.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from skyreid.contract.errors import InputError, reason
from skyreid.train.data import trials
from skyreid.train.data.format import Layout
from skyreid.train.data.reading import holds, read_folder
from skyreid.train.data.records import Reading, Record, View, merged
from skyreid.train.data.trials import TestSet

Split = Literal["train", "query", "gallery"]

AERIAL_CAMERAS = range(1, 6)
CAMERAS = range(1, 14)
_NAME = re.compile(r"Cam(?P<camera>\d{1,2})_(?:day|night)_(?P<person>\d+)_\d+")


def find(root: Path) -> Path | None:
    """The folder with the splits: `root` or its CARGO/; None where there is no such tree."""
    for folder in (root, root / "CARGO"):
        if any(holds(folder, f"{split}/Cam[0-9]*") for split in ("train", "query", "gallery")):
            return folder
    return None


def train(root: Path) -> Reading:
    """The training split."""
    return read(root, "train")


def test(root: Path) -> TestSet:
    """Query and gallery under the six protocols of two views."""
    query, gallery = read(root, "query"), read(root, "gallery")
    return TestSet(
        (*query.records, *gallery.records),
        trials.by_views(query.records, gallery.records),
        merged([query.refused, gallery.refused]),
        merged([query.left_out, gallery.left_out]),
    )


def read(root: Path, split: Split) -> Reading:
    """All records of one split, ordered by camera and name.

    A file that does not follow the grammar is never used and never lost from sight: it is in
    `Reading.refused` under `name`, `camera` (not 1 to 13) or `folder` (the name's camera is not
    the folder's).

    Raises:
        InputError: when the split is missing or holds no usable picture, or when more than 1 % of
            it are refused.
    """
    found = read_folder(root / split, 2, parse, "Cam1_day_0001_0.jpg")
    heights = altitudes(root)
    ordered = sorted(found.records, key=lambda r: (r.camera, r.path.name))
    records = tuple(replace(r, altitude_m=heights.get(r.camera)) for r in ordered)
    return replace(found, records=records)


def altitudes(root: Path) -> dict[int, float]:
    """Metres above ground of the cameras for which the tree's ids.json states them.

    Raises:
        InputError: when there is such a file and it cannot be understood.
    """
    file = root / "ids.json"
    if not file.is_file():
        return {}
    try:
        cameras = json.loads(file.read_text()).get("cameras", {})
        return {int(camera): float(row["altitude_m"]) for camera, row in cameras.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{file} is not what `skyreid-train synth crops` writes ({reason(error, file)}); "
            "move it away to do without the cameras' altitudes"
        ) from error


def parse(path: Path) -> Record | str:
    """The record of a picture, or the reason why there is none."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return "name"
    camera = int(match["camera"])
    if camera not in CAMERAS:
        return "camera"
    if path.parent.name != f"Cam{camera}":
        return "folder"
    view: View = "aerial" if camera in AERIAL_CAMERAS else "ground"
    return Record(path, str(int(match["person"])), camera, view)


CARGO = Layout("CARGO", "{train,query,gallery}/Cam1..Cam13/", find, train, test)
