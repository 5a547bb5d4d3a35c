"""What an MP4 or QuickTime file says of its video tracks that GStreamer 1.22 does not pass on.

ISO/IEC 14496-12, boxes mvhd (8.2.2), tkhd (8.3.2) and hdlr (8.4.3); mirrored pictures are in the
matrix of tkhd, and a track that lasts less than a fifth of the film is hidden by qtdemux.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

HIDDEN_SHARE = 0.2
"""qtdemux takes a shorter track for a preview and passes it over."""

_DIRECTIONS = {
    (1, 0, 0, 1): "identity",
    (0, 1, -1, 0): "90r",
    (-1, 0, 0, -1): "180",
    (0, -1, 1, 0): "90l",
    (-1, 0, 0, 1): "horiz",
    (1, 0, 0, -1): "vert",
    (0, 1, 1, 0): "ul-lr",
    (0, -1, -1, 0): "ur-ll",
}
"""From the matrix of tkhd (a, b, c, d) to GStreamer's word for a video direction."""


@dataclass(frozen=True)
class Track:
    """A video track."""

    number: int
    """As the file numbers its tracks of all kinds."""
    direction: str | None
    """How its pictures are to be turned, GStreamer's word; None: by no multiple of 90 degrees."""
    share: float
    """Of the film's length; 1 where the file does not say."""


@dataclass(frozen=True)
class Film:
    """The video tracks, and where in the file the film's length stands: offset and bytes."""

    tracks: tuple[Track, ...]
    length_at: tuple[int, int]


class _Box(NamedTuple):
    kind: bytes
    start: int
    """Of what is in it."""
    end: int


def read_film(path: Path) -> Film | None:
    """The film of an MP4 or QuickTime file; None where it is another, or damaged."""
    try:
        with open(path, "rb") as stream:
            size = path.stat().st_size
            kinds = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
            for box in _boxes(stream, 0, size):
                if box.kind == b"moov":
                    return _film(stream, box)
                if box.start <= 16 and box.kind not in kinds:
                    return None
    except (OSError, struct.error, ValueError):
        return None
    return None


def _film(stream: BinaryIO, moov: _Box) -> Film | None:
    tracks, length, length_at = [], 0, (0, 0)
    for box in _boxes(stream, moov.start, moov.end):
        if box.kind == b"mvhd":
            length, length_at = _length(stream, box.start, skip=12)
        elif box.kind == b"trak":
            track = _track(stream, box)
            if track is not None:
                tracks.append(track)
    if not tracks or not length_at[1]:
        return None
    return Film(
        tuple(
            Track(number, direction, own / length if length and own else 1.0)
            for number, direction, own in tracks
        ),
        length_at,
    )


def _track(stream: BinaryIO, trak: _Box) -> tuple[int, str | None, int] | None:
    """Number, direction and length of a track; None where it is no video."""
    number, length, matrix, video = 0, 0, (1, 0, 0, 1), False
    for box in _boxes(stream, trak.start, trak.end):
        if box.kind == b"tkhd":
            length, (at, size) = _length(stream, box.start, skip=16)
            number = int.from_bytes(_read(stream, at - 8, 4), "big")
            a, b, _, c, d = struct.unpack(">5i", _read(stream, at + size + 16, 20))
            matrix = tuple(value / 65536 for value in (a, b, c, d))
        elif box.kind == b"mdia":
            for inner in _boxes(stream, box.start, box.end):
                if inner.kind == b"hdlr":
                    video = _read(stream, inner.start + 8, 4) == b"vide"
    if not video:
        return None
    return number, "identity" if not any(matrix) else _DIRECTIONS.get(matrix), length


def _length(stream: BinaryIO, start: int, *, skip: int) -> tuple[int, tuple[int, int]]:
    """The length in a header whose times are of 4 or, in version 1, of 8 bytes, and its place.

    Args:
        stream: the file.
        start: of the header's version.
        skip: bytes between version and length where the times are of 4 bytes.
    """
    wide = _read(stream, start, 1) == b"\1"
    at, size = start + 4 + skip + (8 if wide else 0), 8 if wide else 4
    return int.from_bytes(_read(stream, at, size), "big"), (at, size)


def _boxes(stream: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", _read(stream, start, 8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", _read(stream, start + 8, 8)), 16
        elif size == 0:
            size = end - start
        if size < head:
            raise ValueError("a box that is smaller than its head")
        yield _Box(kind, start + head, min(start + size, end))
        start += size


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("the file ends")
    return data
