"""Which places there are: different ground, houses, furniture and ways to walk, one interface."""

from __future__ import annotations

from collections.abc import Sequence

from skyreid.synth.furniture import Spot
from skyreid.synth.options import Place
from skyreid.synth.plaza import Plaza, build_plaza
from skyreid.synth.street import build_street
from skyreid.synth.yard import build_yard


def build_place(place: Place, seed: int, keep_clear: Sequence[Spot] = ()) -> Plaza:
    """Draw a place of a seed; nothing is put near the points `keep_clear` (east, north)."""
    if place == "street":
        return build_street(seed, keep_clear)
    if place == "yard":
        return build_yard(seed, keep_clear)
    return build_plaza(seed, keep_clear)
