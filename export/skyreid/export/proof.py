"""Whether a detector is what it is declared to be: what it must find in pictures of people.

A shape proves no family. Where it is known who stands where (``drawn.py``) the detector must find
them there; in pictures of somebody's own it must find people, of a size and in a place that people
can have. Either way it must find them best as declared: fed with another order of channels or
another range it may not find more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import (
    Detections,
    Float32,
    area,
    choose,
    intersection,
    iou,
    join,
    suppress,
)
from skyreid.bundle.recall import IOU_MIN, judge, merge
from skyreid.contract.errors import GateError
from skyreid.export.golden import originals

UInt8 = NDArray[np.uint8]

FOUND_MIN = 0.3
"""Score of somebody who was found for sure."""
RECALL_MIN, PRECISION_MIN = 0.3, 0.4
"""Where it is known who stands where: of those found for sure. YOLOX-nano has .7 and .8."""
INSIDE_MIN = 0.5
"""Of a sure box's area, and of the sure boxes that have it inside the picture."""
ROWS_SURE_MAX = 0.5
"""Of all rows of a picture: a detector that is sure of more is out of order, or is none."""
BESIDE_SURE, BESIDE_MAX = 12, 0.1
"""Where it is known who stands where: sure boxes that say enough, and how many of them are people
at most where the file says its boxes otherwise than declared."""
FAINT_MIN = 0.1
"""Score from which on ways of feeding a file are compared."""
SIGMA = 2.0
"""Of a sign test over people: another way that is better for more of them than chance makes it is
the right one. YOLOX-nano fed with red and blue the wrong way round: 36 of 53 people of the drawn
pictures, 2.6."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The people of a picture: ``boxes`` float32 [K, 4] in its pixels, and who counts, bool [K]."""

    boxes: Float32
    counts: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a detector is proved on.

    Attributes:
        originals: uint8 [H, W, 3] RGB each.
        origin: where they come from, for messages.
        truth: one for each picture; None where nobody knows.
    """

    originals: tuple[UInt8, ...]
    origin: str
    truth: tuple[Truth, ...] | None = None


def pictures_of(directory: Path) -> Pictures:
    """Eight of somebody's own.

    Raises:
        InputError: there are fewer, or one cannot be read.
    """
    return Pictures(tuple(originals(directory)), str(directory))


def sure(found: Sequence[Detections]) -> list[Detections]:
    """Those with a score of `FOUND_MIN` or more."""
    return [choose(one, one.scores >= FOUND_MIN) for one in found]


def require_order(outputs: Mapping[str, Float32], what: str) -> None:
    """Hold what a file says, as its family's rows, against what rows of people can be.

    Raises:
        GateError: numbers that are none, or people nearly everywhere.
    """
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise GateError(f"{what}: its {name} are no finite numbers")
    scores = outputs.get("scores")
    if scores is not None and scores.size:
        sure = float(np.mean(scores >= FOUND_MIN))
        if sure > ROWS_SURE_MAX:
            raise GateError(
                f"{what} is sure of a person in {sure:.0%} of its {scores.shape[1]} rows, at most "
                f"{ROWS_SURE_MAX:.0%} are possible: is that the file's family, and its person?"
            )


def require_places(
    what: str, raw: Sequence[Detections], size: tuple[int, int], pictures: Pictures
) -> None:
    """Hold where a file puts its boxes against its input.

    Args:
        what: is proved, for messages.
        raw: of each picture, in pixels of the input, nothing cut off or suppressed.
        size: height and width of the input.
        pictures: that they were found in.

    Raises:
        GateError: most of them lie outside.
    """
    height, width = size
    whole = np.array([[0, 0, width, height]], np.float32)
    boxes = np.concatenate([one.boxes for one in raw])
    inside = intersection(boxes, whole)[:, 0] >= INSIDE_MIN * np.maximum(area(boxes), 1e-9)
    if len(boxes) and np.mean(inside) < INSIDE_MIN:
        raise GateError(
            f"{what} puts {1 - np.mean(inside):.0%} of its boxes outside of its input for the "
            f"pictures of {pictures.origin}: is that the file's family, and its size?"
        )


def require_people(what: str, found: Sequence[Detections], pictures: Pictures) -> dict[str, float]:
    """Hold detections with a score of `FOUND_MIN` or more against the pictures.

    Args:
        what: is proved, for messages.
        found: of each picture, in its pixels, suppressed.
        pictures: that they were found in.

    Returns:
        What was measured, for ``parity.json``.

    Raises:
        GateError: nobody is found, or not where people are.
    """
    many, seen = len(pictures.originals), sum(len(one) > 0 for one in found)
    if 2 * seen < many:
        raise GateError(
            f"{what} finds somebody (score {FOUND_MIN} or more) in {seen} of the {many} pictures "
            f"of {pictures.origin}, in half of them it must: do they show people, and is that the "
            "file's family, range and person?"
        )
    facts = {"pictures_with_somebody": float(seen)}
    if pictures.truth is None:
        return facts
    tally = merge(
        judge(one, truth.boxes, truth.counts)
        for one, truth in zip(found, pictures.truth, strict=True)
    )
    recall, precision = tally.rates(FOUND_MIN)
    if (recall or 0) < RECALL_MIN or (precision or 0) < PRECISION_MIN:
        raise GateError(
            f"{what} finds {recall or 0:.0%} of the {tally.people} people of {pictures.origin} "
            f"where they stand, and {precision or 0:.0%} of what it finds are people; "
            f"{RECALL_MIN:.0%} and {PRECISION_MIN:.0%} are needed: is that the file's family, and "
            "does it know people? --golden takes pictures of your own"
        )
    return {**facts, "recall": float(recall or 0), "precision": float(precision or 0)}


def require_not_beside(what: str, found: Sequence[Detections], drawn: Pictures) -> None:
    """Hold a file that was proved on somebody's own pictures against people whose places are known.

    It need not know those: who finds thermal people may find nobody there. But a file that is sure
    of many and of next to nobody where they stand says its boxes otherwise than declared (y before
    x, corners for centre and size), and in pictures that nobody knows such boxes look like people.

    Args:
        what: is proved, for messages.
        found: of each drawn picture, in its pixels, suppressed; scores of `FOUND_MIN` or more.
        drawn: the pictures, with their truth.

    Raises:
        GateError: it is sure of many beside the people.
    """
    assert drawn.truth is not None
    many = sum(len(one) for one in found)
    tally = merge(
        judge(one, truth.boxes, truth.counts) for one, truth in zip(found, drawn.truth, strict=True)
    )
    _, precision = tally.rates(FOUND_MIN)
    if many >= BESIDE_SURE and (precision or 0) < BESIDE_MAX:
        raise GateError(
            f"{what} is sure of somebody {many} times in {drawn.origin}, {precision or 0:.0%} of "
            "them where people stand: is that the file's family, and are its boxes what that "
            "family's are (x before y; corners, or centre and size)?"
        )


def require_declared(
    what: str,
    declared: Sequence[Detections],
    others: Mapping[str, Sequence[Detections]],
    pictures: Pictures,
) -> dict[str, dict[str, int]]:
    """Hold how sure a file is of each person as declared against how sure it is when fed otherwise.

    Args:
        what: is proved, for messages.
        declared: of each picture, with a score of `FAINT_MIN` or more.
        others: the same by the option that would declare it.
        pictures: that they were found in. Where nobody knows the people, those are meant whom
            either way finds.

    Returns:
        Of how many people each way was surer, for ``parity.json``.

    Raises:
        GateError: another way is surer of more people than chance would have it (`SIGMA`).
    """
    counts: dict[str, dict[str, int]] = {}
    for option, other in others.items():
        wins, losses = 0, 0
        for at, (mine, theirs) in enumerate(zip(declared, other, strict=True)):
            if pictures.truth is None:
                people = suppress(join(mine, theirs), IOU_MIN).boxes
            else:
                people = pictures.truth[at].boxes[pictures.truth[at].counts]
            a, b = _sureness(mine, people), _sureness(theirs, people)
            wins, losses = wins + int((b > a).sum()), losses + int((a > b).sum())
        counts[option] = {"surer": wins, "less": losses}
        if wins - losses > SIGMA * np.sqrt(wins + losses):
            raise GateError(
                f"{what} is surer of {wins} of {wins + losses} people of {pictures.origin} when "
                f"it is fed otherwise than declared, with {option}: declare that"
            )
    return counts


def _sureness(found: Detections, people: Float32) -> Float32:
    """The best score for each person's box [K]; 0 where nothing lies on it."""
    if not len(found):
        return np.zeros(len(people), np.float32)
    hits = iou(found.boxes, people) >= IOU_MIN
    best: Float32 = np.max(found.scores[:, None] * hits, axis=0)
    return np.round(best, 4)
