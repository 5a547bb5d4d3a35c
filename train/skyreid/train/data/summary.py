"""What a data set holds, to be read before a training: who, seen by whom, how large, and twice?"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.train.data.pictures import read_rgb
from skyreid.train.data.records import Record

LOOKED_AT = 200
"""Pictures that are decoded for their sizes, evenly spread."""
MOST_CAMERAS = 40


def lines(records: Sequence[Record], cameras: Mapping[int, str]) -> list[str]:
    """The report.

    Args:
        records: of a training split, at least one.
        cameras: the name of each camera's number, where it has another.
    """
    people: dict[str, list[Record]] = {}
    for record in records:
        people.setdefault(record.person, []).append(record)
    seen = {view: {r.person for r in records if r.view == view} for view in ("aerial", "ground")}
    counts = sorted(len(mine) for mine in people.values())
    several = sum(len({r.camera for r in mine}) > 1 for mine in people.values())
    found = [
        f"{len(people)} people in {len(records)} pictures, {counts[0]} to {counts[-1]} each "
        f"(median {counts[len(counts) // 2]}); {len(seen['aerial'])} seen from the air, "
        f"{len(seen['ground'])} from the ground, {len(seen['aerial'] & seen['ground'])} from both; "
        f"{several} by more than one camera"
    ]
    tracklets = {r.tracklet for r in records if r.tracklet}
    if tracklets:
        found.append(f"{len(tracklets)} tracklets")
    found += _cameras(records, cameras)
    if sizes := _sizes(records):
        found.append(sizes)
    found += _twice(records)
    found += _alike("people", people)
    found += _alike("cameras", cameras.values())
    return found


def _cameras(records: Sequence[Record], names: Mapping[int, str]) -> list[str]:
    pictures = Counter((r.camera, r.view) for r in records)
    people = Counter(pair for pair, _ in {((r.camera, r.view), r.person) for r in records})
    rows = [
        f"camera {camera}{_called(names, camera)} {view}: {count} pictures of "
        f"{people[camera, view]} people"
        for (camera, view), count in sorted(pictures.items())
    ]
    if len(rows) > MOST_CAMERAS:
        rows[MOST_CAMERAS:] = [f"and {len(rows) - MOST_CAMERAS} cameras more"]
    return rows


def _called(names: Mapping[int, str], camera: int) -> str:
    name = names.get(camera, str(camera))
    return "" if name == str(camera) else f" ({name})"


def _sizes(records: Sequence[Record]) -> str:
    places = np.unique(np.linspace(0, len(records) - 1, LOOKED_AT).astype(np.int64))
    shapes: list[tuple[int, ...]] = []
    for place in places.tolist():
        try:
            shapes.append(read_rgb(records[place].path).shape[:2])
        except InputError:
            continue  # counted when all are read
    if not shapes:
        return ""
    shapes.sort(key=lambda shape: shape[0] * shape[1])
    least, middle, most = (
        f"{tall}x{wide}" for tall, wide in (shapes[0], shapes[len(shapes) // 2], shapes[-1])
    )
    return (
        f"height x width in pixels: {least} to {most}, median {middle}; "
        f"{sum(wide > tall for tall, wide in shapes)} of the {len(shapes)} looked at lie across"
    )


def _twice(records: Sequence[Record]) -> list[str]:
    """Pictures whose files are the same to the last byte."""
    by_size: dict[int, list[Record]] = {}
    for record in records:
        try:
            by_size.setdefault(record.path.stat().st_size, []).append(record)
        except OSError:
            continue
    same: dict[str, list[Record]] = {}
    for size, some in by_size.items():
        for record in some if size and len(some) > 1 else ():
            try:
                same.setdefault(hashlib.sha256(record.path.read_bytes()).hexdigest(), []).append(
                    record
                )
            except OSError:
                continue
    groups = [some for some in same.values() if len(some) > 1]
    if not groups:
        return ["no picture is there twice"]
    said = [
        f"{sum(len(some) - 1 for some in groups)} pictures are there again under another name, as "
        f"{_pair(groups[0])}"
    ]
    mixed = [some for some in groups if len({r.person for r in some}) > 1]
    if mixed:
        said.append(
            f"WARNING: {len(mixed)} pictures are of two people at once, as {_pair(mixed[0])}"
        )
    return said


def _pair(some: Sequence[Record]) -> str:
    first = some[0]
    other = next((r for r in some if r.person != first.person), some[1])
    return f"{first.path} ({first.person}) and {other.path} ({other.person})"


def _alike(what: str, names: Iterable[str]) -> list[str]:
    """Names that differ in case, blanks, hyphens or leading zeros alone."""
    by_form: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        form = re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s_-]+", "", name.casefold()))
        by_form.setdefault(form, []).append(name)
    near = [some for some in by_form.values() if len(some) > 1]
    if not near:
        return []
    shown = "; ".join(" and ".join(map(repr, some)) for some in near[:3])
    return [f"WARNING: {what} are called nearly alike: {shown}{'; ...' if near[3:] else ''}"]
