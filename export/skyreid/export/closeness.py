"""How close a numeric format's embeddings are to the exact ones, and how close they must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import GateError

Floats = NDArray[np.float32]
Rounded = Literal["fp16", "int8"]


@dataclass(frozen=True)
class Limits:
    """What a numeric format may lose, on pictures that its ranges never saw.

    Attributes:
        mean_cosine: of each picture with itself, at least.
        min_cosine: of the worst picture, at least.
        pair_error: largest change of the similarity of two pictures, at most.
    """

    mean_cosine: float
    min_cosine: float
    pair_error: float


LIMITS: dict[Rounded, Limits] = {
    "fp16": Limits(mean_cosine=0.9999, min_cosine=0.999, pair_error=0.01),
    "int8": Limits(mean_cosine=0.995, min_cosine=0.98, pair_error=0.03),
}


def distance(found: Floats, wanted: Floats) -> dict[str, float]:
    """How far embeddings [N, D] are from the exact ones, all rows of unit length.

    Returns:
        `mean_cosine` and `min_cosine` of each picture with itself; `pair_error`, the largest change
        of the similarity of two pictures; `rank1_agreement` and `rank5_agreement`, the share of the
        pictures whose nearest other is the same, or is among the five nearest.
    """
    similar = cosines(found, wanted)
    before, after = wanted @ wanted.T, found @ found.T
    error = float(np.abs(after - before).max())
    for similarity in (before, after):
        np.fill_diagonal(similarity, -2)
    nearest = before.argmax(1)
    five = np.argsort(-after, axis=1, kind="stable")[:, :5]
    return {
        "mean_cosine": float(similar.mean()),
        "min_cosine": float(similar.min()),
        "pair_error": error,
        "rank1_agreement": float((five[:, 0] == nearest).mean()),
        "rank5_agreement": float((five == nearest[:, None]).any(1).mean()),
    }


def cosines(found: Floats, wanted: Floats) -> NDArray[np.float64]:
    """Of each row [N, D] with the exact one, float64 [N]."""
    similar: NDArray[np.float64] = (found.astype(np.float64) * wanted).sum(1)
    return similar


def failures(measured: dict[str, float], rounded: Rounded, what: str) -> list[str]:
    """A line for each limit that is not kept, which a number that is none never does."""
    limits = LIMITS[rounded]
    lines = [
        f"{what}: {name} is {measured[name]:.5f}, limit {limit}"
        for name, limit in (
            ("mean_cosine", limits.mean_cosine),
            ("min_cosine", limits.min_cosine),
        )
        if not measured[name] >= limit
    ]
    if not measured["pair_error"] <= limits.pair_error:
        lines.append(
            f"{what}: similarities change by {measured['pair_error']:.4f}, "
            f"limit {limits.pair_error}"
        )
    return lines


def require(measured: dict[str, float], rounded: Rounded) -> None:
    """Raise `GateError` where a format is too far from fp32 (or not a number)."""
    lines = failures(measured, rounded, f"{rounded} against fp32")
    if lines:
        advice = "; try the other --method, or more pictures" if rounded == "int8" else ""
        raise GateError(f"{'; '.join(lines)}{advice}")
