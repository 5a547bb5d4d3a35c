"""Finite check: stops a run whose loss is NaN or infinite, and keeps the batch that broke it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skyreid.contract import files
from skyreid.contract.errors import SkyreidError

NORM = "gradient norm"


def check(
    path: Path | None,
    step: int,
    terms: Mapping[str, Tensor],
    norm: Tensor | None,
    batch: Callable[[], Mapping[str, NDArray[Any]]],
) -> None:
    """Nothing, where all terms and the norm are finite.

    Args:
        path: .npz for the batch, or None where another process writes it.
        step: about to be taken.
        terms: of the loss.
        norm: of its gradient; None where an infinite one is expected now and then.
        batch: gives what the step was made of, as arrays; `images` [B, ...] is one of them.

    Raises:
        SkyreidError: naming the step and what is not finite.
    """
    values = dict(terms) if norm is None else {**terms, NORM: norm}
    table = torch.stack([value.detach().float() for value in values.values()]).cpu()
    if bool(torch.isfinite(table).all()):
        return
    broken = [
        f"{name} is {value}"
        for name, value in zip(values, table.tolist(), strict=True)
        if not np.isfinite(value)
    ]
    where = ""
    if path is not None:
        content, arrays = io.BytesIO(), batch()
        columns: dict[str, Any] = {
            "step": np.int64(step),
            "terms": np.asarray(list(values)),
            "values": table.numpy(),
            **arrays,
        }
        np.savez(content, **columns)
        files.write(path, content.getvalue())
        where = f"; its {len(arrays['images'])} pictures are in {path}"
    raise SkyreidError(
        f"step {step}: {', '.join(broken)}{where}, the checkpoints are as they were; the usual "
        'causes are too high a learning rate, too short a warm-up and run.precision = "fp16"'
    )
