"""What a network sees: the one reference pre-processing of training, ranges, parity and device.

A picture is cut out of the frame (``crop_box``), resized (``fit``) and handed over as uint8 NHWC
RGB. Mean and standard deviation are applied inside the graph, so nothing else may be done here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


class InputSpec(BaseModel):
    """Size, colour and cropping rules of a network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    height: int = Field(ge=0)
    """Rows in pixels; 0 for a detector that takes any multiple of its stride."""
    width: int = Field(ge=0)
    """Columns in pixels; 0 for a detector that takes any multiple of its stride."""
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Subtracted in the graph, per RGB channel, in units of 0..255."""
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Divided by in the graph, per RGB channel, in units of 0..255."""
    crop_margin: float = Field(0.05, ge=0.0, le=0.5)
    """Each side of a person's box is moved out by this fraction of the box before cropping."""
    colour: Literal["rgb"] = "rgb"
    layout: Literal["nhwc"] = "nhwc"
    resize: Literal["bilinear-antialias"] = "bilinear-antialias"

    def sha256(self) -> str:
        """Hex digest of the canonical JSON: part of the model key."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def crop_box(
    box_xyxy: tuple[float, float, float, float], frame_width: int, frame_height: int, margin: float
) -> tuple[int, int, int, int]:
    """Integer pixel box (x0, y0, x1, y1) to cut out: the box with its margin, inside the frame.

    At least one pixel wide and high; x1 and y1 are exclusive.
    """
    x0, y0, x1, y1 = box_xyxy
    dx, dy = (x1 - x0) * margin, (y1 - y0) * margin
    left = min(max(math.floor(x0 - dx), 0), frame_width - 1)
    top = min(max(math.floor(y0 - dy), 0), frame_height - 1)
    right = min(max(math.ceil(x1 + dx), left + 1), frame_width)
    bottom = min(max(math.ceil(y1 + dy), top + 1), frame_height)
    return left, top, right, bottom


def fit(image: UInt8, spec: InputSpec) -> UInt8:
    """Resize an RGB picture uint8 [h, w, 3] to uint8 [spec.height, spec.width, 3].

    Separable triangle filter whose support grows with the reduction (what PIL calls BILINEAR with
    its antialiasing), sampled at pixel centres, computed in float32 and rounded half up: within
    1/255 of the same sums in any other order, of which nearly all pixels are equal. The aspect
    ratio is not kept: re-identification networks are trained on stretched crops.

    It keeps to the thread that calls it. A matrix product as a whole would be shared among all
    cores by OpenBLAS, whatever threads a caller allows; those of a few rows each are not.

    Raises:
        ValueError: ``image`` is not a non-empty uint8 [h, w, 3] array.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"expected uint8 [h, w, 3], got {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    tall = np.empty((spec.height, 3 * width), np.float32)
    rows = image.reshape(height, -1).astype(np.float32)
    for at, first, weights in _down(height, spec.height):
        _product(weights, rows[first : first + weights.shape[1]], tall[at : at + len(weights)])
    wide = np.empty((spec.height, 3 * spec.width), np.float32)
    for at, first, weights in _across(width, spec.width):
        source = tall[:, first : first + len(weights)]
        _product(source, weights, wide[:, at : at + weights.shape[1]])
    wide += 0.5  # of rows of weights that sum up to 1: never 256
    return wide.astype(np.uint8).reshape(spec.height, spec.width, 3)


_ONE_THREAD = 1 << 18
"""Multiplications of a product up to which OpenBLAS does not share it (65536 times its
GEMM_MULTITHREAD_THRESHOLD of 4); larger ones are cut."""
_ROWS, _COLUMNS = 16, 8
"""Of the output that are computed together, from what little of the source is under them."""


def _product(left: Float32, right: Float32, out: Float32) -> None:
    """The product of two matrices into a third, in parts that nobody shares."""
    rows, inner = left.shape
    columns = right.shape[1]
    if rows * inner * columns <= _ONE_THREAD:
        np.matmul(left, right, out=out)
    elif columns > rows:
        step = max(1, _ONE_THREAD // (rows * inner))
        for at in range(0, columns, step):
            np.matmul(left, right[:, at : at + step], out=out[:, at : at + step])
    else:
        step = max(1, _ONE_THREAD // (inner * columns))
        for at in range(0, rows, step):
            np.matmul(left[at : at + step], right, out=out[at : at + step])


@lru_cache(maxsize=256)  # of some 10 kB each
def _down(source: int, target: int) -> list[tuple[int, int, Float32]]:
    """The filter from rows to rows, in bands of `_ROWS`.

    Returns:
        Of each band its first row in the output and in the source, and weights [band, rows].
    """
    return [(at, first, _frozen(weights)) for at, first, weights in _bands(source, target, _ROWS)]


@lru_cache(maxsize=256)  # of some 30 kB each
def _across(source: int, target: int) -> list[tuple[int, int, Float32]]:
    """The filter from columns of RGB pixels to such, in bands of `_COLUMNS`.

    Two of three weights are for another channel, and 0: the product with them takes less time than
    turning the picture twice, so that columns are rows.

    Returns:
        Of each band its first value in a row of the output and of the source, three a pixel, and
        weights [values of the source, values of the output].
    """
    bands = []
    for at, first, weights in _bands(source, target, _COLUMNS):
        band, pixels = weights.shape
        spread = np.zeros((pixels, 3, band, 3), np.float32)
        for channel in range(3):
            spread[:, channel, :, channel] = weights.T
        bands.append((3 * at, 3 * first, _frozen(spread.reshape(3 * pixels, 3 * band))))
    return bands


def _bands(source: int, target: int, band: int) -> Iterator[tuple[int, int, Float32]]:
    """The antialiased triangle filter, row-stochastic, cut into bands of the output.

    Yields:
        Of each band its first pixel, the first of the source that it needs, and float32 weights
        [band, pixels].
    """
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale  # in source pixels
    distance = np.abs((np.arange(source) + 0.5)[None] - centre[:, None]) / support
    weight = np.clip(1.0 - distance, 0.0, None)
    weight /= weight.sum(1, keepdims=True)
    for at in range(0, target, band):
        part = weight[at : at + band].astype(np.float32)
        used = np.flatnonzero(part.any(0))
        first, last = int(used[0]), int(used[-1]) + 1
        yield at, first, part[:, first:last]


def _frozen(weights: Float32) -> Float32:
    result = np.ascontiguousarray(weights)
    result.setflags(write=False)
    return result
