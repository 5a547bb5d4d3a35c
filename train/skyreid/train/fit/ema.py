"""EMA of a network's weights over its training: what is evaluated and kept."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """Exponential moving average of a network's weights and running statistics.

    Polyak averaging (Tarvainen and Valpola, arXiv:1703.01780): worth a good part of the end of a
    learning rate schedule at any moment of it. The decay starts low, so that the random
    initialisation is forgotten early.

    Attributes:
        network: with the averaged weights, in evaluation.
        updates: how many times it was moved.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards `network`'s present weights."""
        self.updates += 1
        decay = min(self._decay, self.updates / (self.updates + 10))
        for mine, theirs in zip(
            self.network.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)
