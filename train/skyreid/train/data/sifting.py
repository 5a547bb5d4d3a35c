"""What the readers share: going through the files of a split and keeping the books of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.train.data.records import Reading, Record, check_refused


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

    def refuse(self, reason: str, path: Path) -> None:
        """Count a picture that should be usable and is not."""
        self._refused.setdefault(reason, []).append(path)

    def leave_out(self, reason: str, path: Path) -> None:
        """Count a file that the data set itself takes no part of."""
        self._left_out.setdefault(reason, []).append(path)

    def pictures(self, pattern: str) -> Iterator[Path]:
        """The .jpg files of the split's folder that match a glob pattern, in the order of names.

        Raises:
            InputError: when the folder is missing.
        """
        if not self.split.is_dir():
            raise InputError(f"no folder {self.split}, where {self._example} and alike should lie")
        for path in sorted(p for p in self.split.glob(pattern) if p.is_file()):
            if path.suffix == ".jpg":
                yield path
            else:
                self.leave_out("not .jpg", path)

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


def holds(folder: Path, pattern: str) -> bool:
    """Whether anything in `folder` matches a glob pattern."""
    return any(True for _ in folder.glob(pattern))
