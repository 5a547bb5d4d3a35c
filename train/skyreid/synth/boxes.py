"""The boxes that a detector would cut a rendered person out by."""

from __future__ import annotations

import numpy as np


def detector_box(
    box: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """x, y, width, height with a detector's margin and inaccuracy."""
    width, height = box[2] - box[0], box[3] - box[1]
    shift = rng.normal(0, 0.035, 4)
    return (
        box[0] + width * (shift[0] - 0.06),
        box[1] + height * (shift[1] - 0.04),
        width * (1.12 + shift[2]),
        height * (1.08 + shift[3]),
    )


def cut_by_the_frame(
    box: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """What is left of a box (x, y, width, height) at the lower, left or right edge of a picture."""
    x0, y0, width, height = box
    left = rng.uniform(0.45, 0.9)
    edge = rng.random()
    if edge < 0.6:  # legs, mostly
        return x0, y0, width, height * left
    kept = width * left
    return (x0 if edge < 0.8 else x0 + width - kept), y0, kept, height
