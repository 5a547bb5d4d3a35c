"""Per-row randomness: what a trunk draws for each picture, the same however a batch is cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Share:
    """Which rows of a batch are at hand: part `part` of `parts` equal ones."""

    part: int = 0
    parts: int = 1

    def of(self, drawn: Tensor) -> Tensor:
        """The rows of this share in what was drawn for the whole batch."""
        return drawn.chunk(self.parts)[self.part]


class Chance(nn.Module):
    """A module that draws for each picture; with equal seeds, the parts of a batch draw alike.

    Attributes:
        share: of the batch that `forward` is given.
    """

    share: Share = Share()

    def bernoulli(self, like: Tensor, shape: tuple[int, ...], probability: float) -> Tensor:
        """0 or 1 with type and place of `like`; `shape` is that of this share."""
        whole = like.new_empty(shape[0] * self.share.parts, *shape[1:])
        return self.share.of(whole.bernoulli_(probability))

    def normal(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Normal deviates, as `bernoulli`."""
        whole = (shape[0] * self.share.parts, *shape[1:])
        return self.share.of(torch.randn(whole, dtype=like.dtype, device=like.device))
