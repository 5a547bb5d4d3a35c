"""How a data set lies on disk: what a reader offers to the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skyreid.train.data.records import Reading
from skyreid.train.data.trials import TestSet


@dataclass(frozen=True)
class Layout:
    """One data set's file grammar.

    Attributes:
        name: of the data set.
        looks_like: the files it is recognised by, for messages.
        find: from the folder a user names to the one with the splits, which may lie below; None
            where there is no such tree.
        train: reads the training split below that folder.
        test: reads query and gallery below that folder, under every protocol.
    """

    name: str
    looks_like: str
    find: Callable[[Path], Path | None]
    train: Callable[[Path], Reading]
    test: Callable[[Path], TestSet]
