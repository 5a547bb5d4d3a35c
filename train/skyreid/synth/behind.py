"""Another background for a crop: clutter of the kind that a detector is taught with.

One place has few walls and one ground, so a network could learn them; behind real people stand
windows, cars, signs and leaves.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from skyreid.synth.pasted.clutter import clutter
from skyreid.synth.raster import Light
from skyreid.synth.shading import Bytes, Picture
from skyreid.synth.surfaces import linear

PICTURES = 48
"""Of a set; each is cut, turned over and scaled in many ways."""


def behind(
    radiance: Picture,
    where: npt.NDArray[np.bool_],
    seed: int,
    light: Light,
    rng: np.random.Generator,
) -> None:
    """Paint a window of a picture of clutter over the background of a crop, in place.

    Args:
        radiance: linear, float32 [H, W, 3].
        where: bool [H, W], the background.
        seed: of the set, which decides the pictures of clutter.
        light: how bright it is there.
        rng: which window.
    """
    picture = _picture(seed, int(rng.integers(PICTURES)))
    height, width = where.shape
    share = rng.uniform(0.25, 0.95)  # of the picture's height
    high = int(share * picture.shape[0])
    wide = min(picture.shape[1], max(8, high * width // height))
    top = int(rng.integers(picture.shape[0] - high + 1))
    left = int(rng.integers(picture.shape[1] - wide + 1))
    cut = picture[top : top + high, left : left + wide]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    seen = cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=cv2.INTER_LINEAR)
    lit = np.array(light.sky) + 0.5 * np.array(light.sun) * rng.uniform(0.2, 1.0)
    paint = linear(seen[where] / 255.0) * lit
    radiance[where] = paint.astype(np.float32)


@lru_cache(maxsize=PICTURES)
def _picture(seed: int, number: int) -> Bytes:
    return clutter(np.random.default_rng([seed, number, 51]))
