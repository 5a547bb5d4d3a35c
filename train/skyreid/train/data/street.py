"""Readers of Market-1501 and MSMT17, which know street cameras only.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015; Wei et al., "Person
Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018. Every view is ground.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.train.data.format import Layout
from skyreid.train.data.lists import lines, on_disk
from skyreid.train.data.reading import Sift, holds, read_folder
from skyreid.train.data.records import Reading, Record, merged
from skyreid.train.data.trials import TestSet, Trial

MARKET_EXAMPLE = "0002_c1s1_000451_03.jpg"
_MARKET_NAME = re.compile(r"(?P<person>-?\d+)_c(?P<camera>\d+).*")
BEYOND = "camera, of which Market-1501 has six: read others as 'DIR/{split}/{person}_c{camera}s*'"

MSMT_EXAMPLE = "0000/0000_000_01_0303morning_0015_0.jpg 0"
MSMT_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_MSMT_NAME = re.compile(r"\d+_\d+_(?P<camera>\d+)_.+")


def parse_market(path: Path) -> Record | str:
    """The record of a picture, camera 0 to 5, or `name` or `BEYOND` as the reason for none."""
    match = _MARKET_NAME.fullmatch(path.stem)
    if match is None:
        return "name"
    if not 1 <= int(match["camera"]) <= 6:
        return BEYOND
    return Record(path, str(int(match["person"])), int(match["camera"]) - 1, "ground")


def _find_market(root: Path) -> Path | None:
    for folder in (root, root / "Market-1501-v15.09.15", root / "Market-1501"):
        if any(
            holds(folder, f"{split}/[-0-9]*_c[1-6]*")
            for split in ("bounding_box_train", "query", "bounding_box_test")
        ):
            return folder
    return None


def _read_market(root: Path, split: str) -> Reading:
    return read_folder(root / split, 1, parse_market, MARKET_EXAMPLE, skip_junk=True)


def _test_market(root: Path) -> TestSet:
    """Person 0, whom no query asks for, distracts in the gallery; person -1 is junk."""
    return _whole(_read_market(root, "query"), _read_market(root, "bounding_box_test"))


def _find_msmt(root: Path) -> Path | None:
    for folder in (root, *(root / name for name in ("MSMT17", "MSMT17_V1", "MSMT17_V2"))):
        if (folder / "list_train.txt").is_file() or (folder / "list_query.txt").is_file():
            return folder
    return None


def _read_msmt(root: Path, part: str, split: str) -> Reading:
    """One list, "path person" a line; the camera is the third of the name's fields, less one.

    Raises:
        InputError: when list or pictures are missing, or more than 1 % cannot be used.
    """
    names = MSMT_FOLDERS[part]
    pictures = next((root / name for name in names if (root / name).is_dir()), None)
    if pictures is None:
        raise InputError(f"no folder {' or '.join(names)} in {root}")
    found = Sift(root / f"list_{split}.txt", MSMT_EXAMPLE)
    for relative, (person,) in lines(found, fields=2):
        path = on_disk(pictures / relative)
        match = _MSMT_NAME.fullmatch(relative.stem)
        if match is None or not person.isdecimal():
            found.refuse("name", path)
        elif not 1 <= int(match["camera"]) <= 15:
            found.refuse("camera", path)
        elif not path.is_file():
            found.refuse("missing file", path)
        else:
            record = Record(path, str(int(person)), int(match["camera"]) - 1, "ground")
            found.records.append(record)
    return found.reading()


def _train_msmt(root: Path) -> Reading:
    """Training and validation lists together, as the published numbers are trained."""
    both = [_read_msmt(root, "train", split) for split in ("train", "val")]
    return Reading(
        tuple(record for reading in both for record in reading.records),
        merged([reading.refused for reading in both]),
        merged([reading.left_out for reading in both]),
    )


def _test_msmt(root: Path) -> TestSet:
    return _whole(_read_msmt(root, "test", "query"), _read_msmt(root, "test", "gallery"))


def _whole(query: Reading, gallery: Reading) -> TestSet:
    """Every query against the whole gallery, without the pictures of its own camera."""
    count = len(query.records)
    records = (*query.records, *gallery.records)
    return TestSet(
        records,
        (Trial("ALL", np.arange(count), np.arange(count, len(records)), False),),
        merged([query.refused, gallery.refused]),
        merged([query.left_out, gallery.left_out]),
    )


MARKET = Layout(
    "Market-1501",
    "{bounding_box_train,query,bounding_box_test}/*_c{1..6}*.jpg",
    _find_market,
    lambda root: _read_market(root, "bounding_box_train"),
    _test_market,
)
MSMT = Layout(
    "MSMT17",
    "list_{train,val,query,gallery}.txt with {train,test}/ or mask_{train,test}_v2/",
    _find_msmt,
    _train_msmt,
    _test_msmt,
)
