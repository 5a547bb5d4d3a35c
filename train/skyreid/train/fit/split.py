"""Who of a training split is trained on, and who chooses the checkpoint; and their pictures."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.train.data import pictures
from skyreid.train.data.records import ByReason, Record, spelled
from skyreid.train.fit import selection
from skyreid.train.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Pictures, uint8 [N, H, W, 3] RGB, and whose they are.

    Attributes:
        kept: what is trained on.
        images: of `kept`.
        people: int64 [N], class of each of `kept`.
        views: int64 [N], aerial 1 and ground 0, of each of `kept`.
        held_out: of the people who choose the checkpoint.
        held_out_images: of `held_out`.
        stored: the .npy file that `images` are the first of.
    """

    kept: tuple[Record, ...]
    images: NDArray[np.uint8]
    people: NDArray[np.int64]
    views: NDArray[np.int64]
    held_out: tuple[Record, ...]
    held_out_images: NDArray[np.uint8]
    stored: Path


def read(
    recipe: Recipe, records: Sequence[Record], cache: Path, refused: ByReason | None = None
) -> Split:
    """Divide the people of `records` as the recipe says, and read or map their pictures.

    Args:
        recipe: of the run.
        records: the training split of a data set.
        cache: folder for the resized pictures, see `pictures.load`.
        refused: what the readers refused of the split.

    Raises:
        InputError: when the people are too few, or too many pictures cannot be used.
    """
    kept, held_out = divided(recipe, records)
    loaded = pictures.load([*kept, *held_out], recipe.input, cache, refused)
    if loaded.unreadable:
        log.warning("skipped %s", spelled({pictures.UNREADABLE: loaded.unreadable}))
    assert loaded.stored is not None, "there is a cache"
    middle = loaded.left_of(len(kept))
    _require(loaded.records[:middle], loaded.records[middle:], recipe)  # some may have lost all
    people, views = labels(loaded.records[:middle])
    return Split(
        loaded.records[:middle],
        loaded.images[:middle],
        people,
        views,
        loaded.records[middle:],
        loaded.images[middle:],
        loaded.stored,
    )


def divided(recipe: Recipe, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records that are trained on, and those of the people who are held out.

    Raises:
        InputError: when the people are too few, or those held out cannot choose a checkpoint.
    """
    kept, held_out = hold_out(records, recipe.run.held_out_people, recipe.run.seed)
    kept = some_people(kept, recipe.run.people, recipe.run.seed)
    _require(kept, held_out, recipe)
    return kept, held_out


def _require(kept: Sequence[Record], held_out: Sequence[Record], recipe: Recipe) -> None:
    if held_out:
        selection.check(held_out)
    count = len({r.person for r in kept})
    if count < recipe.batch.people:
        raise InputError(
            f"{count} people are left for training and a batch needs {recipe.batch.people}; "
            + ("raise run.people" if recipe.run.people else "lower run.held_out_people")
            + " or lower batch.people"
        )


def digest(split: Split) -> str:
    """How many pictures are trained on, and what they and their labels are: no matter where."""
    found = hashlib.sha256(np.ascontiguousarray(split.images).data)
    for values in (split.people, split.views):
        found.update(np.ascontiguousarray(values).data)
    return f"{len(split.images)} pictures, {found.hexdigest()[:16]}"


def hold_out(records: Sequence[Record], count: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Split off `count` people, drawn by `seed`: (kept, held out). Nobody where it is 0.

    Raises:
        InputError: when fewer than `count` + 2 people are there.
    """
    names = sorted({r.person for r in records})
    if len(names) < count + 2:
        raise InputError(
            f"{len(names)} people in the training data; holding out {count} leaves too few"
        )
    chosen = set(np.random.default_rng(seed).choice(names, count, replace=False).tolist())
    kept = [r for r in records if r.person not in chosen]
    return kept, [r for r in records if r.person in chosen]


def some_people(records: Sequence[Record], count: int | None, seed: int) -> list[Record]:
    """The records of `count` people, drawn by `seed`; all where it is None.

    Raises:
        InputError: when there are fewer.
    """
    names = sorted({r.person for r in records})
    if count is None:
        return list(records)
    if len(names) < count:
        raise InputError(f"run.people is {count}, but only {len(names)} people are left to fit")
    chosen = set(np.random.default_rng(seed).choice(names, count, replace=False).tolist())
    return [r for r in records if r.person in chosen]


def labels(records: Iterable[Record]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes int64 [N] (people in sorted order, from 0) and views int64 [N] (aerial 1)."""
    listed = list(records)
    _, people = np.unique([r.person for r in listed], return_inverse=True)
    views = np.asarray([r.view == "aerial" for r in listed], np.int64)
    return people.astype(np.int64), views
