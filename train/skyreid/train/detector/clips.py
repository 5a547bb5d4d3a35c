"""Clips with truth: ``cam{n}.mp4`` beside ``gt/cam{n}.txt``, MOTChallenge rows with visibility."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.contract.recording import read_mot

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class People:
    """The people of one frame."""

    boxes: NDArray[np.float32]
    """[K, 4] x0, y0, x1, y1 in pixels, whole bodies clipped to the picture."""
    visibility: NDArray[np.float32]
    """[K], 0 to 1: the part of the body that nothing hides."""


NOBODY = People(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class View:
    """One camera of one clip: a video file and the people in each of its frames."""

    camera: str
    video: Path
    truth: dict[int, People]
    """By frame number, from 1."""


def find_views(clip: Path) -> list[View]:
    """The cameras of a clip in the order of their numbers.

    Raises:
        InputError: no cameras, a video without truth, or truth that cannot be read.
    """
    numbered = {
        int(found[1]): path
        for path in clip.glob("cam*.mp4")
        if (found := re.fullmatch(r"cam(\d+)\.mp4", path.name))
    }
    if not numbered:
        raise InputError(f"{clip}: no cam<number>.mp4 in it; name a clip directory")
    return [
        View(path.stem, path, read_truth(clip / "gt" / f"{path.stem}.txt"))
        for _, path in sorted(numbered.items())
    ]


def read_truth(path: Path) -> dict[int, People]:
    """MOTChallenge rows with a visibility as people by frame number; raises `InputError`."""
    rows = read_mot(path, truth=True)
    boxes, visibility = rows.box_xyxy.astype(np.float32), rows.visibility.astype(np.float32)
    return {
        int(frame): People(boxes[rows.frame == frame], visibility[rows.frame == frame])
        for frame in np.unique(rows.frame)
    }


def read_frames(video: Path, step: int = 1) -> Iterator[tuple[int, UInt8]]:
    """Every ``step``-th frame, uint8 [H, W, 3] RGB, with its number from 1.

    Raises:
        InputError: nothing can be decoded.
    """
    capture = cv2.VideoCapture(str(video))
    try:
        number = 0
        while capture.grab():
            number += 1
            if (number - 1) % step:
                continue
            read, picture = capture.retrieve()
            if not read:
                break
            yield number, np.ascontiguousarray(picture[:, :, ::-1])
    finally:
        capture.release()
    if number == 0:
        raise InputError(f"{video}: no frame could be decoded; is it a video?")
