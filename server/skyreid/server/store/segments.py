"""Segments of the gallery: vectors of one model and one view, float16, in a file that is mapped.

A file is written whole (fsync, then rename) and never changed: its columns one after the other, the
vectors, and a CRC-32 of all of it last. What is looked for is multiplied without a copy in float32
beside it: a float16 shifted by 13 bits is that number times 2^-112 in float32.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract import files
from skyreid.contract.errors import InputError, reason
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View

SEGMENT_ROWS = 16384
MAGIC = b"skyreid segment 1\n"
_COLUMNS: dict[str, Any] = {
    "hash": np.uint64,
    "seen_ns": np.int64,
    "track": np.int64,
    "revision": np.int64,
    "name": np.uint32,
}
_BLOCK = 512
_ALIGN = 64
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(eq=False)
class Segment:
    """Up to ``SEGMENT_ROWS`` vectors. Its rows are ``[:rows]`` of every array."""

    model_key: str
    view: View
    columns: dict[str, NDArray[Any]]
    """By name, [N]: hash of the key, capture time, track, revision, number in ``names``."""
    vectors: NDArray[np.float16]
    """[N, D]."""
    alive: Bool
    """[N] False: a later revision lies elsewhere, or it was dropped."""
    names: list[tuple[str, str, str]] = field(default_factory=list)
    """Device, boot and camera of tracklets."""
    rows: int = 0
    first_ns: int = 0
    """When the first of them came to the server."""
    last_ns: int = 0
    path: Path | None = None
    """Of its file, once there is one."""
    dirty: bool = True
    """Whether it has more than its file."""
    sealed: bool = False
    """Whether nothing is added any more."""
    _numbers: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @classmethod
    def empty(cls, model_key: str, dim: int, view: View) -> Segment:
        """One that is filled, in memory."""
        columns = {name: np.zeros(256, kind) for name, kind in _COLUMNS.items()}
        return cls(model_key, view, columns, np.zeros((256, dim), np.float16), np.zeros(256, bool))

    @property
    def dim(self) -> int:
        """Width of its vectors."""
        return int(self.vectors.shape[1])

    def add(
        self, key: TrackKey, number: int, revision: int, seen_ns: int, vector: Float32, at_ns: int
    ) -> int:
        """Add a row: ``number`` is the hash of its key, ``at_ns`` when it came. Returns which."""
        row = self.rows
        if row == len(self.alive):
            self._grow()
        name = key.device, key.boot, key.camera
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        c = self.columns
        c["hash"][row], c["track"][row], c["name"][row] = number, key.track, self._numbers[name]
        self.alive[row], self.rows = True, row + 1
        self.first_ns = min(self.first_ns or at_ns, at_ns)
        self.put(row, revision, seen_ns, vector, at_ns)
        return row

    def put(self, row: int, revision: int, seen_ns: int, vector: Float32, at_ns: int) -> None:
        """The next revision of a row that is in memory."""
        self.columns["revision"][row], self.columns["seen_ns"][row] = revision, seen_ns
        self.vectors[row] = vector
        self.last_ns, self.dirty = max(self.last_ns, at_ns), True

    def key(self, row: int) -> TrackKey:
        """Which tracklet a row is of."""
        names = self.names[int(self.columns["name"][row])]
        return TrackKey(*names, int(self.columns["track"][row]))

    def products(self, query: Float32) -> Float32:
        """[rows] dot products with a vector, as of a float32 copy of all of them."""
        bits = self.vectors[: self.rows].view(np.int16)
        out = np.empty(self.rows, np.float32)
        scaled = query * np.float32(2.0**112)
        wide = np.empty((_BLOCK, self.dim), np.uint32)
        for start in range(0, self.rows, _BLOCK):
            block = bits[start : start + _BLOCK]
            room = wide[: len(block)]
            np.copyto(room, block, casting="unsafe")  # the sign spreads to the left
            np.left_shift(room, 13, out=room)
            np.bitwise_and(room, 0x8FFFFFFF, out=room)
            np.dot(room.view(np.float32), scaled, out=out[start : start + len(block)])
        return out

    def without(self, gone: Bool) -> Segment:
        """A segment in memory with its rows that live, but for those in ``gone`` [rows]."""
        kept = np.flatnonzero(self.alive[: self.rows] & ~gone)
        new = Segment(
            self.model_key,
            self.view,
            {name: column[kept].copy() for name, column in self.columns.items()},
            np.array(self.vectors[kept]),
            np.ones(len(kept), np.bool_),
            self.names,
            len(kept),
            *(self.first_ns, self.last_ns, self.path, True, self.sealed, self._numbers),
        )
        return new

    def _grow(self) -> None:
        more = max(256, len(self.alive))
        for name, column in self.columns.items():
            self.columns[name] = np.concatenate([column, np.zeros(more, column.dtype)])
        self.vectors = np.concatenate([self.vectors, np.zeros((more, self.dim), np.float16)])
        self.alive = np.concatenate([self.alive, np.zeros(more, np.bool_)])


def write(segment: Segment, path: Path) -> None:
    """Write the rows that live to a file, down to the disk.

    Raises:
        InputError: it cannot be written; what was there is there still.
    """
    live = np.flatnonzero(segment.alive[: segment.rows])
    head = {
        "model_key": segment.model_key,
        "dim": segment.dim,
        "view": int(segment.view),
        "rows": len(live),
        "names": segment.names,
        "first_ns": segment.first_ns,
        "last_ns": segment.last_ns,
        "sealed": segment.sealed,
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    parts = [MAGIC, struct.pack("<I", len(text)), text]
    parts.append(b"\0" * (-sum(map(len, parts)) % _ALIGN))
    for name in _COLUMNS:
        parts += _padded(segment.columns[name][live].tobytes())
    parts += _padded(np.ascontiguousarray(segment.vectors[live]).tobytes())
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    with files.replacing(path) as partial, open(partial, "wb") as file:
        file.writelines(parts)
        file.write(struct.pack("<I", crc))


def read(path: Path) -> Segment:
    """Map a segment's file; its rows are all alive.

    Raises:
        InputError: it is not there, or not as it was written.
    """
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = memoryview(data)
        (crc,) = struct.unpack("<I", whole[-4:])
        if zlib.crc32(whole[:-4]) != crc or whole[: len(MAGIC)] != MAGIC:
            raise ValueError("it is not as it was written")
        (length,) = struct.unpack_from("<I", whole, len(MAGIC))
        start = len(MAGIC) + 4
        head = json.loads(bytes(whole[start : start + length]))
        at, rows, dim = _aligned(start + length), int(head["rows"]), int(head["dim"])
        columns = {}
        for name, kind in _COLUMNS.items():
            columns[name] = np.frombuffer(data, kind, rows, at)
            at = _aligned(at + columns[name].nbytes)
        vectors = np.frombuffer(data, np.float16, rows * dim, at).reshape(rows, dim)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise InputError(f"segment {path} cannot be used: {reason(error, path)}") from error
    return Segment(
        head["model_key"],
        View(head["view"]),
        columns,
        vectors,
        np.ones(rows, np.bool_),
        [(device, boot, camera) for device, boot, camera in head["names"]],
        rows,
        *(int(head["first_ns"]), int(head["last_ns"]), path, False, bool(head["sealed"])),
    )


def _padded(data: bytes) -> Sequence[bytes]:
    return data, b"\0" * (-len(data) % _ALIGN)


def _aligned(at: int) -> int:
    return at + -at % _ALIGN
