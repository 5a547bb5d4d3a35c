"""Reader of CARGO-shaped trees: `{train,query,gallery}/Cam{c}/Cam{c}_{day|night}_{pid}_{k}.jpg`.

Layout of Zhang et al., "View-decoupled Transformer for Person Re-identification under
Aerial-ground Camera Network", CVPR 2024. Cameras 1 to 5 fly, 6 to 13 stand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from skyreid.contract.errors import InputError
from skyreid.train.data.records import Reading, Record

Split = Literal["train", "query", "gallery"]

AERIAL_CAMERAS = range(1, 6)
CAMERAS = range(1, 14)
_NAME = re.compile(r"Cam(?P<camera>\d{1,2})_(?:day|night)_(?P<person>\d+)_\d+\.jpg")


def read(root: Path, split: Split) -> Reading:
    """All records of one split, ordered by camera and name.

    A file that does not follow the grammar is never used and never lost from sight: it is in
    `Reading.refused` under `name`, `camera` (not 1 to 13) or `folder` (the name's camera is not
    the folder's).

    Raises:
        InputError: when the split is missing or holds no usable picture.
    """
    folder = root / split
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; a CARGO-shaped tree has train/, query/ and gallery/")
    records: list[Record] = []
    refused: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.glob("*/*") if p.is_file()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            refused.setdefault("name", []).append(path)
            continue
        camera = int(match["camera"])
        if camera not in CAMERAS:
            refused.setdefault("camera", []).append(path)
        elif path.parent.name != f"Cam{camera}":
            refused.setdefault("folder", []).append(path)
        else:
            view: Literal["aerial", "ground"] = "aerial" if camera in AERIAL_CAMERAS else "ground"
            records.append(Record(path, str(int(match["person"])), camera, view))
    if not records:
        raise InputError(f"{folder} holds no picture named Cam1_day_0001_0.jpg or alike")
    records.sort(key=lambda r: (r.camera, r.path.name))
    return Reading(tuple(records), {reason: tuple(paths) for reason, paths in refused.items()})
