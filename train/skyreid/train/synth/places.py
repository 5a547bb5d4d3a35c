"""Which places there are: different ground, houses, furniture and ways to walk, one interface."""

from __future__ import annotations

from collections.abc import Sequence

from skyreid.train.synth.furniture import Spot
from skyreid.train.synth.options import Place
from skyreid.train.synth.plaza import Plaza, build_plaza
from skyreid.train.synth.street import build_street
from skyreid.train.synth.yard import build_yard


def build_place(place: Place, seed: int, keep_clear: Sequence[Spot] = ()) -> Plaza:
    """Draw a place of a seed; nothing is put near the points `keep_clear` (east, north)."""
    if place == "street":
        return build_street(seed, keep_clear)
    if place == "yard":
        return build_yard(seed, keep_clear)
    return build_plaza(seed, keep_clear)
