"""Eight rendered pictures of people who stand where somebody knows: what a detector is proved on.

They are the rendered world's (``skyreid.synth``), so nobody's picture is needed, none is stored,
and each person's box is exact. Detectors that were trained on real people find them too: YOLOX-nano
four of five.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from skyreid.bundle.recall import cared
from skyreid.export.proof import Pictures, Truth
from skyreid.synth.native import one_thread
from skyreid.synth.options import ClipOptions
from skyreid.synth.stage import Shot, build_stage, shoot

_SEED = 5
_CAMERAS = (1, 6, 8, 12)
"""A low drone and three street cameras."""
_FRAMES = (10, 25)
_WIDTH_PX = 800


@cache
@one_thread()
def draw() -> Pictures:
    """Always the same pictures; takes some ten seconds, once."""
    options = ClipOptions(
        out=Path("unused"),
        seed=_SEED,
        seconds=_FRAMES[-1] + 1,
        fps=1,
        people=14,
        cameras=_CAMERAS,
        width_px=_WIDTH_PX,
    )
    stage = build_stage(options)
    shots = [shot for frame in _FRAMES for shot in shoot(stage, frame).values()]
    pictures = tuple(np.ascontiguousarray(shot.picture) for shot in shots)
    return Pictures(pictures, "the drawn pictures", tuple(_truth(shot) for shot in shots))


def _truth(shot: Shot) -> Truth:
    boxes = np.array([(b.x0, b.y0, b.x1, b.y1) for b in shot.boxes], np.float32).reshape(-1, 4)
    return Truth(boxes, cared(boxes, np.array([b.visibility for b in shot.boxes])))
