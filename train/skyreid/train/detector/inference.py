"""A network in training as the detector that a device would run: only what runs it differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skyreid.bundle.detections import Detections
from skyreid.bundle.detector import Detector
from skyreid.bundle.family import family_of
from skyreid.bundle.manifest import DetectorSpec
from skyreid.train.models.heatmap import INPUT_SPEC, MULTIPLE, STRIDE

Detect = Callable[[NDArray[np.uint8]], Detections]
"""A frame uint8 [H, W, 3] RGB to its people, best first."""

SCORE_FLOOR = 0.05
"""Detections below it are never looked at: no useful threshold lies there."""


def spec_of(score_min: float, half_from_px: int = 0, half_height_px: int = 0) -> DetectorSpec:
    """How the outputs of this package's network are read; the rest as in `DetectorSpec`."""
    return DetectorSpec(
        family="heatmap",
        stride=STRIDE,
        align=MULTIPLE,
        score_min=score_min,
        half_from_px=half_from_px,
        half_height_px=half_height_px,
    )


def halving(config: Mapping[str, Any]) -> tuple[int, int]:
    """`half_from_px` and `half_height_px` of a checkpoint; one from before them has none."""
    return int(config.get("half_from_px", 0)), int(config.get("half_height_px", 0))


def with_torch(model: nn.Module, half_from_px: int = 0, half_height_px: int = 0) -> Detect:
    """Detect with the network itself, on its device, down to `SCORE_FLOOR`."""
    device = next(model.parameters()).device
    spec = spec_of(SCORE_FLOOR, half_from_px, half_height_px)
    names = family_of(spec).outputs

    def run(pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(pictures).to(device))
        return {name: value.cpu().numpy() for name, value in zip(names, outputs, strict=True)}

    return Detector(run, spec, INPUT_SPEC).find
