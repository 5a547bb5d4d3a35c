"""Rows out of a damaged SQLite file, without its trees: every page is looked at for itself.

A tree that is broken near its root hides rows that are whole. So each page is read as a leaf of a
table (https://www.sqlite.org/fileformat2.html, 1.6 and 2), whatever the tree says of it, in the
file and in its ``-wal``; where a page's own directory is broken, every place of it is tried. What
is found is a guess until its checksum says otherwise: whoever asks must check.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

_LEAF = 0x0D
_SIZES = {1 << n for n in range(9, 17)}
_PAGE_BYTES = 4096
"""What SQLite makes them, where the file's head does not say."""
_ROW_MAX_BYTES = 1 << 24

Row = tuple[int, tuple[Any, ...]]
"""rowid, and the values of its columns."""


class _Broken(Exception):
    """This is no row."""


def rows(path: Path) -> Iterator[Row]:
    """Whatever reads as a row of a table, stale copies and rows of any table among them."""
    wal = path.with_name(f"{path.name}-wal")
    with _Pages(path) as main:
        for number in range(1, main.count + 1):
            yield from _of_page(main, number)
    if wal.is_file() and wal.stat().st_size > 32:
        with _Pages(path, wal) as both:
            for number in both.newer:
                yield from _of_page(both, number)


class _Pages:
    """Pages by number; those of a ``-wal`` cover those of the file."""

    def __init__(self, path: Path, wal: Path | None = None) -> None:
        self._files = [open(path, "rb")]
        self._maps = [_map(self._files[0])]
        self.newer: dict[int, int] = {}
        main = self._maps[0]
        (size,) = struct.unpack(">H", main[16:18]) if len(main) >= 18 else (0,)
        size = 65536 if size == 1 else size
        self.size = size if size in _SIZES else _PAGE_BYTES
        self.count = len(main) // self.size
        if wal is not None:
            self._files.append(open(wal, "rb"))
            self._maps.append(_map(self._files[1]))
            frame = 24 + self.size
            for start in range(32, len(self._maps[1]) - frame + 1, frame):
                (number,) = struct.unpack(">I", self._maps[1][start : start + 4])
                self.newer[number] = start + 24

    def page(self, number: int) -> bytes:
        if number in self.newer:
            start = self.newer[number]
            return bytes(self._maps[1][start : start + self.size])
        start = (number - 1) * self.size
        if not 1 <= number <= self.count:
            raise _Broken
        return bytes(self._maps[0][start : start + self.size])

    def __enter__(self) -> _Pages:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._maps, *self._files):
            if not isinstance(each, bytes):
                each.close()


def _map(file: Any) -> Any:
    try:
        return mmap(file.fileno(), 0, access=ACCESS_READ)
    except ValueError:  # empty
        return b""


def _of_page(pages: _Pages, number: int) -> Iterator[Row]:
    page = pages.page(number)
    head = 100 if number == 1 else 0
    (cells,) = struct.unpack(">H", page[head + 3 : head + 5])
    found: list[Row] = []
    whole = page[head] == _LEAF and cells <= pages.size // 4
    if whole:
        for cell in range(cells):
            (start,) = struct.unpack_from(">H", page, head + 8 + 2 * cell)
            try:
                found.append(_row(pages, page, start))
            except (_Broken, IndexError, struct.error, UnicodeDecodeError):
                whole = False
    if whole:
        yield from found
        return
    for start in range(head + 8, pages.size - 4):
        try:
            yield _row(pages, page, start)
        except (_Broken, IndexError, struct.error, UnicodeDecodeError):
            continue


def _row(pages: _Pages, page: bytes, start: int) -> Row:
    length, at = _varint(page, start)
    rowid, at = _varint(page, at)
    if not 2 <= length <= _ROW_MAX_BYTES:
        raise _Broken
    most = pages.size - 35
    if length <= most:
        local = length
    else:
        least = (pages.size - 12) * 32 // 255 - 23
        local = least + (length - least) % (pages.size - 4)
        local = local if local <= most else least
    if at + local > len(page):
        raise _Broken
    if length == local:
        return rowid, _values(page[at : at + local])
    _serials(page[at : at + local])  # before its other pages are followed
    body = bytearray(page[at : at + local])
    (number,) = struct.unpack_from(">I", page, at + local)
    while len(body) < length:
        rest = pages.page(number)
        (number,) = struct.unpack_from(">I", rest)
        body += rest[4 : 4 + length - len(body)]
    return rowid, _values(bytes(body))


def _serials(record: bytes) -> tuple[list[int], int]:
    end, at = _varint(record, 0)
    if not 2 <= end <= 40 or end > len(record):  # none of our tables has a longer head
        raise _Broken
    serials = []
    while at < end:
        serial, at = _varint(record, at)
        serials.append(serial)
    if at != end:
        raise _Broken
    return serials, at


def _values(record: bytes) -> tuple[Any, ...]:
    serials, at = _serials(record)
    values: list[Any] = []
    for serial in serials:
        if serial == 0:
            values.append(None)
        elif serial <= 6:
            width = (1, 2, 3, 4, 6, 8)[serial - 1]
            values.append(int.from_bytes(record[at : at + width], "big", signed=True))
            at += width
        elif serial == 7:
            values.append(struct.unpack_from(">d", record, at)[0])
            at += 8
        elif serial in (8, 9):
            values.append(serial - 8)
        elif serial >= 12:
            width = (serial - 12) // 2
            part = record[at : at + width]
            values.append(part.decode() if serial % 2 else part)
            at += width
        else:
            raise _Broken
        if at > len(record):
            raise _Broken
    if at != len(record):
        raise _Broken
    return tuple(values)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(8):
        byte = data[at + position]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + position + 1
    return value << 8 | data[at + 8], at + 9
