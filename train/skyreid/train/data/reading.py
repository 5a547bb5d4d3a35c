"""What the readers share: going through the files of a split and keeping the books of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.train.data.picture_files import is_picture, looks_like_picture, walk
from skyreid.train.data.records import Reading, Record, check_refused

Parse = Callable[[Path], Record | str]
"""A picture's path to its record, or to the reason why it cannot be used."""

JUNK = "junk"
"""The reason of pictures that a data set marks with person -1."""

UNREAD = "ending"
"""The reason of files that look like pictures, but have a name of another ending."""


class Sift:
    """One split on its way from files to records; every file ends in one of three heaps.

    Args:
        split: folder or list that the split is read from.
        example: name of a picture as it should be, for messages.
    """

    def __init__(self, split: Path, example: str) -> None:
        self.split = split
        self._example = example
        self.records: list[Record] = []
        self._refused: dict[str, list[Path]] = {}
        self._left_out: dict[str, list[Path]] = {}

    def add(self, path: Path, parsed: Record | str, *, skip_junk: bool = False) -> None:
        """Put a picture on its heap.

        Args:
            path: of the picture.
            parsed: its record, or the reason to refuse it.
            skip_junk: leave person -1 out.
        """
        if isinstance(parsed, str):
            self.refuse(parsed, path)
        elif skip_junk and parsed.person == "-1":
            self.leave_out(JUNK, path)
        else:
            self.records.append(parsed)

    def refuse(self, reason: str, path: Path) -> None:
        """Count a picture that should be usable and is not."""
        self._refused.setdefault(reason, []).append(path)

    def leave_out(self, reason: str, path: Path) -> None:
        """Count a file that the data set itself takes no part of."""
        self._left_out.setdefault(reason, []).append(path)

    def pictures(self, depth: int) -> Iterator[Path]:
        """The pictures of the split's folder, in the order of names; see `picture_files`.

        Args:
            depth: 1 for files in the folder itself, 2 for its sub-folders; a picture that lies
                elsewhere is refused under `depth`.

        Raises:
            InputError: when the folder is missing.
        """
        if not self.split.is_dir():
            raise InputError(f"no folder {self.split}, where {self._example} and alike should lie")
        for path in walk(self.split):
            if self.passes(path):
                if len(path.relative_to(self.split).parts) == depth:
                    yield path
                else:
                    self.refuse("depth", path)

    def passes(self, path: Path) -> bool:
        """Whether a file is a picture; others are put on their heaps."""
        if is_picture(path):
            return True
        if looks_like_picture(path):
            self.refuse(UNREAD, path)
        else:
            self.leave_out("no picture", path)
        return False

    def reading(self) -> Reading:
        """All of it.

        Raises:
            InputError: when nothing is usable, or more than 1 % is refused.
        """
        refused = {reason: tuple(paths) for reason, paths in self._refused.items()}
        if not self.records and not refused:
            raise InputError(f"{self.split} holds no picture named {self._example} or alike")
        check_refused(str(self.split), len(self.records), refused)
        return Reading(
            tuple(self.records),
            refused,
            {reason: tuple(paths) for reason, paths in self._left_out.items()},
        )


def read_folder(
    folder: Path, depth: int, parse: Parse, example: str, *, skip_junk: bool = False
) -> Reading:
    """The pictures of a folder, ordered by path, see `Sift.pictures`.

    Raises:
        InputError: as `Sift.pictures` and `Sift.reading`.
    """
    found = Sift(folder, example)
    for path in found.pictures(depth):
        found.add(path, parse(path), skip_junk=skip_junk)
    return found.reading()


def holds(folder: Path, pattern: str) -> bool:
    """Whether anything in `folder` matches a glob pattern."""
    return any(True for _ in folder.glob(pattern))
