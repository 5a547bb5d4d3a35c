"""The report's folder: `index.html`, `metrics.json` and `pictures/`."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.train.data.pictures import read_rgb
from skyreid.train.evaluate import tables
from skyreid.train.evaluate.protocols import Report
from skyreid.train.evaluate.report import ranklists
from skyreid.train.evaluate.report.page import MARK, PICTURES, page

INDEX = "index.html"
UNFINISHED = (
    f"<!DOCTYPE html>{MARK}<title>unfinished</title><p>This report is being written, or its "
    "writing was interrupted: give the command again."
)
"""What stands in the page's place until it is whole; the mark lets a new report replace it."""
MAX_HEIGHT_PX = 256
_QUALITY = 85
_OURS = re.compile(r"\d+\.jpg")


def prepare(folder: Path) -> None:
    """Make the folder, so that a place that cannot be used is refused before any time is spent.

    Raises:
        InputError: it holds anything but an earlier report, or cannot be written to.
    """
    if folder.exists():
        if not folder.is_dir():
            raise InputError(f"--report {folder}: is a file; name a folder")
        index = folder / INDEX
        if any(folder.iterdir()) and not (
            index.is_file() and MARK in index.read_text("utf-8", errors="replace")
        ):
            raise InputError(
                f"--report {folder}: holds files that are no report; name a new folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not (folder / INDEX).exists():
            (folder / INDEX).write_text(UNFINISHED)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"--report {folder}: cannot be written: {error.strerror}")


def write(report: Report, folder: Path, command: str) -> Path:
    """Write the page, its pictures and its numbers; an earlier report is written over.

    Args:
        report: what was measured.
        folder: to write into, see `prepare`.
        command: that gives the same numbers again.

    Returns:
        The page.

    Raises:
        InputError: when `folder` cannot be used or written to.
    """
    prepare(folder)
    lists = [
        (
            outcome,
            ranklists.sample(report.ranked, outcome),
            ranklists.hardest(report.ranked, outcome),
        )
        for outcome in ranklists.shown(report.ranked, report.outcomes)
    ]
    wanted: set[int] = set()
    for _, sample, hardest in lists:
        for found in (*sample, *hardest):
            wanted.add(int(report.query[found.query]))
            wanted.update(int(report.gallery[hit.picture]) for hit in (*found.hits, found.first))
    try:
        pictures = folder / PICTURES
        pictures.mkdir(exist_ok=True)
        (folder / INDEX).write_text(UNFINISHED)  # the earlier page would show pictures of this one
        for old in pictures.iterdir():
            if _OURS.fullmatch(old.name):
                old.unlink()
        for index in tqdm(sorted(wanted), desc="report", unit="picture", disable=None):
            _write_picture(report.records[index].path, pictures / f"{index}.jpg")
        (folder / "metrics.json").write_text(
            json.dumps(tables.as_json(report.outcomes, report.gained), indent=2) + "\n"
        )
        # A path may hold bytes that are no UTF-8.
        text = page(report, command, lists).encode("utf-8", "backslashreplace")
        files.write(folder / INDEX, text)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / INDEX


def _write_picture(source: Path, target: Path) -> None:
    picture = read_rgb(source)
    height, width = picture.shape[:2]
    if height > MAX_HEIGHT_PX:
        size = (max(1, round(width * MAX_HEIGHT_PX / height)), MAX_HEIGHT_PX)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise InputError(f"{source}: OpenCV cannot encode a picture of {picture.shape}")
    target.write_bytes(data.tobytes())
