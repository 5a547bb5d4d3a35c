"""Optimisers, their groups of parameters, gradient clipping and learning rates, step by step."""

from __future__ import annotations

import math

import torch
from torch import nn

from skyreid.train.recipe import OptimiserSection

TOKENS = ("cls_token", "view_token", "pos_embed", "positional_embedding")


def build(network: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """The optimiser of everything in `network` that is trained."""
    return adamw(network, section)


def adamw(network: nn.Module, section: OptimiserSection) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels and nothing else."""
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    decayed = [p for n, p in trained if p.ndim > 1 and not n.endswith(TOKENS)]
    free = [p for n, p in trained if p.ndim <= 1 or n.endswith(TOKENS)]
    groups = [
        {"params": decayed, "weight_decay": section.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=section.learning_rate, fused=True)


def learning_rate(section: OptimiserSection, step: int, share: float) -> float:
    """Linear warm-up by step, times a cosine to zero over the share of the run, 0 to 1."""
    warm = min(1.0, step / section.warmup_steps) if section.warmup_steps else 1.0
    return section.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * share))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let every group learn at `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def clip(optimiser: torch.optim.Optimizer, section: OptimiserSection) -> None:
    """Scale the gradients down to the largest norm the recipe allows; unscale them first."""
    everything = [p for group in optimiser.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(everything, section.clip_norm)
