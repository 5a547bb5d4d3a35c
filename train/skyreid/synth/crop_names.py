"""What a crop is called and into which split it goes, in CARGO's form."""

from __future__ import annotations

import numpy as np

from skyreid.synth.look import NIGHT_CAMERAS
from skyreid.synth.options import Hour, SeveralHours
from skyreid.synth.wardrobe import Person


def hour_of(camera: int, hour: SeveralHours) -> Hour:
    """The hour at a camera."""
    if hour == "mixed":
        return "night" if camera in NIGHT_CAMERAS else "day"
    return hour


def crop_name(pid: int, camera: int, k: int, hour: SeveralHours = "mixed") -> str:
    """The file name in CARGO's form: field 0 is the camera, field 2 the person.

    CARGO knows day and night only; dusk is called night.
    """
    word = "day" if hour_of(camera, hour) == "day" else "night"
    return f"Cam{camera}_{word}_{pid:04d}_{k}.jpg"


def split_of(pid: int, k: int, test: set[int]) -> str:
    """`train`, or for a test person `query` for the first picture of a camera, else `gallery`."""
    if pid not in test:
        return "train"
    return "query" if k == 0 else "gallery"


def people_to_test_on(people: list[Person], part: float, seed: int) -> set[int]:
    """The people of a random `part` of the families."""
    families = sorted({person.family for person in people})
    order = np.random.default_rng([seed, 1]).permutation(families)
    chosen = set(order[: round(len(order) * part)].tolist())
    return {person.pid for person in people if person.family in chosen}
