"""Colour matrices of ITU-T H.273: RGB that was made with one of them, as it was meant."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = Literal["bt601", "bt709", "fcc", "smpte240m", "bt2020"]
_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}
"""Weights of red and blue in luma, ITU-T H.273, table 4."""


@cache
def from_bt601(matrix: Matrix) -> NDArray[np.float64]:
    """[3, 3]: from RGB that was made with BT.601's matrix to RGB as it was meant."""
    right, wrong = _to_rgb(matrix), _to_rgb("bt601")
    turned: NDArray[np.float64] = right @ np.linalg.inv(wrong)
    return turned


def _to_rgb(matrix: Matrix) -> NDArray[np.float64]:
    """[3, 3]: from luma and the two colour differences, all of range 1, to RGB."""
    red, blue = _WEIGHTS[matrix]
    green = 1 - red - blue
    return np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
