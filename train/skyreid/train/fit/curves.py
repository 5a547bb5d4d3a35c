"""The curves of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from skyreid.contract.errors import PlatformError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Board:
    """Event files in a folder; a run that goes on adds to them.

    Args:
        folder: for the files.

    Raises:
        PlatformError: when the package `tensorboard` is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise PlatformError(
                "--board needs the package tensorboard; pip install 'skyreid[board]'"
            ) from error
        self._open = partial(SummaryWriter, str(folder))
        self._writer: SummaryWriter | None = None

    def begin(self, step: int) -> None:
        """Go on behind `step`; what a run that was killed has told of later ones is taken back."""
        self._writer = self._open(purge_step=step + 1 if step else None)

    def step(
        self,
        step: int,
        terms: Mapping[str, Tensor],
        norm: Tensor,
        rate: float,
        speed: float,
        waited: float,
    ) -> None:
        """Where training is.

        Args:
            step: from 1.
            terms: of the loss.
            norm: of its gradient, before clipping.
            rate: of learning.
            speed: pictures a second since the run began.
            waited: share of the time of steps that went by waiting for pictures.
        """
        values = {f"loss/{name}": term.item() for name, term in terms.items()}
        values |= {"loss": sum(values.values()), "gradient_norm": norm.item()}
        values |= {"learning_rate": rate, "pictures_per_s": speed, "waited": waited}
        self._write(step, values)

    def evaluated(self, step: int, curves: Mapping[str, float]) -> None:
        """What the held-out data say, see `Verdict.curves`."""
        self._write(step, {f"held_out/{name}": value for name, value in curves.items()})

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        assert self._writer is not None, "begin comes first"
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
