"""A long rendering that was stopped goes on where it was: what is done, in an append-only file.

Stopped by whatever ends a process, kill -9 too. The pictures are not forced to the disk one by one
(fsync would take longer than drawing them), so that a set does not outlive a power cut for sure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.synth.folder import make_new_folder

UNFINISHED = "unfinished.jsonl"


class Unfinished:
    """The persons or parts that are done and their labels; the file begins with the order."""

    def __init__(self, file: TextIO, done: dict[int, dict[str, Any]]) -> None:
        self.done = done
        self._file = file

    def add(self, number: int, labels: Mapping[str, Any]) -> None:
        """Note that the pictures of a person or a part are on disk."""
        self._file.write(json.dumps({"number": number, "labels": labels}) + "\n")
        self._file.flush()
        self.done[number] = dict(labels)


@contextmanager
def unfinished(folder: Path, order: Mapping[str, Any]) -> Iterator[Unfinished]:
    """Begin a set in a new folder, or go on with one that was begun by the same order.

    The file is removed when the block ends without an error: the set is then complete.

    Args:
        folder: of the set.
        order: JSON-able; everything that decides what the set holds.

    Raises:
        InputError: the folder holds something else, or a set begun by another order.
    """
    path = folder / UNFINISHED
    done: dict[int, dict[str, Any]] = {}
    if path.is_file():
        done = _read(path, order)
    else:
        make_new_folder(folder)
    lines = [order, *({"number": n, "labels": labels} for n, labels in done.items())]
    files.write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    with path.open("a") as file:
        yield Unfinished(file, done)
    path.unlink()


def _read(path: Path, order: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    lines = path.read_text().splitlines()
    begun = _parsed(lines[0]) if lines else None
    if begun != json.loads(json.dumps(order)):
        raise InputError(
            f"{path.parent} was begun with {begun} and is asked for with {dict(order)}: "
            "name another folder, or remove this one"
        )
    rows = [_parsed(line) for line in lines[1:]]
    # The last line may be half of one: that one is rendered again.
    return {int(row["number"]): row["labels"] for row in rows if row is not None}


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
