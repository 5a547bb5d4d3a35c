"""A detector as a function from a frame to boxes and scores, with torch or from a bundle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from skyreid.bundle.archive import Bundle
from skyreid.bundle.runner import start
from skyreid.train.detector.clips import UInt8
from skyreid.train.detector.decode import Float32, decode
from skyreid.train.models.heatmap import MULTIPLE

Detect = Callable[[UInt8], tuple[Float32, Float32]]
"""A frame uint8 [H, W, 3] RGB to boxes [K, 4] and scores [K], best first."""

SCORE_FLOOR = 0.05
"""Detections below it are never looked at: no useful threshold lies there."""


def with_torch(model: nn.Module) -> Detect:
    """Detect with the network itself, on its device."""
    device = next(model.parameters()).device

    def detect(frame: UInt8) -> tuple[Float32, Float32]:
        with torch.inference_mode():
            heat, box = model(torch.from_numpy(pad(frame))[None].to(device))
        return decode(heat[0].cpu().numpy(), box[0].cpu().numpy(), score_min=SCORE_FLOOR)

    return detect


def with_bundle(bundle: Bundle, threads: int = 1) -> Detect:
    """Detect as a device does, with ONNX Runtime."""
    runner = start(bundle, threads=threads)

    def detect(frame: UInt8) -> tuple[Float32, Float32]:
        found = runner.run(pad(frame)[None])
        return decode(found["heat"][0], found["box"][0], score_min=SCORE_FLOOR)

    return detect


def pad(frame: UInt8) -> UInt8:
    """The frame with black rows and columns at bottom and right up to what the network takes."""
    extra = [(0, -size % MULTIPLE) for size in frame.shape[:2]]
    return np.pad(frame, [*extra, (0, 0)]) if any(more for _, more in extra) else frame
