"""DDP: several processes (distributed data parallel) that train one network as one would.

Every process draws the same batch, augments all of it with the same chance and sends its own rows
through the trunk (`Method.see`). What the trunks made is gathered, so that every process compares
all pictures with each other (`Method.judge`): necks, triplets and routers see the batch they would
see in one process. The gradients are then averaged. Two things inside a trunk look at the whole
batch too: batch norms of a convolutional stem take their statistics over all processes
(`WholeBatchNorm`), and what a trunk draws at random is drawn for the whole batch and cut
(`row_random.Share`). So the loss is that of one process, for every method, up to the order in which
numbers are added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skyreid.contract.errors import PlatformError, SettingsError
from skyreid.train.fit.optimise import laid_out
from skyreid.train.models.row_random import Chance, Share

Device = Literal["auto", "cpu", "cuda"]

PATIENCE = timedelta(hours=2)  # others wait while one process evaluates


@dataclass(frozen=True)
class Crew:
    """This process among those that train together.

    Attributes:
        rank: from 0; process 0 alone evaluates and writes.
        size: how many there are.
        device: of this process.
        here: how many of them are on this machine.
    """

    rank: int
    size: int
    device: torch.device
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Which of a batch's `count` rows are this process's.

        Raises:
            SettingsError: when the batch cannot be cut evenly.
        """
        if count % self.size:
            raise SettingsError(
                f"a batch of {count} cannot be cut into {self.size} equal parts; change the "
                "recipe's batch or the number of processes"
            )
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def gather(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every entry's rows of all processes, in their order, with gradients."""
        if self.size == 1:
            return dict(seen)
        mine = torch.tensor([len(rows) for rows in seen.values()], device=self.device)
        counts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(counts, mine)
        sizes = torch.stack(counts).tolist()  # [processes][entries]
        return {
            name: _Gather.apply(rows, [of[place] for of in sizes], self.rank)  # type: ignore[no-untyped-call]
            for place, (name, rows) in enumerate(seen.items())
        }

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let every process have the mean of all; one without counts as zero, unless nobody has."""
        if self.size == 1:
            return
        listed = list(parameters)
        reached = torch.tensor([p.grad is not None for p in listed], device=self.device).int()
        dist.all_reduce(reached, dist.ReduceOp.MAX)
        used = [p for p, any_has in zip(listed, reached.tolist(), strict=True) if any_has]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        flat /= self.size
        pieces: Sequence[Tensor] = torch.split(flat, [grad.numel() for grad in grads])
        for parameter, piece in zip(used, pieces, strict=True):
            parameter.grad = laid_out(piece.view_as(parameter), parameter)

    def agreed(self, value: float) -> float:
        """What process 0 has."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return float(told.item())

    def wait(self) -> None:
        """Until all processes are here."""
        self.agreed(0.0)

    def join_up(self, network: nn.Module) -> None:
        """Let what looks at the whole batch inside `network` do so across processes."""
        if self.size == 1:
            return
        share = Share(self.rank, self.size)
        for module in list(network.modules()):
            if isinstance(module, Chance):
                module.share = share
            for name, child in list(module.named_children()):
                if type(child) is nn.BatchNorm2d:
                    setattr(module, name, WholeBatchNorm(child))


ALONE = Crew(0, 1, torch.device("cpu"))


@contextmanager
def crew(device: Device) -> Iterator[Crew]:
    """This process's place, as torchrun's environment says; alone without.

    Args:
        device: "auto" takes a GPU where there is one for each process of this machine.

    Raises:
        PlatformError: when there is no such device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count()
    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda" and gpus < wanted:
        raise PlatformError(
            f"--device cuda needs {wanted} GPUs and torch sees {gpus}; take --device cpu"
        )
    on_gpu = device == "cuda" or (device == "auto" and gpus >= wanted)
    place = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    if size == 1:
        yield Crew(0, 1, place)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Crew(dist.get_rank(), size, place, wanted)
    finally:
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradient is this process's rows, times the number of processes.

    Every process has the same loss on the same gathered rows, and the gradients of all parameters
    are averaged afterwards: the factor undoes that mean for what a process alone has sent.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.start, ctx.count, ctx.processes = sum(sizes[:rank]), sizes[rank], len(sizes)
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        mine = gradients[0][ctx.start : ctx.start + ctx.count]
        return mine * ctx.processes, None, None


class _Sum(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class WholeBatchNorm(nn.BatchNorm2d):
    """A batch norm over the rows of all processes; torch's own needs GPUs.

    It takes the parameters and statistics of `norm` over, the very tensors.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] of this process, normalised; every process has as many."""
        if not self.training:
            return super().forward(maps)
        values = maps.float()
        count = maps.numel() // maps.shape[1] * dist.get_world_size()
        mean = cast(Tensor, _Sum.apply(values.sum((0, 2, 3)))) / count  # type: ignore[no-untyped-call]
        centred = values - mean[:, None, None]
        square = cast(Tensor, _Sum.apply(centred.square().sum((0, 2, 3)))) / count  # type: ignore[no-untyped-call]
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(square * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        gain = self.weight * torch.rsqrt(square + self.eps)
        normed = centred * gain[:, None, None] + self.bias[:, None, None]
        return normed.to(maps.dtype)
