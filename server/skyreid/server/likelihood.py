"""Evidence as log-likelihood ratios: what same and different people look like, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Normals:
    """Cosine of same-person and of different-person pairs of one view pair, as two normals."""

    same_mean: float
    same_std: float
    different_mean: float
    different_std: float
