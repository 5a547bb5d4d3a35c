"""Gradient accumulation that is exact: a batch passes the trunk in parts, and is judged whole.

Adding up the losses of small batches is another loss: a batch-hard triplet looks for the hardest
among all pictures, and a neck takes its statistics from all. So, after Gao et al., "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup" (GradCache, arXiv:2101.06983), the parts
go through the trunk twice: once without gradients, to be judged together, and once more, each with
the gradient that the judgement gave for its features. What a trunk draws at random is drawn for the
whole batch both times and cut (`row_random.Share`). The price is one forward pass more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skyreid.contract.errors import SettingsError
from skyreid.train.models.row_random import Chance, Share

See = Callable[[slice], dict[str, Tensor]]
"""Rows of a batch to what the trunk makes of them, in float32."""


@dataclass(frozen=True)
class Parts:
    """What the parts of a batch gave together.

    Attributes:
        seen: by name, all rows, leaves that a gradient can be asked for.
        rows: of each part.
        sizes: of each part, rows of each entry.
        random: state before a part and, in a GPU, the same.
    """

    seen: dict[str, Tensor]
    rows: tuple[slice, ...]
    sizes: tuple[dict[str, int], ...]
    random: tuple[Tensor, Tensor | None]


def require(trained: nn.Module, rows: slice, parts: int) -> None:
    """Refuse what would not be the whole batch's gradient.

    Raises:
        SettingsError: for a batch that cannot be cut, or a network with batch norms in its trunk,
            whose statistics would be those of a part.
    """
    count = rows.stop - rows.start
    if count % parts:
        raise SettingsError(
            f"run.accumulate = {parts} does not divide the {count} pictures of a process's batch"
        )
    norms = [name for name, m in trained.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if parts > 1 and norms:
        raise SettingsError(
            f"run.accumulate = {parts} would not equal the whole batch: {norms[0]} takes its "
            'statistics over what goes through at once; take model.trunk.stem = "patch", or '
            "run.recompute = true to save memory"
        )


def look(trained: nn.Module, see: See, rows: slice, parts: int) -> Parts:
    """All rows through the trunk, part by part and without gradients."""
    size = (rows.stop - rows.start) // parts
    cut = tuple(slice(start, start + size) for start in range(rows.start, rows.stop, size))
    random = _random_state()
    found = []
    for number, some in enumerate(cut):
        _set_random_state(random)
        with torch.no_grad(), _share(trained, number, parts):
            found.append(see(some))
    whole = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    return Parts(
        {n: v.requires_grad_() if v.is_floating_point() else v for n, v in whole.items()},
        cut,
        tuple({name: len(values) for name, values in part.items()} for part in found),
        random,
    )


def learn(trained: nn.Module, see: See, parts: Parts) -> None:
    """The trunk's gradients, once the judgement of `parts.seen` has gone backwards."""
    after = _random_state()
    begun = dict.fromkeys(parts.seen, 0)
    for number, (some, sizes) in enumerate(zip(parts.rows, parts.sizes, strict=True)):
        _set_random_state(parts.random)
        with _share(trained, number, len(parts.rows)):
            seen = see(some)
            gradients: Mapping[str, Tensor] = {
                name: whole.grad[begun[name] : begun[name] + sizes[name]]
                for name, whole in parts.seen.items()
                if whole.grad is not None and seen[name].requires_grad
            }
            torch.autograd.backward([seen[n] for n in gradients], list(gradients.values()))
        for name, count in sizes.items():
            begun[name] += count
    _set_random_state(after)


@contextmanager
def _share(trained: nn.Module, number: int, parts: int) -> Iterator[None]:
    """Within it, what the trunk draws is that of part `number` of this process's share."""
    modules = [module for module in trained.modules() if isinstance(module, Chance)]
    before = [module.share for module in modules]
    for module, share in zip(modules, before, strict=True):
        module.share = Share(share.part * parts + number, share.parts * parts)
    try:
        yield
    finally:
        for module, share in zip(modules, before, strict=True):
            module.share = share


def _random_state() -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
