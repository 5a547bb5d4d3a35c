"""Half precision where it is safe: in the trunk, not where pictures are compared."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which matrices are multiplied in `precision`."""
    half = HALVES.get(precision)
    return torch.autocast(device.type, dtype=half, enabled=half is not None)


def scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Keeps small gradients from vanishing in fp16; does nothing in the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
