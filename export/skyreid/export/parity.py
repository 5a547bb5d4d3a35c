"""How far two ways of computing the same outputs are apart, and how far they may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import GateError

Outputs = dict[str, NDArray[np.float32]]

TORCH_LIMIT = 1e-4
SIMPLIFIED_LIMIT = 1e-5
PEAK_FLOOR = 0.05
BATCHES = (1, 2, 8)


def distance(found: Outputs, wanted: Outputs) -> dict[str, float]:
    """Largest difference per output: absolute, relative to 1 or to the value where that is larger.

    In ``heat`` (peaks, zero elsewhere) two neighbours that are equal but for rounding may swap: a
    peak that only one side has counts by what the other side's best neighbour lacks to it. Such
    peaks below 0.05 are left out: on a plateau of background their places are rounding alone.

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
        if name == "heat":
            lonely = (got == 0) != (want == 0)
            beside = np.minimum(_neighbours(got), _neighbours(want))
            higher = np.maximum(got, want)
            apart = np.where(lonely, np.where(higher < PEAK_FLOOR, 0, higher - beside), apart)
        worst[name] = float(apart.max(initial=0))
    return worst


def require(what: str, measured: dict[str, float], limit: float) -> None:
    """Raise `GateError` where a distance is over its limit (or not a number)."""
    for name, value in measured.items():
        if not value <= limit:
            raise GateError(f"parity, {what}: {name} differs by {value:.2e}, limit {limit:.0e}")


def _neighbours(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maximum over each cell's 3 x 3 neighbourhood of [N, h, w]."""
    padded = np.pad(heat, ((0, 0), (1, 1), (1, 1)))
    h, w = heat.shape[1:]
    best: NDArray[np.float32] = np.max(
        [padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0
    )
    return best
