"""One's own people: rows that say of each picture whose it is, become records and protocols.

The rows come from the folders (`pattern`) or from a table (`table`). Names of people and cameras
are free; the views are told by a word (`VIEWS`), or by naming the cameras that fly.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.train.data.records import ByReason, Reading, Record, View, check_refused
from skyreid.train.data.trials import TestSet, Trial, two_views

VIEWS: dict[str, View] = {
    **dict.fromkeys(("aerial", "air", "drone", "uav"), "aerial"),
    **dict.fromkeys(("ground", "street", "cctv", "wearable"), "ground"),
}
SPLITS = {
    **dict.fromkeys(("train", "training", "train_all", "bounding_box_train"), "train"),
    **dict.fromkeys(("query", "probe"), "query"),
    **dict.fromkeys(("gallery", "bounding_box_test"), "gallery"),
    "test": "test",  # query and gallery alike
}


@dataclass(frozen=True)
class Row:
    """A picture as its folder or table has it, in words; an empty one says nothing.

    Attributes:
        path: of the picture.
        person: who is on it.
        camera: whose it is.
        view: one of `VIEWS`.
        split: one of `SPLITS`.
        tracklet: to which it belongs, unique with person and camera.
        altitude_m: of the camera above ground.
    """

    path: Path
    person: str
    camera: str = ""
    view: str = ""
    split: str = ""
    tracklet: str = ""
    altitude_m: str = ""


@dataclass(frozen=True)
class OwnPeople:
    """What the rows say.

    Attributes:
        where: folder, pattern or table, for messages.
        records: in the order of the rows.
        splits: of each record a value of `SPLITS`, or nothing where there are no splits.
        cameras: the name of each camera's number.
        refused: as in `Reading`.
        left_out: as in `Reading`.
    """

    where: str
    records: tuple[Record, ...]
    splits: tuple[str, ...]
    cameras: dict[int, str]
    refused: ByReason
    left_out: ByReason

    def train(self) -> Reading:
        """The training split; everything where there are no splits.

        Raises:
            InputError: when it is empty.
        """
        kept = self._of("train")
        if not kept:
            raise self._lacks("train")
        return Reading(tuple(self.records[i] for i in kept), self.refused, self.left_out)

    def test(self) -> TestSet:
        """Query and gallery under the protocols of the views that there are.

        Without splits, and in `test`, every picture is query and gallery alike.

        Raises:
            InputError: when one of them is empty.
        """
        asking, searched = self._of("query", "test"), self._of("gallery", "test")
        for some, what in ((asking, "query"), (searched, "gallery")):
            if not some:
                raise self._lacks(what)
        used = sorted({*asking, *searched})
        place = {index: number for number, index in enumerate(used)}
        records = tuple(self.records[i] for i in used)
        aerial = np.asarray([r.view == "aerial" for r in records])
        query, gallery = (
            np.asarray([place[i] for i in some], np.int64) for some in (asking, searched)
        )
        trials = tuple(
            Trial(t.name, query[t.query], gallery[t.gallery], t.domains)
            for t in two_views(aerial[query], aerial[gallery])
            if t.name == "ALL" or (aerial.any() and not aerial.all())
        )
        return TestSet(records, trials, self.refused, self.left_out)

    def _of(self, *splits: str) -> list[int]:
        if not self.splits:
            return list(range(len(self.records)))
        return [index for index, split in enumerate(self.splits) if split in splits]

    def _lacks(self, split: str) -> InputError:
        there = ", ".join(sorted(set(self.splits)))
        return InputError(
            f"{self.where} has pictures of split {there} and none of {split}; call them so, or "
            "leave the splits out to use all pictures"
        )


def read(
    where: str,
    rows: Sequence[Row],
    aerial: Sequence[str] | None,
    refused: dict[str, list[Path]],
    left_out: dict[str, list[Path]],
) -> OwnPeople:
    """Records out of rows.

    Args:
        where: folder, pattern or table, for messages.
        rows: of all splits; all of them have a view, or none, and so have they a split.
        aerial: names of the cameras that fly, for rows without view; None says nothing.
        refused: files that were refused already, by reason; those of the rows are added.
        left_out: files that were left out.

    Raises:
        InputError: when nothing is usable, more than 1 % is refused, or nothing says which
            cameras fly.
    """
    good: list[Row] = []
    for row in rows:
        if reason := _wrong(row):
            refused.setdefault(reason, []).append(row.path)
        else:
            good.append(row)
    listed = {reason: tuple(paths) for reason, paths in refused.items()}
    if not good and not listed:
        raise InputError(f"{where} holds no picture")
    check_refused(where, len(good), listed)
    for what in ("view", "split"):
        having = sum(bool(getattr(row, what)) for row in good)
        if having not in (0, len(good)):
            lacking = next(row.path for row in good if not getattr(row, what))
            raise InputError(
                f"{where}: {having} of {len(good)} pictures have a {what}, {lacking} has none; "
                "give it to all of them, or to none"
            )
    views = _views(where, good, aerial)
    numbers, names = _numbered(good, views)
    records = tuple(
        Record(
            row.path,
            row.person,
            number,
            view,
            altitude_m=float(row.altitude_m) if row.altitude_m else None,
            tracklet=f"{row.person}/{number}/{row.tracklet}" if row.tracklet else None,
        )
        for row, view, number in zip(good, views, numbers, strict=True)
    )
    splits = tuple(SPLITS[row.split.lower()] for row in good if row.split)
    return OwnPeople(
        where, records, splits, names, listed, {k: tuple(v) for k, v in left_out.items()}
    )


def _wrong(row: Row) -> str | None:
    """The reason why a row cannot be used."""
    if not row.person:
        return "person, which is empty"
    if not (row.camera or row.view):
        return "camera, which is empty"
    if row.view and row.view.lower() not in VIEWS:
        return f"view {row.view!r}, which is none of {', '.join(VIEWS)}"
    if row.split and row.split.lower() not in SPLITS:
        return f"split {row.split!r}, which is none of {', '.join(SPLITS)}"
    try:
        known = 0 <= float(row.altitude_m or 0) < np.inf
    except ValueError:
        known = False
    return None if known else f"altitude_m {row.altitude_m!r}, which is no height in metres"


def _views(where: str, rows: Sequence[Row], aerial: Sequence[str] | None) -> list[View]:
    if rows[0].view:
        return [VIEWS[row.view.lower()] for row in rows]
    cameras = sorted({row.camera for row in rows})
    if aerial is None:
        raise InputError(
            f"{where} does not say which cameras fly: name them with --aerial (alone: none does); "
            f"there are {', '.join(cameras[:30])}{', ...' if cameras[30:] else ''}"
        )
    for name in aerial:
        if name not in cameras:
            near = difflib.get_close_matches(name, cameras, 1)
            raise InputError(
                f"--aerial {name}: {where} has no such camera; "
                + (f"did you mean {near[0]}?" if near else f"there are {', '.join(cameras[:30])}")
            )
    return ["aerial" if row.camera in aerial else "ground" for row in rows]


def _numbered(rows: Sequence[Row], views: Sequence[View]) -> tuple[list[int], dict[int, str]]:
    """A number for each row's camera, and its name; two that differ in their view are two.

    Names that are numbers keep them.
    """
    keys = [(row.camera or view, view) for row, view in zip(rows, views, strict=True)]
    several = len({name for name, _ in keys}) < len(set(keys))
    called = [f"{view} {name}" if several else name for name, view in keys]
    names = sorted(set(called))
    if all(name.isascii() and name.isdecimal() for name in names) and len(
        {int(name) for name in names}
    ) == len(names):
        return [int(name) for name in called], {int(name): name for name in names}
    number = {name: place for place, name in enumerate(names, start=1)}
    return [number[name] for name in called], {place: name for name, place in number.items()}
