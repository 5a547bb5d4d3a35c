"""Every picture of a data set, resized once by the contract's reference.

Decoding and resizing cost more than a training step of a small model, so they happen once; the
augmentation works on the resized pictures. With a cache they lie in one file that every process
maps: however many read it, main memory holds it once, and less of it where it does not fit.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
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
    """Pictures.

    Attributes:
        images: RGB uint8 [K, height, width, 3]; with a cache its file, mapped, and what is written
            to them is this process's alone.
        records: whose pictures they are, in the same order.
        kept: int64 [K], ascending: places of `records` among those that were asked for.
        unreadable: files that cannot be decoded.
        stored: the .npy file with `images`, where there is a cache.
    """

    images: UInt8
    records: tuple[Record, ...]
    kept: Ints
    unreadable: tuple[Path, ...]
    stored: Path | None = None

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
    stored = None if cache is None else cache / f"{_digest(records, spec)}.npy"
    images, unread = _read(records, spec) if stored is None else _once(stored, records, spec)
    kept = np.delete(np.arange(len(records)), unread)
    unreadable = tuple(records[index].path for index in unread)
    folders = {record.path.parent.absolute() for record in records}
    check_refused(
        f"what was read below {os.path.commonpath(folders)}",
        len(kept),
        merged([refused or {}, {UNREADABLE: unreadable}]),
    )
    left = tuple(records[index] for index in kept.tolist())
    return Loaded(images, left, kept, unreadable, stored)


def _read(records: Sequence[Record], spec: InputSpec) -> tuple[UInt8, tuple[int, ...]]:
    """The pictures that can be read, uint8 [K, height, width, 3], and the indices of the others."""
    images = np.empty((len(records), spec.height, spec.width, 3), np.uint8)

    def put(place: int, image: UInt8) -> None:
        images[place] = image

    unread = _each(records, spec, put)
    return images[: len(records) - len(unread)], unread


def _each(
    records: Sequence[Record], spec: InputSpec, put: Callable[[int, UInt8], None]
) -> tuple[int, ...]:
    """Give `put` every picture that can be read, with its place; returns which cannot."""
    unread: list[int] = []
    for index, record in enumerate(tqdm(records, desc="reading pictures", unit="picture")):
        try:
            image = fit(read_rgb(record.path), spec)
        except InputError:
            unread.append(index)  # its name and number are in `Loaded`, or in the error of `load`
            continue
        put(index - len(unread), image)
    return tuple(unread)


def _once(
    stored: Path, records: Sequence[Record], spec: InputSpec
) -> tuple[UInt8, tuple[int, ...]]:
    """What `_read` gives, kept at `stored` and mapped."""
    if (found := _kept(stored, records, spec)) is not None:
        return found
    with files.FileLock(
        stored.with_suffix(".lock"),
        of=f"cache {stored}",
        waiting=lambda who: log.info("%s reads the same pictures: wait for it", who),
    ):
        if (found := _kept(stored, records, spec)) is None:  # unless that one is done
            _store(stored, records, spec)
            found = _kept(stored, records, spec)
    if found is None:
        raise InputError(f"cache {stored} changed as soon as it was written; give another --cache")
    return found


def _store(stored: Path, records: Sequence[Record], spec: InputSpec) -> None:
    """Write the pictures to `stored` as they are read, and beside it which cannot be.

    Raises:
        InputError: they do not fit on the disk, or cannot be written: nothing is left then.
    """
    size = (spec.height, spec.width, 3)
    needed, free = len(records) * int(np.prod(size)), shutil.disk_usage(stored.parent).free
    if needed > free:  # before minutes are spent on it
        raise InputError(
            f"cache {stored}: {len(records)} pictures take {needed / 1e6:,.2f} MB, and "
            f"{free / 1e6:,.2f} MB are free; give --cache a folder on another disk"
        )
    listed = stored.with_suffix(".unread")
    with files.replacing(stored) as partial, partial.open("wb") as file:
        # Not through a map of it: on a full disk that kills, and a write says so.
        file.write(_npy_header((len(records), *size)))

        def put(_: int, image: UInt8) -> None:
            file.write(image.tobytes())

        unread = _each(records, spec, put)
        file.seek(0)
        file.write(_npy_header((len(records) - len(unread), *size)))
        # Before the array has its name: it never lies there without its list.
        if unread:
            files.write(listed, "\n".join(map(str, unread)).encode())
        else:
            listed.unlink(missing_ok=True)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Of uint8 in NumPy's format 1.0, as long for any shape: it is written anew at the end."""
    told = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + f"{told:<117}\n".encode()


def _kept(
    stored: Path, records: Sequence[Record], spec: InputSpec
) -> tuple[UInt8, tuple[int, ...]] | None:
    """The array at `stored` and which of the pictures it lacks, unless it has to be made."""
    if not stored.exists():
        return None
    beside = stored.with_suffix(".unread")
    try:
        unread = tuple(map(int, beside.read_text().split())) if beside.exists() else ()
        images: UInt8 = np.load(stored, mmap_mode="c")
    except (ValueError, EOFError) as error:  # its end is missing, say
        log.warning("%s is damaged (%s) and made again", stored, error)
        return None
    whole = (len(records) - len(unread), spec.height, spec.width, 3)
    return (images, unread) if images.shape == whole and images.dtype == np.uint8 else None


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
