"""Rotation vectors, an axis times an angle in radians: to matrices and back (Rodrigues)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def turn(vector: Float64) -> Float64:
    """Rotation [3, 3] about an axis [3] by its length in radians."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: Float64 = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned


def turned_by(rotation: Float64) -> Float64:
    """Inverse of `turn`: the vector [3] of a rotation of less than half a turn."""
    twice = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine, cosine = float(np.linalg.norm(twice)) / 2, (float(np.trace(rotation)) - 1) / 2
    if sine < 1e-12:
        return twice / 2
    vector: Float64 = twice / (2 * sine) * np.arctan2(sine, cosine)
    return vector
