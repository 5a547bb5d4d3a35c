"""The ranges of activations on real pictures, which others call calibration; whence they come."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.export.int8 import quantised_inputs
from skyreid.train.data.pictures import read_rgb

Method = Literal["percentile", "minmax"]
PERCENTILE = 99.99
FEWEST, MOST = 32, 512
_BATCH = 16
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Pictures:
    """Pictures for ranges and others to judge by, uint8 [N, H, W, 3] RGB, pre-processed.

    Attributes:
        ranges: what the ranges are measured on.
        judge: as many others, which the ranges never saw.
        listed: of `ranges`, paths below the directory.
        sha256: over the names and contents of `ranges`.
    """

    ranges: NDArray[np.uint8]
    judge: NDArray[np.uint8]
    listed: tuple[str, ...]
    sha256: str


def read(directory: Path, spec: InputSpec, count: int = 256) -> Pictures:
    """Take `count` pictures for ranges and as many to judge by, spread over all folders.

    Folders are cameras or splits in every data set that we read, so each gives its share.

    Raises:
        InputError: there are too few, or one cannot be read.
    """
    if not FEWEST <= count <= MOST:
        raise InputError(f"{count} pictures for ranges: {FEWEST} to {MOST} are sensible")
    paths = sorted(p for p in directory.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if len(paths) < 2 * count:
        raise InputError(
            f"{directory} has {len(paths)} pictures; {2 * count} are needed, half of them to judge "
            "by: give a larger set, or ask for fewer"
        )
    chosen = _spread(paths, 2 * count)
    mine, others = chosen[0::2], chosen[1::2]
    digest = hashlib.sha256()
    listed = tuple(p.relative_to(directory).as_posix() for p in mine)
    for name, path in zip(listed, mine, strict=True):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(os.fsencode(name) + f"\0{content}\n".encode())
    return Pictures(_load(mine, spec), _load(others, spec), listed, digest.hexdigest())


def measure(
    data: bytes,
    pictures: NDArray[np.uint8],
    method: Method,
    percentile: float = PERCENTILE,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """The range of every activation that a Linear reads.

    Args:
        data: serialised fp32 ONNX.
        pictures: uint8 [N, H, W, 3].
        method: the largest absolute value over all pictures, or the largest of each batch's
            percentile, which lets a few outliers saturate.
        percentile: 0 to 100, for `percentile`.
        advance: is told how many pictures are done.
    """
    model = onnx.load_from_string(data)
    names = quantised_inputs(model)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    entry = session.get_inputs()[0].name
    largest = dict.fromkeys(names, 0.0)
    for start in range(0, len(pictures), _BATCH):
        some = pictures[start : start + _BATCH]
        for name, values in zip(names, session.run(names, {entry: some}), strict=True):
            sizes = np.abs(values)
            top = sizes.max() if method == "minmax" else np.percentile(sizes, percentile)
            largest[name] = max(largest[name], float(top))
        advance(len(some))
    return largest


def as_json(
    pictures: Pictures, ranges: dict[str, float], method: Method, percentile: float
) -> dict[str, Any]:
    """What `int8-ranges.json` says: which pictures, how, and what came out."""
    return {
        "pictures": len(pictures.listed),
        "pictures_sha256": pictures.sha256,
        "listed": list(pictures.listed),
        "method": method,
        "percentile": percentile if method == "percentile" else None,
        "ranges": ranges,
    }


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` paths, in turn from every folder, evenly over each folder's sorted names."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    share = {folder: 0 for folder in folders}
    while sum(share.values()) < count:
        for folder, held in folders.items():
            if share[folder] < len(held) and sum(share.values()) < count:
                share[folder] += 1
    chosen: list[Path] = []
    for folder, held in folders.items():
        places = np.linspace(0, len(held) - 1, share[folder]).round().astype(int)
        chosen += [held[i] for i in dict.fromkeys(places.tolist())]
    return chosen


def _load(paths: Sequence[Path], spec: InputSpec) -> NDArray[np.uint8]:
    return np.stack([fit(read_rgb(path), spec) for path in paths])
