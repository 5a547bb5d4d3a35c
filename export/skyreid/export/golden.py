"""The pictures that travel in a bundle, so that any machine can prove that it computes right."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train.data import picture_files
from skyreid.train.data.pictures import read_rgb
from skyreid.train.data.records import UNREADABLE, check_refused

COUNT = 8
DETECTOR_HEIGHT_PX, DETECTOR_WIDTH_PX = 192, 256


def read(directory: Path, spec: InputSpec) -> NDArray[np.uint8]:
    """Eight pictures of a directory, spread over its sorted names, as uint8 [8, H, W, 3] RGB.

    For an embedder each is resized by the contract's `fit`; for a detector (``spec`` without a
    size) the middle 192 x 256 window is taken.

    Raises:
        InputError: fewer than eight, one cannot be read, or one is smaller than the window.
    """
    return np.stack([_prepare(path, picture, spec) for path, picture in _chosen(directory)])


def originals(directory: Path) -> list[NDArray[np.uint8]]:
    """The same eight pictures as they are, uint8 [H, W, 3] RGB, for a detector with an input size.

    Raises:
        InputError: fewer than eight, or one cannot be read.
    """
    return [picture for _, picture in _chosen(directory)]


def _chosen(directory: Path) -> list[tuple[Path, NDArray[np.uint8]]]:
    """Eight, each with its path; the first that were not chosen stand in for damaged ones."""
    paths = picture_files.pictures(directory)
    if len(paths) < COUNT:
        raise InputError(
            f"--golden {directory}: {len(paths)} pictures, at least {COUNT} are needed"
        )
    wanted = np.linspace(0, len(paths) - 1, COUNT).round().astype(int).tolist()
    chosen: dict[int, NDArray[np.uint8]] = {}
    damaged: list[Path] = []
    for index in [*wanted, *sorted(set(range(len(paths))) - set(wanted))]:
        if len(chosen) == COUNT:
            break
        try:
            chosen[index] = read_rgb(paths[index])
        except InputError:
            damaged.append(paths[index])
            check_refused(
                f"--golden {directory}", len(paths) - len(damaged), {UNREADABLE: tuple(damaged)}
            )
    return [(paths[index], chosen[index]) for index in sorted(chosen)]


def draw(spec: InputSpec, seed: int = 0) -> NDArray[np.uint8]:
    """Upright figures on a mottled ground, uint8 [8, H, W, 3]: enough to exercise every layer."""
    random = np.random.default_rng(seed)
    height, width = spec.height or DETECTOR_HEIGHT_PX, spec.width or DETECTOR_WIDTH_PX
    pictures = []
    for _ in range(COUNT):
        coarse = random.uniform(60, 200, (8, 8, 3)).astype(np.float32)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(1 if spec.height else 5):
            tall = height * (0.9 if spec.height else random.uniform(0.15, 0.6))
            x = width / 2 if spec.height else random.uniform(0.1, 0.9) * width
            top = (height - tall) * random.uniform(0, 1)
            for part, (y0, y1, half) in enumerate(
                ((0, 0.14, 0.05), (0.14, 0.55, 0.13), (0.55, 1, 0.1))
            ):
                colour = [float(v) for v in random.uniform(10, 245, 3)]
                y = top + tall * (y0 + y1) / 2
                centre, axes = (int(x), int(y)), (int(tall * half), int(tall * (y1 - y0) / 2))
                cv2.ellipse(picture, centre, axes, 0, 0, 360, colour, -1 if part < 3 else 1)
        noise = random.standard_normal(picture.shape) * 4
        pictures.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    return np.stack(pictures)


def _prepare(path: Path, picture: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    if spec.height and spec.width:
        return fit(picture, spec)
    top, left = picture.shape[0] - DETECTOR_HEIGHT_PX, picture.shape[1] - DETECTOR_WIDTH_PX
    if top < 0 or left < 0:
        raise InputError(
            f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels; golden pictures of a "
            f"detector are at least {DETECTOR_WIDTH_PX} x {DETECTOR_HEIGHT_PX}"
        )
    y, x = top // 2, left // 2
    return picture[y : y + DETECTOR_HEIGHT_PX, x : x + DETECTOR_WIDTH_PX]
