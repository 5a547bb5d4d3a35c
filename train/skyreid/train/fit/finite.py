"""Stops a run whose loss is no number any more, and keeps the batch that broke it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skyreid.contract.errors import SkyreidError
from skyreid.train import durable
from skyreid.train.data.records import Record

NORM = "gradient norm"


@dataclass(frozen=True)
class Batch:
    """What a step was made of.

    Attributes:
        index: int64 [B], places in the training split.
        records: B, whose pictures they are.
        images: float32 [B, 3, H, W], augmented and normalised.
        people: int64 [B], classes.
        views: int64 [B], aerial 1 and ground 0.
    """

    index: Tensor
    records: Sequence[Record]
    images: Tensor
    people: Tensor
    views: Tensor


def check(
    path: Path | None, step: int, terms: Mapping[str, Tensor], norm: Tensor | None, batch: Batch
) -> None:
    """Nothing, where all terms and the norm are finite.

    Args:
        path: .npz for the batch, or None where another process writes it.
        step: about to be taken.
        terms: of the loss.
        norm: of its gradient; None where an infinite one is expected now and then.
        batch: of the step.

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
        content = io.BytesIO()
        np.savez(
            content,
            step=np.int64(step),
            index=batch.index.numpy(),
            paths=np.asarray([str(record.path) for record in batch.records]),
            images=batch.images.cpu().numpy(),
            people=batch.people.cpu().numpy(),
            views=batch.views.cpu().numpy(),
            terms=np.asarray(list(values)),
            values=table.numpy(),
        )
        durable.write(path, content.getvalue())
        where = f"; its {len(batch.records)} pictures are in {path}"
    raise SkyreidError(
        f"step {step}: {', '.join(broken)}{where}, the checkpoints are as they were; the usual "
        'causes are too high a learning rate, too short a warm-up and run.precision = "fp16"'
    )
