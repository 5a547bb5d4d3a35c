"""Every data set that can be trained or tested on, recognised by its folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.train.data import agreid, lagper, street
from skyreid.train.data.cargo import CARGO
from skyreid.train.data.format import Layout
from skyreid.train.data.picture_files import is_hidden
from skyreid.train.data.records import Reading
from skyreid.train.data.trials import TestSet, Trial

__all__ = ["NAMES", "DataSet", "TestSet", "Trial", "open"]


LAYOUTS = (
    CARGO,
    agreid.V1,
    agreid.V2,
    lagper.LAGPER,
    lagper.G2APS,
    street.MARKET,
    street.MSMT,
)
LEVELS_BELOW = 2
"""Archives are unpacked into a folder of their own name, and that into another one."""
MOST_FOLDERS = 100
"""Of a level in which a data set is looked for: more of them are people's."""
NAMES = tuple(layout.name for layout in LAYOUTS)


@dataclass(frozen=True)
class Told:
    """What a user says of data sets beside where they lie.

    Attributes:
        ag_reid_c2: take camera C2 of AG-ReID's first release as the ground's.
    """

    ag_reid_c2: bool = False


NOTHING = Told()


@dataclass(frozen=True)
class DataSet:
    """A data set found on disk.

    Attributes:
        name: one of NAMES.
        root: the folder with its splits, which may lie below the one that was given.
        layout: its file grammar.
    """

    name: str
    root: Path
    layout: Layout

    @property
    def title(self) -> str:
        """What to call it where numbers are shown: rendered people are not CARGO's."""
        rendered = self.name == CARGO.name and (self.root / "ids.json").is_file()
        return "rendered people in CARGO's layout" if rendered else self.name

    def train(self) -> Reading:
        """The training split.

        Raises:
            InputError: when it is missing, empty, or more than 1 % of it cannot be used.
        """
        return self.layout.train(self.root)

    def test(self) -> TestSet:
        """Query and gallery under every protocol the data set is published with.

        Raises:
            InputError: as `train`.
        """
        return self.layout.test(self.root)


def open(root: Path, name: str | None = None, told: Told = NOTHING) -> DataSet:
    """The data set in a folder.

    Args:
        root: folder with the splits, or one up to three levels above it.
        name: which data set it must be; None takes what is there.
        told: what its files do not say.

    Raises:
        InputError: when it is none, not the one insisted on, or when it may be several.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}")
    if name is not None and name not in NAMES:
        raise InputError(f"no data set is called {name}; known are {', '.join(NAMES)}")
    layouts = [layout for layout in LAYOUTS if name in (None, layout.name)]
    if told.ag_reid_c2:
        layouts = [agreid.V1_FIRST if layout is agreid.V1 else layout for layout in layouts]
    found: list[DataSet] = []
    level = [root]
    for _ in range(1 + LEVELS_BELOW):
        places = [(layout, layout.find(folder)) for folder in level for layout in layouts]
        found = [DataSet(layout.name, place, layout) for layout, place in places if place]
        if found or len(level) > MOST_FOLDERS:
            break
        level = [folder for above in level for folder in _folders(above)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{root} holds {' and '.join(f'{d.name} in {d.root}' for d in found)}; "
            "name the folder of the one to use"
        )
    wanted = "; ".join(f"{layout.name}: {layout.looks_like}" for layout in layouts)
    raise InputError(f"{root} holds no data set in a layout known here; looked for {wanted}")


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))
