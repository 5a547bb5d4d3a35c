"""What a run of training is of: an embedder or a detector, seen by the steps that train either."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skyreid.contract.input_spec import InputSpec
from skyreid.train.checkpoint import Kind

Terms = dict[str, Tensor]
"""Scalars whose sum is the loss, by name."""

B = TypeVar("B")


@dataclass(frozen=True)
class Verdict:
    """What held-out data say of a network.

    Attributes:
        value: a fraction; the checkpoint with the highest is the best one.
        said: the same for the log.
        curves: for the board, in percent, by name.
        notes: what a checkpoint has to say of it, JSON-able.
    """

    value: float
    said: str
    curves: Mapping[str, float]
    notes: Mapping[str, Any] = field(default_factory=dict)


class Task(ABC, Generic[B]):
    """A network, its data and its loss; `B` is a batch on the processor.

    Attributes:
        kind: of the checkpoints.
        input_spec: of the checkpoints.
        config: of the checkpoints: how to build the network, and notes of the run.
        network: whose weights are averaged, evaluated and kept.
        trained: what the optimiser works on: the network, or it with what its loss learns.
        pictures: that are trained on; an epoch is as many steps as they fill batches.
        batch: pictures in a batch.
    """

    kind: Kind
    input_spec: InputSpec
    config: Mapping[str, Any]
    network: nn.Module
    trained: nn.Module
    pictures: int
    batch: int

    @abstractmethod
    def plan(self) -> Any:
        """JSON-able: what the next batch is made of. Cheap, and drawn in the order of steps."""

    @abstractmethod
    def begin(self, plan: Any) -> Callable[[], B]:
        """Begin a batch as planned, of nothing that changes; what is given ends it.

        Batches are begun in the order of steps, and ended in that order: in whatever thread, but
        one at a time.
        """

    @abstractmethod
    def see(self, batch: B, rows: slice, device: torch.device) -> Terms:
        """What the network makes of some rows of a batch, each entry [rows, ...]; see `judge`."""

    @abstractmethod
    def judge(self, seen: Terms, batch: B, device: torch.device) -> Terms:
        """The terms of the loss, of what `see` made of the whole batch, in float32."""

    def adapt(self, share: float) -> None:
        """Let what is planned from now on follow what was learnt in a share of the run, 0 to 1."""

    @abstractmethod
    def evaluate(self, network: nn.Module) -> Verdict:
        """Judge the averaged network by data that it is not trained on."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON-able: all that decides the plans to come."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on planning where a task of the same run was when it gave `state`."""

    @abstractmethod
    def arrays(self, batch: B) -> dict[str, NDArray[Any]]:
        """A batch for a file that is read without this program; `images` is one of them."""


def moved(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`; the copy to a GPU does not hold up this process."""
    if device.type == "cpu":
        return values
    return values.pin_memory().to(device, non_blocking=True)
