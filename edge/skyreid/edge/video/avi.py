"""Whether an AVI file's index is that of its pictures: GStreamer believes it and never looks.

A picture that the index leaves out is not read, one that it has twice is, and where it leaves out
the empty chunks that stand for dropped frames all that follows is early. Without an index GStreamer
reads the chunks themselves, so a wrong one is hidden from it. RIFF as in Microsoft's "AVI RIFF File
Reference": ``movi`` holds the chunks (in ``rec`` lists, too), ``idx1`` says where each begins, from
``movi`` or from the file's start on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_ENTRY = struct.Struct("<4sIII")
_PICTURES = (b"dc", b"db")
_CHUNKS_MAX = 5_000_000
"""A day of 50 frames a second; what has more is believed."""


def wrong_index(path: Path) -> int | None:
    """Where the index stands that is not that of the pictures; None: it is, or is none."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"AVI ":
                return None
            return _compared(stream, os.fstat(stream.fileno()).st_size)
    except (OSError, struct.error):
        return None


def _compared(stream: BinaryIO, size: int) -> int | None:
    movi: tuple[int, int] | None = None
    for name, start, end in _chunks(stream, 12, size):
        if name == b"LIST" and _read(stream, start, 4) == b"movi":
            movi = start, end
        elif name == b"idx1" and movi is not None:
            there = _pictures(stream, *movi)
            said = _said(_read(stream, start, end - start))
            for base in (movi[0], 0):
                if there is None or [base + at for at in said] == there:
                    return None
            return start - 8
    return None


def _said(index: bytes) -> list[int]:
    """Where pictures begin by the index, in its order."""
    whole = len(index) // _ENTRY.size * _ENTRY.size
    entries = _ENTRY.iter_unpack(index[:whole])
    return [offset for name, _, offset, _ in entries if name[2:] in _PICTURES]


def _pictures(stream: BinaryIO, movi: int, end: int) -> list[int] | None:
    """Where they do; None where there are more than anybody films."""
    found = []
    for name, start, stop in _chunks(stream, movi + 4, end):
        if name == b"LIST" and _read(stream, start, 4) == b"rec ":
            inner = _chunks(stream, start + 4, stop)
            found += [at - 8 for kind, at, _ in inner if kind[2:] in _PICTURES]
        elif name[2:] in _PICTURES:
            found.append(start - 8)
        if len(found) > _CHUNKS_MAX:
            return None
    return found


def _chunks(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, and where what is in it begins and ends."""
    while start + 8 <= end:
        name, size = struct.unpack("<4sI", _read(stream, start, 8))
        yield name, start + 8, min(start + 8 + size, end)
        start += 8 + size + size % 2


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size)
