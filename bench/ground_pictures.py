"""What a drone sees of a ground of many spots: pictures of a camera, in a few milliseconds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel

_PX_M, _HALF_M = 12, 60


def spots(seed: int = 0) -> NDArray[np.uint8]:
    """A ground of 120 x 120 m, seen from above, north up."""
    rng = np.random.default_rng(seed)
    side = 2 * _HALF_M * _PX_M
    ground = np.full((side, side), 120, np.uint8)
    for _ in range(5000):
        x, y = (int(v) for v in rng.uniform(0, side, 2))
        width, height = (int(v) for v in rng.uniform(3, 30, 2))
        cv2.rectangle(ground, (x, y), (x + width, y + height), int(rng.uniform(40, 220)), -1)
    return cv2.GaussianBlur(ground, (5, 5), 1.5)


def seen(ground: NDArray[np.uint8], model: CameraModel) -> NDArray[np.uint8]:
    """The picture of a camera, RGB."""
    on_it = np.array(
        [[1 / _PX_M, 0, -_HALF_M], [0, -1 / _PX_M, _HALF_M], [0, 0, 1.0]]
    )  # pixels of the ground to metres
    from_ground = model.matrix @ np.column_stack([model.rotation[:, :2], model.translation])
    size = model.width_px, model.height_px
    grey = cv2.warpPerspective(ground, from_ground @ on_it, size, flags=cv2.INTER_LINEAR)
    return np.repeat(grey[..., None], 3, 2)
