"""One picture of one person: what every data set reader returns and everything else takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

View = Literal["aerial", "ground"]


@dataclass(frozen=True)
class Record:
    """A crop with its labels.

    Attributes:
        path: of the picture.
        person: name of the person, unique within one training or evaluation.
        camera: number of the camera in its data set.
        view: the camera's view.
    """

    path: Path
    person: str
    camera: int
    view: View


@dataclass(frozen=True)
class Reading:
    """What a reader found: the records in a fixed order, and the files it refused by reason."""

    records: tuple[Record, ...]
    refused: dict[str, tuple[Path, ...]] = field(default_factory=dict)


def joined(readings: Sequence[Reading]) -> Reading:
    """Several data sets as one: their people are strangers to each other, their cameras are not."""
    records: list[Record] = []
    refused: dict[str, tuple[Path, ...]] = {}
    for number, reading in enumerate(readings):
        records += [replace(r, person=f"{number}/{r.person}") for r in reading.records]
        for reason, paths in reading.refused.items():
            refused[reason] = refused.get(reason, ()) + paths
    return Reading(tuple(records), refused)
