"""Activation checkpointing: a block keeps its input alone and is computed once more going back.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174. A third more
arithmetic for memory that no longer grows with what a block computes inside; the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputing(nn.Module):
    """A module that may be computed once more instead of remembered.

    Attributes:
        recompute: whether it is, in training; what it draws at random it draws alike.
    """

    recompute: bool = False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """As any module's."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(super().__call__, *arguments, use_reentrant=False, **named)
        return super().__call__(*arguments, **named)


def recompute(network: nn.Module) -> int:
    """Let every module of `network` that can be recomputed be so; returns how many there are."""
    found = [module for module in network.modules() if isinstance(module, Recomputing)]
    for module in found:
        module.recompute = True
    return len(found)
