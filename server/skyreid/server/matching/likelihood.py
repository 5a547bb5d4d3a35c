"""Evidence as log-likelihood ratios: what same and different people look like, in numbers.

Every ratio is natural-logarithm p(measured | same person) / p(measured | different people) and is
bounded on both sides, so that no single kind of evidence can decide against all others: a camera
pose may be wrong, and so may a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

ODD_LOOKS = 0.02
"""How often strangers look like one person, and one person like strangers."""
APPEARANCE_MAX = float(np.log((1 - ODD_LOOKS) / ODD_LOOKS))
PLACE_MAX = 6.0
OUTLIERS = 0.03
"""How often a reported position is plainly wrong (box on somebody else, bad pose); its logarithm
is the most that place can say against a pair, and less than looks can say for it."""
WALK_MPS = 1.3
FORGET_S = 10.0
"""After about so long out of sight a person may be anywhere."""
POSE_SIGMA_M = 0.4
"""What two cameras disagree about a standing person beyond the reported covariances."""
ACCUMULATION = 0.25
"""Evidence of n pairs counts n to this power times their mean: 0 if they all said the same thing
over again, 1 if they were independent. Pairs of tracklets of two people are far from that."""


@dataclass(frozen=True)
class Normals:
    """Cosine of same-person and of different-person pairs of one view pair, as two normals."""

    same_mean: float
    same_std: float
    different_mean: float
    different_std: float


DEFAULT = Normals(0.45, 0.2, 0.0, 0.2)
"""Where nothing is known of a model; for embeddings less their camera's mean."""


def shifts(
    embeddings: Float32, models: Int64, views: Int64, cameras: Int64, strength: float
) -> dict[tuple[int, int, int], Float64]:
    """What to take from embeddings: the mean look of their camera.

    A camera's light and angle shift all its embeddings alike, which makes strangers in one camera
    alike and one person in two cameras different. With few tracklets the mean is mostly the
    persons themselves, so it is shrunk: towards its view's mean, and that towards nothing.

    Args:
        embeddings: [N, D], L2-normalised.
        models: [N] a number per model; of two models nothing is in common.
        views: [N] a number per view.
        cameras: [N] a number per camera.
        strength: tracklets that weigh as much as the mean one level up.

    Returns:
        float64 [D] by (model, view, camera); by (model, view, -1) of the view as a whole
    """
    found: dict[tuple[int, int, int], tuple[Float64, int]] = {}
    names, which = np.unique(np.stack([models, views, cameras], 1), axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    counts = np.bincount(which.reshape(-1), minlength=len(names))
    ends = np.cumsum(counts)
    for (model, view, camera), end, count in zip(names.tolist(), ends, counts, strict=True):
        total = embeddings[order[end - count : end]].sum(0, dtype=np.float64)
        found[model, view, camera] = total, int(count)
        above, many = found.get((model, view, -1), (np.zeros(len(total)), 0))
        found[model, view, -1] = above + total, many + int(count)
    out: dict[tuple[int, int, int], Float64] = {}
    for (model, view, camera), (total, number) in found.items():
        above, many = found[model, view, -1]
        of_view = above / (many + strength)
        shrunk = (total + strength * of_view) / (number + strength)
        out[model, view, camera] = of_view if camera < 0 else shrunk
    return out


def calibrate(
    similarity: Float64,
    different: Bool,
    same: Bool,
    strangers: Float64,
    prior: Normals,
    *,
    pairs: float,
) -> Normals:
    """The two normals of a view pair, from pairs that are known for other reasons than looks.

    Args:
        similarity: [P] cosines of the view pair.
        different: [P] pairs that are certainly or very probably different people.
        same: [P] pairs that place says are one person.
        strangers: cosines of pairs of all views that are different people. Without poses only
            pairs inside one camera are known to be; once centred, those across views are like them.
        prior: believed before any pair was seen; for ``same`` relative to ``different``, since
            scales differ between sites.
        pairs: how many pairs the level above is worth.
    """
    d_mean, d_std = _blend(strangers, prior.different_mean, prior.different_std, pairs)
    d_mean, d_std = _blend(similarity[different], d_mean, d_std, pairs)
    # Where "same" stands between "different" and 1, as the prior has it.
    expected = 1 - (1 - prior.same_mean) * (1 - d_mean) / (1 - prior.different_mean)
    s_mean, s_std = _blend(similarity[same], expected, prior.same_std, pairs)
    s_mean = max(s_mean, d_mean + 0.5 * d_std)  # looks never count backwards
    pooled = float(np.sqrt((s_std**2 + d_std**2) / 2))
    # One width for both: with two, the ratio turns round in the tails.
    return Normals(s_mean, pooled, d_mean, pooled)


def _blend(values: Float64, mean: float, std: float, strength: float) -> tuple[float, float]:
    n = len(values)
    blended = (float(values.sum()) + strength * mean) / (n + strength)
    spread = float(((values - blended) ** 2).sum()) + strength * (std**2 + (mean - blended) ** 2)
    return blended, max(float(np.sqrt(spread / (n + strength))), 0.02)


def appearance_llr(similarity: Float64, normals: Normals) -> Float64:
    """What cosines say, bounded by ``APPEARANCE_MAX`` both ways; any shape.

    Two normals, but some strangers look alike, and some tracklets of one person do not (another
    person in the box): each side has a share ``ODD_LOOKS`` of the other's distribution.
    """
    same = np.exp(-0.5 * ((similarity - normals.same_mean) / normals.same_std) ** 2)
    same /= normals.same_std
    other = np.exp(-0.5 * ((similarity - normals.different_mean) / normals.different_std) ** 2)
    other /= normals.different_std
    tiny = 1e-30  # far from both, nothing is known
    llr: Float64 = np.log(
        ((1 - ODD_LOOKS) * same + ODD_LOOKS * other + tiny)
        / ((1 - ODD_LOOKS) * other + ODD_LOOKS * same + tiny)
    )
    return llr


def place_llr(offset: Float64, covariance: Float64, area_m2: float) -> Float64:
    """What two positions at one moment say.

    One person: normal about no offset, or anywhere with probability ``OUTLIERS``. Different
    people: anywhere on the site.

    Args:
        offset: [..., 2] east and north in metres.
        covariance: [..., 3] ee, en, nn in m² of the offset.
        area_m2: where people are.
    """
    ee = covariance[..., 0] + POSE_SIGMA_M**2
    nn = covariance[..., 2] + POSE_SIGMA_M**2
    en = covariance[..., 1]
    det = ee * nn - en**2
    east, north = offset[..., 0], offset[..., 1]
    distance2 = (nn * east**2 - 2 * en * east * north + ee * north**2) / det
    density = np.exp(-0.5 * distance2) / (2 * np.pi * np.sqrt(det))
    llr = np.log((1 - OUTLIERS) * density * area_m2 + OUTLIERS)
    bounded: Float64 = np.minimum(llr, PLACE_MAX)
    return bounded


def time_llr(offset: Float64, covariance: Float64, gap_s: Float64, area_m2: float) -> Float64:
    """What a position and a later one say when nobody saw the way between.

    The later the wider: a walk at ``WALK_MPS`` in an unknown direction; forgotten after a while.
    Arguments as ``place_llr``; gap_s [...].
    """
    spread = (WALK_MPS * gap_s) ** 2 / 2
    wide = covariance + spread[..., None] * np.array([1.0, 0.0, 1.0])
    kept = np.exp(-gap_s / FORGET_S)
    near = np.exp(place_llr(offset, wide, area_m2))
    llr: Float64 = np.log(kept * near + (1 - kept))
    return llr


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


def odds(evidence: Float64, prior: Float64, weight: Float64) -> float:
    """Log posterior odds that two groups are one person, from the pairs between them [N]."""
    mean = float(np.average(evidence, weights=weight))
    gain: float = len(evidence) ** ACCUMULATION
    return mean * gain + float(prior.mean())
