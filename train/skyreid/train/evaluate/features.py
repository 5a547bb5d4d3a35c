"""Features of a query and a gallery set in one .npz file, as any network's evaluation leaves them.

`{query,gallery}_features` [N, D] real numbers of any length, `{query,gallery}_pids` [N] and
`{query,gallery}_cams` [N] integers; cameras are numbered as in CARGO, 1 to 5 aerial.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.train.data.cargo import AERIAL_CAMERAS, CAMERAS
from skyreid.train.evaluate.metrics import Embedded

SETS = ("query", "gallery")
ARRAYS = ("features", "pids", "cams")
BLOCK = 4096  # rows normalised at a time


def read(path: Path) -> tuple[Embedded, Embedded]:
    """Query and gallery, the rows normalised to length 1.

    Raises:
        InputError: naming the file, the array and what is wrong with it.
    """
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise InputError(f"{path} is no .npz; this needs one with {', '.join(_names())}")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in _names() if name not in archive]
            if missing:
                raise InputError(
                    f"{path} lacks {', '.join(missing)}; it needs {', '.join(_names())}"
                )
            query, gallery = (
                _checked(path, part, *(archive[f"{part}_{name}"] for name in ARRAYS))
                for part in SETS
            )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {path} as .npz: {error}") from error
    widths = query.embeddings.shape[1], gallery.embeddings.shape[1]
    if widths[0] != widths[1]:
        raise InputError(
            f"{path}: query_features have {widths[0]} numbers each and gallery_features {widths[1]}"
        )
    return query, gallery


def _names() -> list[str]:
    return [f"{part}_{name}" for part in SETS for name in ARRAYS]


def _checked(
    path: Path, part: str, features: NDArray[Any], people: NDArray[Any], cameras: NDArray[Any]
) -> Embedded:
    name = f"{path}: {part}_features"
    if features.ndim != 2 or not features.size or features.dtype.kind not in "fiu":
        raise InputError(
            f"{name} is {features.dtype} of shape {list(features.shape)}, not [N, D] real numbers"
        )
    for key, values in (("pids", people), ("cams", cameras)):
        if values.shape != features.shape[:1] or values.dtype.kind not in "iu":
            raise InputError(
                f"{path}: {part}_{key} is {values.dtype} of shape {list(values.shape)}, not "
                f"{len(features)} integers, one for each row of {part}_features"
            )
    unknown = cameras[~np.isin(cameras, CAMERAS)]
    if unknown.size:
        raise InputError(
            f"{path}: {part}_cams holds {unknown[0]}; cameras are 1 to {CAMERAS[-1]}, up to "
            f"{AERIAL_CAMERAS[-1]} aerial, the others ground"
        )
    unit = features if features.dtype == np.float32 else np.empty(features.shape, np.float32)
    for start in range(0, len(features), BLOCK):
        # In float64, where the square of a float32 neither overflows nor vanishes.
        block = features[start : start + BLOCK].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        for wrong, what in (
            (~np.isfinite(lengths), "is not finite"),
            (lengths == 0, "has length 0"),
        ):
            if wrong.any():
                row = start + int(wrong.argmax())
                raise InputError(f"{name} row {row} {what}, so it has no cosine")
        unit[start : start + BLOCK] = block / lengths[:, None]
    return Embedded(
        unit,
        people.astype(np.int64),
        cameras.astype(np.int64),
        np.isin(cameras, AERIAL_CAMERAS),
    )
