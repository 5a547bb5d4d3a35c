"""Crops of known people: some that ranges are measured on, and others, of others, to judge by.

What a numeric format may lose is a part of what the model can tell apart, and that can only be said
of pictures whose people are known. So they come out of a data set, and nobody who shows the ranges
judges them. Pictures that show nothing, and those that are there twice, are left out by name: a set
of them would agree with itself whatever int8 does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train.data import catalogue, pattern
from skyreid.train.data.catalogue import NOTHING, Told
from skyreid.train.data.pictures import read_rgb
from skyreid.train.data.records import UNREADABLE, Record, View, check_refused, spelled

FEWEST, MOST = 32, 512
"""Pictures for the ranges, and as many that judge."""
FEWEST_PEOPLE = 4
"""Of each of both."""
PER_PERSON = 4
"""Pictures of each judge, at least, where there are so many: two make a pair."""
BLANK_LEVELS = 2.0
"""Standard deviation of a picture's grey levels up to which it shows nothing."""
SAME_LEVELS = 1.0
"""Mean difference of two pictures' thumbnails, in grey levels, up to which they are one: a copy
that was compressed anew has .2 to .7."""
_THUMBNAIL = (16, 8)
_LEVELS_ABOVE = 2

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Crops:
    """Pictures with their people, uint8 [N, H, W, 3] RGB, pre-processed.

    Attributes:
        images: distinct ones.
        records: whose they are.
    """

    images: UInt8
    records: tuple[Record, ...]

    @property
    def people(self) -> NDArray[np.int64]:
        """A number a person, int64 [N]."""
        return _numbers([record.person for record in self.records])

    @property
    def cameras(self) -> NDArray[np.int64]:
        """A number a camera, int64 [N]."""
        return _numbers([record.camera for record in self.records])


@dataclass(frozen=True, eq=False)
class Pictures:
    """What int8 is made with.

    Attributes:
        ranges: what the ranges are measured on.
        judge: as many others, of other people.
        listed: of `ranges`, paths below the directory.
        sha256: over the names and contents of `ranges`.
        left_out: blank, doubled and unreadable ones by name, as one line; empty where none was met.
    """

    ranges: Crops
    judge: Crops
    listed: tuple[str, ...]
    sha256: str
    left_out: str


def read(
    pictures: Path,
    spec: InputSpec,
    count: int = 256,
    view: View | Literal["any"] = "any",
    told: Told = NOTHING,
) -> Pictures:
    """Take `count` pictures for ranges, and as many of other people to judge by.

    Args:
        pictures: a data set, then its training split is taken, or a folder within one.
        spec: of the model's input.
        count: of each.
        view: that the model serves: it is not measured on pictures that it will not see.
        told: of the data set, see `catalogue.open`.

    Raises:
        InputError: nobody knows whom the pictures show, or too few of them are of use.
    """
    if not FEWEST <= count <= MOST:
        raise InputError(f"{count} pictures for ranges: {FEWEST} to {MOST} are sensible")
    by_person: dict[str, list[Record]] = {}
    root, records = _records(pictures, told)
    for record in records:
        if view not in ("any", record.view):
            continue
        by_person.setdefault(record.person, []).append(record)
    people = sorted(by_person)
    if len(people) < 2 * FEWEST_PEOPLE:
        raise InputError(
            f"{pictures} shows {len(people)} people{_seen(view)}; {2 * FEWEST_PEOPLE} are needed, "
            "half of them to judge by those whom the ranges never saw: give a larger set"
        )
    taken = _Taken(spec)
    mine = taken.fill(_by_camera([by_person[p] for p in people[0::2]]), count)
    others = taken.fill(_by_person([by_person[p] for p in people[1::2]], count), count)
    for crops, what in ((mine, "ranges"), (others, "judging")):
        shown = len(set(crops.records))
        seen = len({record.person for record in crops.records})
        if shown < count or seen < FEWEST_PEOPLE:
            why = f" (left out: {taken.spelled()})" if taken.spelled() else ""
            raise InputError(
                f"{pictures} has {shown} distinct pictures of {seen} people{_seen(view)} for "
                f"{what}{why}; "
                f"{count} of at least {FEWEST_PEOPLE} are needed: give a larger set, or ask for "
                f"fewer, from {FEWEST} on"
            )
    taken.require_readable(pictures)
    listed = tuple(os.path.relpath(r.path, root) for r in mine.records)
    digest = hashlib.sha256()
    for name, record in zip(listed, mine.records, strict=True):
        content = hashlib.sha256(record.path.read_bytes()).hexdigest()
        digest.update(os.fsencode(name) + f"\0{content}\n".encode())
    return Pictures(mine, others, listed, digest.hexdigest(), taken.spelled())


def _records(pictures: Path, told: Told) -> tuple[Path, tuple[Record, ...]]:
    """The pictures of a data set, or of a folder within one, and the folder they lie below.

    A folder of a published layout may look like one's own people in folders, so those come last.
    """
    if not pictures.is_dir():  # a table or a pattern
        found = catalogue.open(pictures, told=told)
        return found.root, found.train().records
    within = Path(os.path.abspath(pictures))
    opened = []
    for place in (within, *within.parents[:_LEVELS_ABOVE]):
        with suppress(InputError):
            opened.append(catalogue.open(place, told=told))
    for found in sorted(opened, key=lambda one: one.name not in catalogue.NAMES):
        records = _below(within, found.train().records)
        if not records:
            with suppress(InputError):  # a training split alone is a data set too
                records = _below(within, found.test().records)
        if records:
            return within, records
    if pattern.guessed(within):
        catalogue.open(within, told=told)  # says what they lack
    raise InputError(
        f"--pictures {pictures}: nobody knows whom they show, and what int8 costs can only be "
        "said of known people: give a data set that docs/datasets.md lists, or a folder of one"
    )


def _below(folder: Path, records: Sequence[Record]) -> tuple[Record, ...]:
    return tuple(r for r in records if folder in Path(os.path.abspath(r.path)).parents)


class _Taken:
    """What was taken so far, so that nothing is taken twice."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._thumbnails: list[NDArray[np.float32]] = []
        self._refused: dict[str, list[Path]] = {}

    def fill(self, records: Iterator[Record], count: int) -> Crops:
        """The first `count` that show something that none before them shows."""
        images: list[UInt8] = []
        kept: list[Record] = []
        for record in records:
            if len(kept) == count:
                break
            image = self._take(record.path)
            if image is not None:
                images.append(image)
                kept.append(record)
        shape = (0, self._spec.height or 0, self._spec.width or 0, 3)
        return Crops(np.stack(images) if images else np.zeros(shape, np.uint8), tuple(kept))

    def _take(self, path: Path) -> UInt8 | None:
        try:
            image = fit(read_rgb(path), self._spec)
        except InputError:
            self._refuse(UNREADABLE, path)
            return None
        grey = image.mean(-1, dtype=np.float32)
        if grey.std() <= BLANK_LEVELS:
            self._refuse("blank", path)
            return None
        thumbnail = _small(image)
        if self._thumbnails:
            apart = np.abs(np.stack(self._thumbnails) - thumbnail).mean((1, 2, 3))
            if apart.min() <= SAME_LEVELS:
                self._refuse("duplicate", path)
                return None
        self._thumbnails.append(thumbnail)
        return image

    def _refuse(self, reason: str, path: Path) -> None:
        self._refused.setdefault(reason, []).append(path)

    def spelled(self) -> str:
        """One line: how many by each reason, and the first of each."""
        return spelled({reason: tuple(paths) for reason, paths in self._refused.items()})

    def require_readable(self, pictures: Path) -> None:
        """Let as many be damaged as `fit` lets: up to 1 %, counted."""
        unread = tuple(self._refused.get(UNREADABLE, ()))
        check_refused(str(pictures), len(self._thumbnails), {UNREADABLE: unread})


def _small(image: UInt8) -> NDArray[np.float32]:
    """The means of 16 x 8 tiles, float32 [16, 8, 3]."""
    rows = np.array_split(np.arange(image.shape[0]), _THUMBNAIL[0])
    columns = np.array_split(np.arange(image.shape[1]), _THUMBNAIL[1])
    down = np.stack([image[some].mean(0, dtype=np.float32) for some in rows if some.size])
    return np.stack([down[:, some].mean(1) for some in columns if some.size], axis=1)


def in_pairs(records: Sequence[Record], count: int) -> list[Record]:
    """At most `count` of some records, some of each person where there are so many."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.person, []).append(record)
    people = [grouped[person] for person in sorted(grouped)]
    return list(islice(_by_person(people, count), count))


def _by_camera(people: Sequence[Sequence[Record]]) -> Iterator[Record]:
    """In turn from every camera, each time the next person there: what the ranges should meet."""
    cameras: dict[int, list[list[Record]]] = {}
    for shown in people:
        for camera in sorted({record.camera for record in shown}):
            mine = [record for record in shown if record.camera == camera]
            cameras.setdefault(camera, []).append(mine)
    yield from _in_turn([list(_in_turn(cameras[camera])) for camera in sorted(cameras)])


def _by_person(people: Sequence[Sequence[Record]], count: int) -> Iterator[Record]:
    """Some of every person, from different cameras first, of as many people as give pairs."""
    people = sorted(people, key=len, reverse=True)  # one picture makes no pair
    paired = sum(len(shown) > 1 for shown in people) or len(people)
    people = [*sorted(people[:paired], key=_name), *people[paired:]]
    many = min(paired, max(FEWEST_PEOPLE, count // PER_PERSON))
    first = np.linspace(0, paired - 1, many).round().astype(int).tolist()
    order = [*first, *sorted(set(range(len(people))) - set(first))]
    spread = [list(_by_camera([people[index]])) for index in order]
    yield from _in_turn(spread[:many])
    yield from _in_turn(spread[many:])


def _seen(view: str) -> str:
    return "" if view == "any" else f" in {view} views"


def _name(shown: Sequence[Record]) -> str:
    return shown[0].person


def _in_turn(rows: Sequence[Sequence[Record]]) -> Iterator[Record]:
    for place in range(max(map(len, rows), default=0)):
        yield from (row[place] for row in rows if place < len(row))


def _numbers(names: Sequence[object]) -> NDArray[np.int64]:
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.asarray([places[name] for name in names], np.int64)
