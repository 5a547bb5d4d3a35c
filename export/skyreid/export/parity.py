"""How far two ways of computing the same outputs are apart, and how far they may be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.family import Family
from skyreid.contract.errors import GateError

Floats = NDArray[np.float32]

TORCH_LIMIT = 1e-4
SIMPLIFIED_LIMIT = 1e-5


def batches(largest: int) -> tuple[int, ...]:
    """What every comparison is made at: one, two, and the largest batch."""
    return tuple(sorted({1, min(2, largest), largest}))


def distance(
    found: Mapping[str, Floats],
    wanted: Mapping[str, Floats],
    family: Family | None = None,
) -> dict[str, float]:
    """Largest difference per output: absolute, relative to 1 or to the value where that is larger.

    Args:
        found: float32 arrays by name.
        wanted: the same from the reference; for a detector, what else it knows beside them.
        family: of a detector; it may know better how far an output is away.

    Raises:
        GateError: an output is missing or has another shape.
    """
    worst: dict[str, float] = {}
    for name in family.outputs if family else wanted:
        want = wanted[name]
        if name not in found or found[name].shape != want.shape:
            shape = list(found[name].shape) if name in found else "absent"
            raise GateError(f"output {name} is {shape}, expected {list(want.shape)}")
        got = found[name]
        special = family.apart(name, got, wanted) if family else None
        apart = np.abs(got - want) / np.maximum(1, np.abs(want)) if special is None else special
        worst[name] = float(apart.max(initial=0))
    return worst


def require(what: str, measured: dict[str, float], limit: float) -> None:
    """Raise `GateError` where a distance is over its limit (or not a number)."""
    for name, value in measured.items():
        if not value <= limit:
            raise GateError(f"parity, {what}: {name} differs by {value:.2e}, limit {limit:.0e}")
