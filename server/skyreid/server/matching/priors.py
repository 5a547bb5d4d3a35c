"""Where the calibration of looks begins: what a bundle's manifest says, by pair of views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skyreid.contract.sighting import View


@dataclass(frozen=True)
class Normals:
    """Cosine of same-person and of different-person pairs of one view pair, as two normals."""

    same_mean: float
    same_std: float
    different_mean: float
    different_std: float


DEFAULT = Normals(0.45, 0.2, 0.0, 0.2)
"""Where nothing is known of a model; for embeddings less their camera's mean."""


def view_pair(a: str, b: str) -> str:
    """``aerial-ground`` and the like, as manifests spell it."""
    return "-".join(sorted((a, b)))


def prior_of(priors: Mapping[str, Normals], pair: str) -> Normals:
    """A manifest's prior for a view pair, brought to the scale of centred embeddings.

    If all embeddings share a part of squared length m, strangers' cosines are m on average, and
    without that part a cosine c becomes (c - m) / (1 - m).
    """
    known = priors.get(pair)
    if known is None:
        return DEFAULT
    shared = min(max(known.different_mean, 0.0), 0.9)
    return Normals(
        (known.same_mean - shared) / (1 - shared),
        known.same_std / (1 - shared),
        (known.different_mean - shared) / (1 - shared),
        known.different_std / (1 - shared),
    )


def priors_of(priors: Mapping[str, Normals]) -> dict[tuple[int, int], Normals]:
    """The same by the numbers of the views, the lesser first."""
    return {
        (int(one), int(two)): prior_of(priors, view_pair(one.word, two.word))
        for one in View
        for two in View
        if one <= two
    }
