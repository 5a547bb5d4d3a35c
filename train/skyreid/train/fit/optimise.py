"""Optimisers, their groups of parameters, gradient clipping and learning rates, step by step.

`sgd` is how the aerial-ground methods are published, on top of one framework: two weight decays,
gradients clipped within each of them, a warm-up by step and a cosine by epoch. Their framework
flattens the parameters of a group into one tensor; nothing is flattened here, and what that does
to training is followed: a parameter the loss did not reach has a gradient of zero, hence shrinks by
its decay. `adam` is CLIP-ReID's second stage. `adamw` is ours, for small models from random weights
(Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skyreid.contract.errors import InputError
from skyreid.train.recipe import (
    AdamSection,
    AdamwSection,
    OptimiserSection,
    RunSection,
    SgdSection,
)

TOKENS = ("cls_token", "view_token", "pos_embed", "positional_embedding")
NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
)


@dataclass(frozen=True)
class Length:
    """How long a run takes.

    Attributes:
        steps: optimiser steps of the whole schedule.
        epoch_steps: of an epoch: as many as whole batches fit into the pictures.
    """

    steps: int
    epoch_steps: int

    @property
    def epochs(self) -> int:
        """Epochs of the run, the last one perhaps cut short."""
        return math.ceil(self.steps / self.epoch_steps)


def length(run: RunSection, pictures: int, batch: int) -> Length:
    """A run's length on `pictures` pictures in batches of `batch`.

    Raises:
        InputError: when epochs are asked for and the pictures do not fill one batch.
    """
    if run.steps is not None:
        return Length(run.steps, max(pictures // batch, 1))
    assert run.epochs is not None  # the recipe has one of the two
    if pictures < batch:
        raise InputError(
            f"{pictures} pictures do not fill one batch of {batch}, so an epoch has no steps; "
            "take a smaller batch or say run.steps"
        )
    return Length(run.epochs * (pictures // batch), pictures // batch)


def build(network: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """The optimiser of everything in `network` that is trained."""
    match section:
        case AdamwSection():
            return adamw(network, section)
        case SgdSection():
            return sgd(network, section)
        case AdamSection():
            return adam(network, section)


def adamw(network: nn.Module, section: AdamwSection) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels and nothing else."""
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    decayed = [p for n, p in trained if p.ndim > 1 and not n.endswith(TOKENS)]
    free = [p for n, p in trained if p.ndim <= 1 or n.endswith(TOKENS)]
    groups = [
        {"params": decayed, "weight_decay": section.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(_filled(groups), lr=section.learning_rate, fused=True)


def sgd(network: nn.Module, section: SgdSection) -> torch.optim.SGD:
    """The published SGD: one learning rate, and a decay of their own for norms and biases.

    A bias is a parameter of that very name; the fused biases of torch's own attention have another
    and count as weights, as published.
    """
    weights: list[nn.Parameter] = []
    small: list[nn.Parameter] = []
    for module, name, parameter in _trained(network):
        (small if isinstance(module, NORMS) or name == "bias" else weights).append(parameter)
    groups = [
        {"params": weights, "weight_decay": section.weight_decay},
        {"params": small, "weight_decay": section.bias_decay},
    ]
    optimiser = torch.optim.SGD(
        _filled(groups), lr=section.learning_rate, momentum=section.momentum, fused=True
    )
    # Else the fused step makes them without filling them, and leaves them so where fp16 overflows
    # in the very first one.
    for parameter in (*weights, *small) if section.momentum else ():
        optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimiser


def adam(network: nn.Module, section: AdamSection) -> torch.optim.Adam:
    """Adam with a higher learning rate for what has `bias` in its name."""
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for _, name, parameter in _trained(network):
        (biases if "bias" in name else weights).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": weights},
        {"params": biases, "rate_factor": section.bias_factor},
    ]
    return torch.optim.Adam(
        _filled(groups),
        lr=section.learning_rate,
        weight_decay=section.weight_decay,
        fused=True,
    )


def _trained(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Owner, own name and value of each parameter that is trained, each once."""
    seen: set[int] = set()
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield module, name, parameter


def _filled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that have parameters; torch refuses none at all, but keeps an empty one."""
    return [group for group in groups if group["params"]]


def learning_rate(section: OptimiserSection, run: Length, step: int, share: float) -> float:
    """What the optimiser learns at.

    Args:
        section: its settings.
        run: how long the schedule is.
        step: from 1, the one about to be taken.
        share: of the run that has passed, 0 to 1, by steps or by time; `adamw` alone looks at it.
    """
    match section:
        case AdamwSection():
            warm = min(1.0, step / section.warmup_steps) if section.warmup_steps else 1.0
            return section.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        case SgdSection():
            return _cosine_by_epoch(section, run, step - 1)
        case AdamSection():
            return _milestones(section, 1 + (step - 1) // run.epoch_steps)


def _cosine_by_epoch(section: SgdSection, run: Length, done: int) -> float:
    """Linear by step, then a cosine that moves at the ends of epochs behind the warm-up.

    Args:
        section: the schedule's settings.
        run: its length.
        done: steps taken already.
    """
    if done < section.warmup_steps:
        grown = done / section.warmup_steps
        return section.learning_rate * (section.warmup_factor * (1 - grown) + grown)
    warm = math.ceil(section.warmup_steps / run.epoch_steps)  # epochs that touch the warm-up
    moves = max(0, done // run.epoch_steps - max(warm, 1) + 1)
    if run.epochs <= warm or moves == 0:
        return section.learning_rate
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, moves / (run.epochs - warm))))
    return section.last_rate + (section.learning_rate - section.last_rate) * fall


def _milestones(section: AdamSection, epoch: int) -> float:
    """By epochs from 1; the published loop moves its schedule before an epoch begins."""
    factor = section.milestone_factor ** bisect_right(sorted(section.milestones), epoch)
    if epoch < section.warmup_epochs:
        grown = epoch / section.warmup_epochs
        factor *= section.warmup_factor * (1 - grown) + grown
    return section.learning_rate * factor


def laid_out(values: Tensor, parameter: Tensor) -> Tensor:
    """A gradient or momentum in its parameter's memory format.

    The fused optimisers walk the memory of a parameter and of what belongs to it side by side,
    whatever the order of its dimensions there (`torch.channels_last` is another than the usual).
    """
    if values.shape != parameter.shape or values.stride() == parameter.stride():
        return values
    return torch.empty_like(parameter, device=values.device).copy_(values)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let every group learn at `rate`, times its own factor where it has one."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)


def clip(optimiser: torch.optim.Optimizer, section: OptimiserSection) -> Tensor:
    """Scale gradients down to the largest norm the recipe allows; call it once they are unscaled.

    For `sgd` it also gives parameters the loss did not reach a gradient of zero.

    Returns:
        The L2 norm of all gradients together, before; float32.
    """
    if isinstance(section, SgdSection):
        norms = []
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            norms.append(nn.utils.clip_grad_norm_(group["params"], section.clip_norm))
        return torch.stack(norms).square().sum().sqrt()
    everything = [p for group in optimiser.param_groups for p in group["params"]]
    largest = math.inf if section.clip_norm is None else section.clip_norm
    return nn.utils.clip_grad_norm_(everything, largest)
