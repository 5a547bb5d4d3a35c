"""Every data set that can be trained or tested on, recognised by its folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.train.data import agreid, lagper, street
from skyreid.train.data.cargo import CARGO
from skyreid.train.data.format import Layout
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
NAMES = tuple(layout.name for layout in LAYOUTS)


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
    layouts = [layout for layout in LAYOUTS if name in (None, layout.name)]
    places = [(layout, layout.find(root)) for layout in layouts]
    found = [DataSet(layout.name, place, layout) for layout, place in places if place is not None]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{root} holds {' and '.join(f'{d.name} in {d.root}' for d in found)}; "
            "name the folder of the one to use"
        )
    wanted = "; ".join(f"{layout.name}: {layout.looks_like}" for layout in layouts)
    raise InputError(f"{root} holds no data set in a layout known here; looked for {wanted}")
