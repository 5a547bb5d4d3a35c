"""How far two ways of computing the same outputs are apart, and how far they may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import GateError

Outputs = dict[str, NDArray[np.float32]]

TORCH_LIMIT = 1e-4
SIMPLIFIED_LIMIT = 1e-5


def batches(largest: int) -> tuple[int, ...]:
    """What every comparison is made at: one, two, and the largest batch."""
    return tuple(sorted({1, min(2, largest), largest}))


def distance(
    found: Outputs, wanted: Outputs, surface: NDArray[np.float32] | None = None
) -> dict[str, float]:
    """Largest difference per output: absolute, relative to 1 or to the value where that is larger.

    Args:
        found: float32 arrays by name.
        wanted: the same from the reference.
        surface: [N, h, w], a detector's heat before its peaks were picked. Two neighbours that are
            equal but for rounding may swap their peak: where only one side has a peak, the
            difference is how far the surface is from such a tie. None: its height counts.

    Raises:
        GateError: an output is missing or has another shape.
    """
    worst: dict[str, float] = {}
    for name, want in wanted.items():
        if name not in found or found[name].shape != want.shape:
            shape = list(found[name].shape) if name in found else "absent"
            raise GateError(f"output {name} is {shape}, expected {list(want.shape)}")
        got = found[name]
        apart = np.abs(got - want) / np.maximum(1, np.abs(want))
        if name == "heat" and surface is not None:
            lonely = (got == 0) != (want == 0)
            apart = np.where(lonely, np.abs(surface - _highest_neighbour(surface)), apart)
        worst[name] = float(apart.max(initial=0))
    return worst


def require(what: str, measured: dict[str, float], limit: float) -> None:
    """Raise `GateError` where a distance is over its limit (or not a number)."""
    for name, value in measured.items():
        if not value <= limit:
            raise GateError(f"parity, {what}: {name} differs by {value:.2e}, limit {limit:.0e}")


def _highest_neighbour(surface: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maximum over the eight cells around each cell of [N, h, w]."""
    padded = np.pad(surface, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    h, w = surface.shape[1:]
    around = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    best: NDArray[np.float32] = np.max([padded[:, y : y + h, x : x + w] for y, x in around], axis=0)
    return best
