"""Protocols that come as text files: one picture a line, its path relative to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from skyreid.contract.errors import InputError, reason
from skyreid.train.data.picture_files import spelled_otherwise
from skyreid.train.data.reading import Parse, Sift
from skyreid.train.data.records import ByReason, Record, merged
from skyreid.train.data.trials import Ints, TestSet, Trial


@dataclass(frozen=True)
class Protocol:
    """A trial whose pictures are listed in a file.

    Attributes:
        trial: its name.
        file: name of the list.
        optional: whether an archive may well come without it.
    """

    trial: str
    file: str
    optional: bool = False


def test_set(
    lists: Path,
    pictures: Path,
    protocols: Sequence[Protocol],
    parse: Parse,
    asks: Callable[[str], bool],
    example: str,
) -> TestSet:
    """All protocols whose lists are there, over one set of pictures.

    Args:
        lists: folder of the lists.
        pictures: what the paths in them are relative to.
        protocols: to look for.
        parse: a picture's path to its record.
        asks: whether the first part of a line's path makes the picture a query.
        example: a line, for messages.

    Raises:
        InputError: when there is no list, or when one cannot be read, has no usable query or no
            usable gallery, or names more than 1 % of pictures that cannot be used.
    """
    places: dict[Path, int] = {}
    records: list[Record] = []
    trials: list[Trial] = []
    refused: list[ByReason] = []
    left_out: list[ByReason] = []
    for protocol in protocols:
        file = lists / protocol.file
        if not file.is_file():
            left_out += [] if protocol.optional else [{"missing list": (file,)}]
            continue
        found = Sift(file, example)
        for relative, _ in lines(found):
            _add(found, pictures, relative, parse)
        reading = found.reading()
        for record in reading.records:
            if record.path not in places:
                places[record.path] = len(records)
                records.append(record)
        query = [r for r in reading.records if asks(r.path.relative_to(pictures).parts[0])]
        asking = {r.path for r in query}
        gallery = [r for r in reading.records if r.path not in asking]
        for role, some in (("query", query), ("gallery", gallery)):
            if not some:
                raise InputError(f"{file} names no {role} picture that can be used")
        trials.append(
            Trial(protocol.trial, _indices(query, places), _indices(gallery, places), False)
        )
        refused.append(reading.refused)
        left_out.append(reading.left_out)
    if not trials:
        wanted = ", ".join(protocol.file for protocol in protocols)
        raise InputError(f"no list of a protocol in {lists}; looked for {wanted}")
    return TestSet(tuple(records), tuple(trials), merged(refused), merged(left_out))


def lines(found: Sift, fields: int = 1) -> Iterator[tuple[PurePosixPath, tuple[str, ...]]]:
    """Path and further fields of every line of the list `found.split`, every path once.

    Blank lines are passed over; backslashes, which one rebuilding script writes on Windows, are
    slashes. A line of another number of fields, or with a path that leads out of the folder, is
    refused under `line`; a repeated path is left out under `listed twice`.

    Raises:
        InputError: when the file cannot be read as text.
    """
    try:
        text = found.split.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {found.split}: {reason(error, found.split)}") from error
    seen: set[PurePosixPath] = set()
    for line in text.splitlines():
        parts = line.split() if fields > 1 else [line.strip()]
        if parts in ([], [""]):
            continue
        path = PurePosixPath(parts[0].replace("\\", "/"))
        if len(parts) != fields or path.is_absolute() or ".." in path.parts:
            found.refuse("line", Path(line))
        elif path in seen:
            found.leave_out("listed twice", Path(path))
        else:
            seen.add(path)
            yield path, tuple(parts[1:])


def _add(found: Sift, pictures: Path, relative: PurePosixPath, parse: Parse) -> None:
    path = on_disk(pictures / relative)
    parsed = parse(path)
    found.add(path, "missing file" if isinstance(parsed, Record) and not path.is_file() else parsed)


def on_disk(path: Path) -> Path:
    """The picture that a list means: `x.JPG` or `x.png` where there is no `x.jpg`."""
    return path if path.is_file() else spelled_otherwise(path) or path


def _indices(records: Sequence[Record], places: dict[Path, int]) -> Ints:
    return np.asarray([places[record.path] for record in records], np.int64)
