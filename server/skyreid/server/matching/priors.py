"""Where the calibration of looks begins: what a bundle's manifest says, by how two are seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

from skyreid.contract.sighting import View


@dataclass(frozen=True)
class Normals:
    """Cosine of same-person and of different-person pairs seen in two ways, as two normals."""

    same_mean: float
    same_std: float
    different_mean: float
    different_std: float


DEFAULT = Normals(0.45, 0.2, 0.0, 0.2)
"""Where nothing is known of a model; for embeddings less their camera's mean."""


FAINT = Normals(0.15, 0.2, 0.0, 0.2)
"""What a look in colour says of one in grey where a bundle does not say: little."""
OF_GREY = ("", "/colour-grey", "/grey-grey")
"""What a manifest calls a pair of views by how many of the two looks have no colours."""


def seen_as(view: View, grey: int) -> int:
    """A number for how people are seen: from where, and whether without colours (1) or not (0)."""
    return 2 * int(view) + grey


def pair_of(one: int, two: int) -> str:
    """``aerial-ground``, ``aerial-ground/colour-grey`` and the like, as manifests spell it.

    Args:
        one: how one of the two is seen (``seen_as``).
        two: how the other is.
    """
    views = sorted(View(number // 2).word for number in (one, two))
    return "-".join(views) + OF_GREY[one % 2 + two % 2]


def lacking(priors: Mapping[str, Normals]) -> tuple[str, ...]:
    """What a manifest that has priors does not say, because it is older than grey cameras."""
    views = [pair for pair in priors if "/" not in pair]
    return tuple(f"{pair}{of}" for pair in views for of in OF_GREY if f"{pair}{of}" not in priors)


def prior_of(priors: Mapping[str, Normals], pair: str) -> Normals:
    """A manifest's prior for a pair, brought to the scale of centred embeddings.

    If all embeddings share a part of squared length m, strangers' cosines are m on average, and
    without that part a cosine c becomes (c - m) / (1 - m). Where it is not said what grey looks are
    like, they are as those in colour are, and a look in colour says little of one in grey.
    """
    known = priors.get(pair)
    if known is None:
        views, _, of = pair.partition("/")
        if of == "grey-grey":
            return prior_of(priors, views)
        return FAINT if of else DEFAULT
    shared = min(max(known.different_mean, 0.0), 0.9)
    return Normals(
        (known.same_mean - shared) / (1 - shared),
        known.same_std / (1 - shared),
        (known.different_mean - shared) / (1 - shared),
        known.different_std / (1 - shared),
    )


def priors_of(priors: Mapping[str, Normals]) -> dict[tuple[int, int], Normals]:
    """The same by how the two are seen (``seen_as``), the lesser first."""
    ways = sorted(seen_as(view, grey) for view in View for grey in (0, 1))
    pairs = combinations_with_replacement(ways, 2)
    return {(one, two): prior_of(priors, pair_of(one, two)) for one, two in pairs}
