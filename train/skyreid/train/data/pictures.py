"""Every picture of a data set in memory, resized once by the contract's reference.

Decoding and resizing cost more than a training step of a small model, so they happen once; the
augmentation works on the resized pictures.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train.data.records import UNREADABLE as UNREADABLE
from skyreid.train.data.records import ByReason, Record, check_refused, merged

log = logging.getLogger(__name__)

UInt8 = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Loaded:
    """Pictures in memory.

    Attributes:
        images: RGB uint8 [K, height, width, 3].
        records: whose pictures they are, in the same order.
        kept: int64 [K], ascending: places of `records` among those that were asked for.
        unreadable: files that cannot be decoded.
    """

    images: UInt8
    records: tuple[Record, ...]
    kept: Ints
    unreadable: tuple[Path, ...]

    def left_of(self, count: int) -> int:
        """How many of the first `count` records asked for are left."""
        return int(np.searchsorted(self.kept, count))


def load(
    records: Sequence[Record],
    spec: InputSpec,
    cache: Path | None = None,
    refused: ByReason | None = None,
) -> Loaded:
    """All pictures that can be read, in the order of `records`.

    Args:
        records: what to load.
        spec: the input's size.
        cache: folder for the resized array; its file's name holds a digest of the pictures' paths,
            sizes and times and of the spec, so that a changed data set is read again. Runs may
            share it: one of them reads, the others wait for it.
        refused: what the reader of the data set refused already.

    Raises:
        InputError: when there is nothing to load, when more than 1 % of the pictures are
            refused or unreadable, or when the cache cannot be written.
    """
    if not records:
        raise InputError("no pictures to read")
    if cache is None:
        images, unread = _read(records, spec)
    else:
        images, unread = _once(cache / f"{_digest(records, spec)}.npy", records, spec)
    kept = np.delete(np.arange(len(records)), unread)
    unreadable = tuple(records[index].path for index in unread)
    folders = {record.path.parent.absolute() for record in records}
    check_refused(
        f"what was read below {os.path.commonpath(folders)}",
        len(kept),
        merged([refused or {}, {UNREADABLE: unreadable}]),
    )
    return Loaded(images, tuple(records[index] for index in kept.tolist()), kept, unreadable)


def _read(records: Sequence[Record], spec: InputSpec) -> tuple[UInt8, tuple[int, ...]]:
    """The pictures that can be read, uint8 [K, height, width, 3], and the indices of the others."""
    images = np.empty((len(records), spec.height, spec.width, 3), np.uint8)
    unread: list[int] = []
    for index, record in enumerate(tqdm(records, desc="reading pictures", unit="picture")):
        try:
            images[index - len(unread)] = fit(read_rgb(record.path), spec)
        except InputError:
            unread.append(index)  # its name and number are in `Loaded`, or in the error of `load`
    return images[: len(records) - len(unread)], tuple(unread)


def _once(
    stored: Path, records: Sequence[Record], spec: InputSpec
) -> tuple[UInt8, tuple[int, ...]]:
    """What `_read` gives, kept at `stored`."""
    if (found := _kept(stored, len(records))) is not None:
        return found
    with files.FileLock(
        stored.with_suffix(".lock"),
        of=f"cache {stored}",
        waiting=lambda who: log.info("%s reads the same pictures: wait for it", who),
    ):
        if (found := _kept(stored, len(records))) is not None:  # that one is done
            return found
        images, unread = _read(records, spec)
        listed = stored.with_suffix(".unread")
        if unread:
            files.write(listed, "\n".join(map(str, unread)).encode())
        else:
            listed.unlink(missing_ok=True)
        # Last, so the array never lies there without its list.
        with files.replacing(stored) as partial, partial.open("wb") as file:
            np.save(file, images)
    return images, unread


def _kept(stored: Path, count: int) -> tuple[UInt8, tuple[int, ...]] | None:
    """The array at `stored` and which of `count` pictures it lacks, unless it has to be made."""
    if not stored.exists():
        return None
    beside = stored.with_suffix(".unread")
    try:
        unread = tuple(map(int, beside.read_text().split())) if beside.exists() else ()
        images: UInt8 = np.load(stored)
    except (ValueError, EOFError) as error:  # its end is missing, say
        log.warning("%s is damaged (%s) and made again", stored, error)
        return None
    return (images, unread) if len(images) == count - len(unread) else None


def read_rgb(path: Path) -> UInt8:
    """One picture as RGB uint8 [h, w, 3], turned upright by its EXIF tag.

    Raises:
        InputError: when the file is missing or not a picture.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # a damaged header may claim more pixels than OpenCV allows
        decoded = None
    if decoded is None:
        raise InputError(f"cannot decode {path}; replace or remove the file")
    # Not IMREAD_COLOR_RGB, which came with OpenCV 4.11.
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _digest(records: Sequence[Record], spec: InputSpec) -> str:
    digest = hashlib.sha256(spec.sha256().encode())
    for record in records:
        try:
            status = record.path.stat()
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:
            state = "missing"  # and unreadable later on, unless it comes back
        digest.update(os.fsencode(record.path) + f"\0{state}\n".encode())
    return digest.hexdigest()[:16]
