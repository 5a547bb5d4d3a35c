"""Features of a query and a gallery set in one .npz file, as any network's evaluation leaves them.

`{query,gallery}_features` [N, D] real numbers of any length, `{query,gallery}_pids` [N] and
`{query,gallery}_cams` [N] integers or words. Which cameras fly is said; unsaid, cameras are those
of CARGO, 1 to 5 of 13, where they cannot be Market-1501's six or DukeMTMC's eight.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError, reason
from skyreid.train.data.cargo import AERIAL_CAMERAS, CAMERAS
from skyreid.train.evaluate.metrics import Embedded

SETS = ("query", "gallery")
ARRAYS = ("features", "pids", "cams")
BLOCK = 4096  # rows normalised at a time


AMBIGUOUS = 8
"""Files whose cameras go no further may be of a set whose cameras all stand."""


def read(path: Path, aerial: Sequence[str] | None = None) -> tuple[Embedded, Embedded]:
    """Query and gallery, the rows normalised to length 1.

    Args:
        path: of the file.
        aerial: the cameras that fly, as the file has them; None takes them for CARGO's.

    Raises:
        InputError: naming the file, the array and what is wrong with it.
    """
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            made = "; docs/evaluation.md makes one of a .mat" if path.suffix == ".mat" else ""
            raise InputError(f"{path} is no .npz; this needs one with {', '.join(_names())}{made}")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in _names() if name not in archive]
            if missing:
                raise InputError(
                    f"{path} lacks {', '.join(missing)}; it needs {', '.join(_names())}"
                )
            arrays = {name: archive[name] for name in _names()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {path} as .npz: {reason(error, path)}") from error
    units = [_unit(path, part, arrays[f"{part}_features"]) for part in SETS]
    for part, rows in zip(SETS, units, strict=True):
        for key in ("pids", "cams"):
            _check_labels(path, f"{part}_{key}", arrays[f"{part}_{key}"], len(rows))
    people, _ = _numbers([arrays[f"{part}_pids"] for part in SETS])
    cameras, names = _numbers([arrays[f"{part}_cams"] for part in SETS])
    flying = _flying(path, names, aerial)
    query, gallery = (
        Embedded(unit, person, camera, np.isin(camera, flying))
        for unit, person, camera in zip(units, people, cameras, strict=True)
    )
    widths = query.embeddings.shape[1], gallery.embeddings.shape[1]
    if widths[0] != widths[1]:
        raise InputError(
            f"{path}: query_features have {widths[0]} numbers each and gallery_features {widths[1]}"
        )
    return query, gallery


def _names() -> list[str]:
    return [f"{part}_{name}" for part in SETS for name in ARRAYS]


def _check_labels(path: Path, name: str, values: NDArray[Any], count: int) -> None:
    if values.shape != (count,) or values.dtype.kind not in "iuUS":
        raise InputError(
            f"{path}: {name} is {values.dtype} of shape {list(values.shape)}, not {count} integers "
            f"or words, one for each row of {name.partition('_')[0]}_features"
        )


def _numbers(both: Sequence[NDArray[Any]]) -> tuple[list[NDArray[np.int64]], dict[int, str]]:
    """Labels of query and gallery as numbers, and what each is called; integers stay."""
    if all(values.dtype.kind in "iu" for values in both):
        return (
            [values.astype(np.int64) for values in both],
            {int(value): str(value) for values in both for value in np.unique(values)},
        )
    names = np.unique(np.concatenate([values.astype(np.str_) for values in both]))
    found = [np.searchsorted(names, values.astype(np.str_)).astype(np.int64) for values in both]
    return found, dict(enumerate(names.tolist()))


def _flying(path: Path, cameras: dict[int, str], aerial: Sequence[str] | None) -> list[int]:
    """Numbers of the cameras that fly.

    Raises:
        InputError: when it is not said and the cameras are not CARGO's, or none is called so.
    """
    if aerial is not None:
        if missing := [name for name in aerial if name not in cameras.values()]:
            raise InputError(
                f"--aerial {' '.join(missing)}: {path} has the cameras {_some(cameras.values())}"
            )
        return [number for number, name in cameras.items() if name in aerial]
    say = "say which of them fly with --aerial CAMERA... (alone: none does)"
    unknown = [name for name in cameras.values() if name not in map(str, CAMERAS)]
    if unknown:
        raise InputError(
            f"{path} has the cameras {_some(cameras.values())}, of which {unknown[0]} is none of "
            f"CARGO's 1 to {CAMERAS[-1]}: {say}"
        )
    if max(cameras) <= AMBIGUOUS:
        raise InputError(
            f"{path} has the cameras {_some(cameras.values())}, which may be CARGO's (1 to "
            f"{AERIAL_CAMERAS[-1]} fly), Market-1501's or DukeMTMC's (none does): {say}"
        )
    return list(AERIAL_CAMERAS)


def _some(names: Iterable[str]) -> str:
    listed = sorted(names, key=lambda name: (len(name), name))
    return ", ".join(listed[:20]) + (", ..." if listed[20:] else "")


def _unit(path: Path, part: str, features: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length 1."""
    name = f"{path}: {part}_features"
    if features.ndim != 2 or not features.size or features.dtype.kind not in "fiu":
        raise InputError(
            f"{name} is {features.dtype} of shape {list(features.shape)}, not [N, D] real numbers"
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
    return unit
