"""Every data set that can be trained or tested on, recognised by its folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from skyreid.contract.errors import InputError
from skyreid.train.data import cargo
from skyreid.train.data.records import Reading
from skyreid.train.data.trials import TestSet, Trial

__all__ = ["NAMES", "DataSet", "TestSet", "Trial", "open"]


class Reader(Protocol):
    """What a module that reads one layout offers."""

    @property
    def NAME(self) -> str: ...
    @property
    def LOOKS_LIKE(self) -> str: ...

    def find(self, root: Path) -> Path | None: ...
    def train(self, root: Path) -> Reading: ...
    def test(self, root: Path) -> TestSet: ...


READERS: tuple[Reader, ...] = (cargo,)
NAMES = tuple(reader.NAME for reader in READERS)


@dataclass(frozen=True)
class DataSet:
    """A data set found on disk.

    Attributes:
        name: one of NAMES.
        root: the folder with its splits, which may lie below the one that was given.
    """

    name: str
    root: Path
    _reader: Reader

    def train(self) -> Reading:
        """The training split.

        Raises:
            InputError: when it is missing, empty, or more than 1 % of it cannot be used.
        """
        return self._reader.train(self.root)

    def test(self) -> TestSet:
        """Query and gallery under every protocol the data set is published with.

        Raises:
            InputError: as `train`.
        """
        return self._reader.test(self.root)


def open(root: Path, name: str | None = None) -> DataSet:
    """The data set in a folder.

    Args:
        root: folder with the splits, or the one above that the published readers expect.
        name: which data set it must be; None takes what is there.

    Raises:
        InputError: when it is none, not the one insisted on, or when it may be several.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}")
    if name is not None and name not in NAMES:
        raise InputError(f"no data set is called {name}; known are {', '.join(NAMES)}")
    readers = [r for r in READERS if name in (None, r.NAME)]
    found = [DataSet(r.NAME, place, r) for r in readers if (place := r.find(root)) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{root} holds {' and '.join(f'{d.name} in {d.root}' for d in found)}; "
            "name the folder of the one to use"
        )
    wanted = "; ".join(f"{r.NAME}: {r.LOOKS_LIKE}" for r in readers)
    raise InputError(f"{root} holds no data set in a layout known here; looked for {wanted}")
