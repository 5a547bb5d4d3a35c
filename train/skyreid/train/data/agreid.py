"""Readers of AG-ReID and AG-ReID.v2: `P{person}T{mmdd and am/pm}A{level}C{camera}F{frame}.jpg`.

Nguyen et al., "Aerial-Ground Person Re-ID", ICME 2023 (arXiv:2303.08597), and "AG-ReID.v2: Bridging
Aerial and Ground Views for Person Re-identification", TIFS 2024 (arXiv:2401.02634). P counts people
within one video only: the identity is the number made of the digits of P, T and A together. A is
the drone's level in that video, 0 low to 2 high, whichever camera took the picture.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from skyreid.train.data import lists
from skyreid.train.data.format import Layout
from skyreid.train.data.lists import Protocol
from skyreid.train.data.reading import holds, read_folder
from skyreid.train.data.records import Reading, Record, merged
from skyreid.train.data.trials import TestSet, Trial

EXAMPLE = "P0006T02140A0C0F1831.jpg"
_NAME = re.compile(r"P(?P<p>\d+)T(?P<t>\d+)A(?P<level>\d+)C(?P<camera>\d+)F\d+")

V1_FOLDERS = (  # of each trial: query, gallery
    ("A->G", "query_all_c0", "bounding_box_test_all_c3"),
    ("G->A", "query_all_c3", "bounding_box_test_all_c0"),
)
V1_CAMERAS = {0: 0, 3: 1}  # in the name: number here
FIRST_RELEASE = {0: 0, 2: 1, 3: 1}  # as the published forks read it: what does not fly stands
V2_CAMERAS = {0: 0, 2: 1, 3: 2}
FORGOTTEN = "camera C2 of AG-ReID's first release (--ag-reid-c2 takes it as the ground's)"

V2_PROTOCOLS = (
    Protocol("A->C", "exp1_aerial_to_cctv.txt"),
    Protocol("C->A", "exp4_cctv_to_aerial.txt"),
    Protocol("A->W", "exp2_aerial_to_wearable.txt"),
    Protocol("W->A", "exp5_wearable_to_aerial.txt"),
)


def parse(path: Path, cameras: dict[int, int]) -> Record | str:
    """The record of a picture, or the reason why there is none: `name`, or that of its camera."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return "name"
    camera = int(match["camera"])
    if camera not in cameras:
        return FORGOTTEN if cameras is V1_CAMERAS and camera in FIRST_RELEASE else "camera"
    return Record(
        path,
        str(int(match["p"] + match["t"] + match["level"])),
        cameras[camera],
        "ground" if camera else "aerial",
        altitude_level=None if camera else int(match["level"]),
    )


def _find_v1(root: Path) -> Path | None:
    for folder in (root, root / "AG-ReID"):
        if any((folder / name).is_dir() for _, *both in V1_FOLDERS for name in both) or holds(
            folder, "bounding_box_train/P*T*A*C*F*"
        ):
            return folder
    return None


def _train_v1(root: Path, cameras: dict[int, int]) -> Reading:
    return read_folder(root / "bounding_box_train", 1, partial(parse, cameras=cameras), EXAMPLE)


def _test_v1(root: Path, cameras: dict[int, int]) -> TestSet:
    """Query and gallery of both directions."""
    records: list[Record] = []
    readings: list[Reading] = []
    trials: list[Trial] = []
    for name, *folders in V1_FOLDERS:
        places = []
        for folder in folders:
            reading = read_folder(root / folder, 1, partial(_parse_test, cameras=cameras), EXAMPLE)
            places.append(np.arange(len(records), len(records) + len(reading.records)))
            records += reading.records
            readings.append(reading)
        trials.append(Trial(name, places[0], places[1], False))
    return TestSet(
        tuple(records),
        tuple(trials),
        merged([reading.refused for reading in readings]),
        merged([reading.left_out for reading in readings]),
    )


def _parse_test(path: Path, cameras: dict[int, int]) -> Record | str:
    """As `parse`, or `folder` where a picture's camera is not the one in the folder's name."""
    found = parse(path, cameras)
    right = isinstance(found, str) or path.parent.name[-1] == "03"[found.camera]
    return found if right else "folder"


def _find_v2(root: Path) -> Path | None:
    """The folder with the pictures; their lists lie in it, or one level up in the forks' layout."""
    inner = "AG-ReID.v2"
    for folder in (root, root / inner, root / inner / inner):
        if any(holds(folder, f"{split}/P*T*A*/") for split in ("train_all", "query", "gallery")):
            return folder
    return None


def _train_v2(root: Path) -> Reading:
    return read_folder(root / "train_all", 2, partial(parse, cameras=V2_CAMERAS), EXAMPLE)


def _test_v2(root: Path) -> TestSet:
    """The four protocols, each of which asks one view and searches the other.

    The forks number a wearable's gallery pictures as CCTV; no query shares a view with the gallery,
    so nothing depends on it, and here a camera keeps its number.
    """
    beside = any((root / protocol.file).is_file() for protocol in V2_PROTOCOLS)
    return lists.test_set(
        root if beside else root.parent,
        root,
        V2_PROTOCOLS,
        partial(parse, cameras=V2_CAMERAS),
        lambda first: first == "query",
        f"query/P0006T02140A0/{EXAMPLE}",
    )


V1 = Layout(
    "AG-ReID",
    "bounding_box_train/, query_all_c{0,3}/ and bounding_box_test_all_c{0,3}/ with P..T..A..C..F..",
    _find_v1,
    partial(_train_v1, cameras=V1_CAMERAS),
    partial(_test_v1, cameras=V1_CAMERAS),
)
V1_FIRST = replace(
    V1,
    train=partial(_train_v1, cameras=FIRST_RELEASE),
    test=partial(_test_v1, cameras=FIRST_RELEASE),
)
V2 = Layout(
    "AG-ReID.v2",
    "{train_all,query,gallery}/P..T..A../ with exp{1,2,4,5}_*.txt beside or one level up",
    _find_v2,
    _train_v2,
    _test_v2,
)
