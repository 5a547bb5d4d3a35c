"""EGM96: how high mean sea level is above the WGS 84 ellipsoid, from a grid that ships.

The grid is the 15' one of EGM96 (NIMA, NASA GSFC and Ohio State University, 1996; a work of the
United States government, in the public domain), in steps of 5 cm: row by row from the south pole,
each from 180 degrees west. It is linear between its points: against the 5' grid of the same model,
99 % of the earth is right to .15 m and the worst trench to 1.05 m. EGM96 itself is known to about
.5 m, and drones that say "above sea level" mean it, or a model a few decimetres from it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

_CELLS_PER_DEG = 4
_STEP_M = 0.05


def geoid_height(latitude_deg: float, longitude_deg: float) -> float:
    """Metres from the ellipsoid up to mean sea level; negative where it lies below."""
    grid = _grid()
    row = min(max((latitude_deg + 90) * _CELLS_PER_DEG, 0.0), grid.shape[0] - 1.0)
    column = ((longitude_deg + 180) % 360) * _CELLS_PER_DEG
    south, west = min(int(row), grid.shape[0] - 2), int(column) % grid.shape[1]
    east = (west + 1) % grid.shape[1]
    up, right = row - south, column - int(column)
    corners = grid[[south, south, south + 1, south + 1], [west, east, west, east]] * _STEP_M
    weights = np.array([(1 - up) * (1 - right), (1 - up) * right, up * (1 - right), up * right])
    return float(corners @ weights)


@cache
def _grid() -> NDArray[np.int32]:
    """int32 [721, 1440], in steps of 5 cm; stored as differences of differences."""
    with (files(__package__) / "egm96.npz").open("rb") as file, np.load(file) as stored:
        twice = stored["second_differences"].astype(np.int32)
    grid: NDArray[np.int32] = np.cumsum(np.cumsum(twice, 0, dtype=np.int32), 1, dtype=np.int32)
    return grid
