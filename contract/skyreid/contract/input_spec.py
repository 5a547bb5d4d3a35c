"""What a network sees: the one reference pre-processing of training, ranges, parity and device.

A picture is cut out of the frame (``crop_box``), resized (``fit``) and handed over as uint8 NHWC
RGB. Mean and standard deviation are applied inside the graph, so nothing else may be done here.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

UInt8 = NDArray[np.uint8]


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
    tall = _resample(image.reshape(len(image), -1).astype(np.float32), spec.height)  # [H, w*3]
    wide = _resample(_turned(tall), spec.width)  # [W, H*3]
    wide += 0.5
    rounded = np.minimum(wide, 255, out=wide).astype(np.uint8)
    return _turned(rounded).reshape(spec.height, spec.width, 3)


def _turned(picture: NDArray[Any]) -> NDArray[Any]:
    """[A, B*3] to [B, A*3]: rows of pixels become columns."""
    pixels = picture.view(np.dtype((np.void, 3 * picture.itemsize)))
    return np.ascontiguousarray(pixels.T).view(picture.dtype)


_BAND = 16
"""Rows of the output that are computed together, from the few rows of the source under them."""
_ONE_THREAD = 1 << 18
"""Multiplications of a product up to which OpenBLAS does not share it (65536 times its
GEMM_MULTITHREAD_THRESHOLD of 4); larger ones are cut."""


def _resample(rows: NDArray[np.float32], target: int) -> NDArray[np.float32]:
    """float32 [source, n] to float32 [target, n], along the first axis."""
    out = np.empty((target, rows.shape[1]), np.float32)
    for number, (first, weights) in enumerate(_bands(len(rows), target)):
        source = rows[first : first + weights.shape[1]]
        band = out[number * _BAND : (number + 1) * _BAND]
        step = max(1, _ONE_THREAD // weights.size)
        for at in range(0, rows.shape[1], step):
            np.matmul(weights, source[:, at : at + step], out=band[:, at : at + step])
    return out


@lru_cache(maxsize=256)  # of some 10 kB each
def _bands(source: int, target: int) -> list[tuple[int, NDArray[np.float32]]]:
    """The antialiased triangle filter, row-stochastic, in bands of `_BAND` rows of the output.

    Returns:
        Of each band the first row of the source that it needs, and float32 weights [band, rows].
    """
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale  # in source pixels
    distance = np.abs((np.arange(source) + 0.5)[None] - centre[:, None]) / support
    weight = np.clip(1.0 - distance, 0.0, None)
    weight /= weight.sum(1, keepdims=True)
    bands = []
    for at in range(0, target, _BAND):
        part = weight[at : at + _BAND].astype(np.float32)
        used = np.flatnonzero(part.any(0))
        first, last = int(used[0]), int(used[-1]) + 1
        weights = np.ascontiguousarray(part[:, first:last])
        weights.setflags(write=False)
        bands.append((first, weights))
    return bands
