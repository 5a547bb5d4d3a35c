"""Every data set that can be trained or tested on, recognised by its folders."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.train.data import agreid, lagper, own, pattern, street, table
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
OWN = "own people"
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
        aerial: names of the cameras of one's own people that fly; None says nothing.
    """

    ag_reid_c2: bool = False
    aerial: tuple[str, ...] | None = None


NOTHING = Told()


def add_options(command: ArgumentParser) -> None:
    """Options by which a user says of data sets what their files do not; see `told`."""
    command.add_argument(
        "--ag-reid-c2",
        action="store_true",
        help="AG-ReID's first release: its camera C2 stands on the ground",
    )
    command.add_argument(
        "--aerial",
        nargs="*",
        metavar="CAMERA",
        help="own people without a view: the cameras that fly; alone, none does",
    )


def told(arguments: Namespace) -> Told:
    """What the options of a command say."""
    aerial = arguments.aerial
    return Told(arguments.ag_reid_c2, None if aerial is None else tuple(aerial))


@dataclass(frozen=True)
class DataSet:
    """A data set found on disk.

    Attributes:
        name: one of NAMES, or OWN.
        root: the folder with its splits, which may lie below the one that was given.
        layout: its file grammar.
        cameras: the name of each camera's number, where it has another.
        unused: columns of its table that say nothing here.
    """

    name: str
    root: Path
    layout: Layout
    cameras: Mapping[int, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What to call it where numbers are shown: rendered people are not CARGO's."""
        if self.name == OWN:
            return f"own people, read as {self.layout.looks_like},"
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
        root: folder with the splits, or one up to two levels above it; of one's own people their
            folder, a pattern below it, or a table.
        name: which data set it must be; None takes what is there.
        told: what its files do not say.

    Raises:
        InputError: when it is none, not the one insisted on, or when it may be several.
    """
    if name is None and table.is_table(root):
        return _of_table(root, told)
    if name is None and pattern.is_pattern(root):
        return _of_pattern(*pattern.divided(root), told)
    if root.exists() and not root.is_dir():
        endings = ", ".join(table.SUFFIXES)
        raise InputError(f"{root} is no folder, and no table, which ends in one of {endings}")
    if not root.is_dir():
        hint = "; a pattern has its fields in braces: 'DIR/{person}/{camera}/*'"
        raise InputError(f"no folder {root}" + (hint if "*" in str(root) else ""))
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
    if name is None and (guess := pattern.guessed(root)) is not None:
        return _of_pattern(root, guess, told)
    wanted = "; ".join(f"{layout.name}: {layout.looks_like}" for layout in layouts)
    raise InputError(
        f"{root} holds no data set in a layout known here; looked for {wanted}"
        + ("" if name else "; own people: {person}/{camera}/*, or say how: 'DIR/{view}/{person}/*'")
    )


def _of_table(path: Path, told: Told) -> DataSet:
    rows, unused, refused = table.read(path)
    people = own.read(str(path), rows, told.aerial, refused, {})
    return replace(_own(path.parent, f"the rows of {path.name}", people), unused=unused)


def _of_pattern(root: Path, text: str, told: Told) -> DataSet:
    rows, refused, left_out = pattern.read(root, text)
    return _own(root, text, own.read(str(root), rows, told.aerial, refused, left_out))


def _own(root: Path, how: str, people: own.OwnPeople) -> DataSet:
    layout = Layout(
        OWN, how, lambda root: root, lambda root: people.train(), lambda root: people.test()
    )
    return DataSet(OWN, root, layout, people.cameras)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))
    except OSError as error:
        raise InputError(f"cannot read {root}: {error.strerror}") from error
