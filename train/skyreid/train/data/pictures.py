"""Every picture of a data set in memory, resized once by the contract's reference.

Decoding and resizing cost more than a training step of a small model, so they happen once; the
augmentation works on the resized pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train.data.records import Record

UInt8 = NDArray[np.uint8]


def load(records: Sequence[Record], spec: InputSpec, cache: Path | None = None) -> UInt8:
    """RGB uint8 [N, spec.height, spec.width, 3] in the order of `records`.

    Args:
        records: what to load.
        spec: the input's size.
        cache: folder for the resized array; its file's name holds a digest of the pictures' paths,
            sizes and times and of the spec, so that a changed data set is read again.

    Raises:
        InputError: when a picture cannot be decoded.
    """
    stored = None if cache is None else cache / f"{_digest(records, spec)}.npy"
    if stored is not None and stored.exists():
        found: UInt8 = np.load(stored)
        return found
    images = np.empty((len(records), spec.height, spec.width, 3), np.uint8)
    for index, record in enumerate(tqdm(records, desc="reading pictures", unit="picture")):
        images[index] = fit(read_rgb(record.path), spec)
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_suffix(".partial.npy")
        np.save(partial, images)
        partial.replace(stored)
    return images


def read_rgb(path: Path) -> UInt8:
    """One picture as RGB uint8 [h, w, 3], turned upright by its EXIF tag.

    Raises:
        InputError: when the file is not a picture.
    """
    import cv2

    data = np.fromfile(path, np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if decoded is None:
        raise InputError(f"cannot decode {path}; replace or remove the file")
    return np.asarray(decoded, np.uint8)


def _digest(records: Sequence[Record], spec: InputSpec) -> str:
    digest = hashlib.sha256(spec.sha256().encode())
    for record in records:
        status = record.path.stat()
        digest.update(f"{record.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
