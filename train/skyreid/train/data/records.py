"""One picture of one person: what every data set reader returns and everything else takes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from skyreid.contract.errors import InputError

View = Literal["aerial", "ground"]
ByReason = Mapping[str, tuple[Path, ...]]

TOLERATED_PERCENT = 1
"""Part of a split that may be unusable before it is an error."""

UNREADABLE = "unreadable"
"""The reason under which pictures that cannot be decoded are counted."""


@dataclass(frozen=True)
class Record:
    """A crop with its labels.

    Attributes:
        path: of the picture.
        person: name of the person, unique in its data set, or in a training (`joined`).
        camera: number of the camera in its data set.
        view: the camera's view.
        altitude_m: of the camera above ground, where the data set states metres.
        altitude_level: 0 low to 2 high, where the data set states that instead.
        tracklet: unique name of the tracklet, where pictures belong to some.
    """

    path: Path
    person: str
    camera: int
    view: View
    altitude_m: float | None = None
    altitude_level: int | None = None
    tracklet: str | None = None


@dataclass(frozen=True)
class Reading:
    """What a reader found.

    Attributes:
        records: in a fixed order.
        refused: pictures that should be usable and are not, by reason.
        left_out: files that the data set itself takes no part of, by reason: Market-1501's junk,
            files that are no pictures.
    """

    records: tuple[Record, ...]
    refused: ByReason = field(default_factory=dict)
    left_out: ByReason = field(default_factory=dict)


def joined(readings: Sequence[Reading]) -> Reading:
    """Several data sets as one: their people are strangers to each other, their cameras are not.

    To the name of a person comes a digest of the names and sizes of the pictures: the same person
    is called the same wherever the data set lies and whatever others are given.

    Raises:
        InputError: when two of them have somebody in common.
    """
    records: list[Record] = []
    known: dict[str, Path] = {}
    for reading in readings:
        names = _distinct(reading.records)
        own = [replace(r, person=names[r.person]) for r in reading.records]
        for record in own:
            if record.person in known:
                first = known[record.person]
                raise InputError(f"{first} and {record.path}: the same data set twice in --data")
        records += own
        known |= {r.person: r.path for r in own}
    return Reading(
        tuple(records),
        merged([reading.refused for reading in readings]),
        merged([reading.left_out for reading in readings]),
    )


def _distinct(records: Sequence[Record]) -> dict[str, str]:
    """Names that no other data set's people have."""
    pictures: dict[str, list[bytes]] = {}
    for record in records:
        try:
            size = record.path.stat().st_size
        except OSError:
            size = -1  # counted as unreadable later on
        pictures.setdefault(record.person, []).append(
            os.fsencode(record.path.name) + b"\0%d" % size
        )
    return {
        person: f"{person}/{hashlib.sha256(bytes(1).join(sorted(listed))).hexdigest()[:12]}"
        for person, listed in pictures.items()
    }


def merged(several: Sequence[ByReason]) -> dict[str, tuple[Path, ...]]:
    """All files of each reason, every file once."""
    found: dict[str, dict[Path, None]] = {}
    for files in several:
        for reason, paths in files.items():
            found.setdefault(reason, {}).update(dict.fromkeys(paths))
    return {reason: tuple(paths) for reason, paths in found.items()}


def check_refused(what: str, used: int, refused: ByReason) -> None:
    """Let up to 1 % of a split be unusable.

    Args:
        what: the split's name for the message.
        used: how many pictures of it can be used.
        refused: those that cannot.

    Raises:
        InputError: beyond that, with how many of how many, and the first of every reason.
    """
    count = sum(len(paths) for paths in refused.values())
    total = used + count
    if 100 * count > TOLERATED_PERCENT * total:
        raise InputError(
            f"{what}: {count} of {total} pictures cannot be used, more than "
            f"{TOLERATED_PERCENT} %: {spelled(refused)}"
        )


def spelled(files: ByReason) -> str:
    """One line: how many by each reason, and the first of each."""
    return "; ".join(
        f"{len(paths)} by {reason}, first {paths[0]}" for reason, paths in files.items() if paths
    )
