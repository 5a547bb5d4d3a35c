"""Which files are pictures: one rule for every folder that pictures are read from.

A picture is a file whose name ends in one of `SUFFIXES`, in letters of any case. What is hidden
(`.DS_Store`, a Mac's `._x.jpg` twin of `x.jpg`) is none and counts nowhere. A file that looks like
a picture by another ending of its name or by its first bytes, and is not read, is for the reader to
refuse: it must not get lost in silence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from skyreid.contract.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

_OTHERS = (  # pictures that are not read, and what downloads and editors leave of those that are
    (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".ppm", ".tif", ".tiff")
)
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"BM")
_MAC_TWINS = "__MACOSX"


def is_picture(path: Path) -> bool:
    """Whether a file of this name is read as a picture."""
    return path.suffix.lower() in SUFFIXES and not is_hidden(path.name)


def is_hidden(name: str) -> bool:
    """Whether the file or folder of this name is the system's and nobody's picture."""
    return name.startswith(".") or name == _MAC_TWINS


def looks_like_picture(path: Path) -> bool:
    """Whether a file that is not read as a picture may well be one: by its name, or its content."""
    name = path.name.lower()
    if name.endswith(_OTHERS) or any(f"{suffix}." in name for suffix in SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(_BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def spelled_otherwise(path: Path) -> Path | None:
    """The picture beside `path` whose name differs in the case or kind of its ending alone."""
    for suffix in SUFFIXES:
        for spelling in (suffix, suffix.upper()):
            other = path.with_suffix(spelling)
            if other.is_file():
                return other
    return None


def walk(folder: Path) -> Iterator[Path]:
    """All files below `folder` that are not hidden, in the order of their paths.

    Links are followed, because large data sets are linked to; one to a folder that it lies in is
    not.

    Raises:
        InputError: when a folder cannot be read.
    """
    yield from sorted(_walk(folder, frozenset()))


def pictures(folder: Path) -> list[Path]:
    """The pictures among them.

    Raises:
        InputError: as `walk`.
    """
    return [path for path in walk(folder) if is_picture(path)]


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    itself = status.st_dev, status.st_ino
    if itself in above:
        return
    for name, is_folder in listed:
        if is_hidden(name):
            continue
        if is_folder:
            yield from _walk(folder / name, above | {itself})
        else:
            yield folder / name
