"""Evidence as log-likelihood ratios: what same and different people look like, in numbers.

Every ratio is natural-logarithm p(measured | same person) / p(measured | different people) and is
bounded on both sides, so that no single kind of evidence can decide against all others: a camera
pose may be wrong, and so may a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

ODD_LOOKS = 0.02
"""How often one person looks like a stranger: somebody else in the box, another light; its
logarithm is the most that looks say against a pair."""
LOOK_ALIKES = 0.01
"""Believed part of the strangers who are look-alikes before any was seen at a site; their cosines
are ``ALIKE_AT`` of the way from strangers' to one person's, give or take ``ALIKE_WIDTH`` of it."""
ALIKE_AT, ALIKE_WIDTH = 0.6, 0.3
CHECKED_PAIRS = 50.0
"""How many pairs of strangers of a site that is worth."""
RARE = 5e-4
"""Nothing is believed to be rarer among strangers, unless more of them were seen."""
SURE_MAX = 0.999
"""No link is stated surer: beyond it some 3,000 checked ones without an error would be needed."""
PLACE_MAX = 6.0
OUTLIERS = 0.03
"""How often a reported position is plainly wrong (box on somebody else, bad pose); its logarithm
is the most that place can say against a pair, and less than looks can say for it."""
COMPANY, COMPANY_M = 0.05, 1.0
"""So many of the pairs of people that two cameras see at once walk side by side, so far apart in
each direction, metres."""
GAPS_S = np.array([0.0, 10.0, 30.0, 60.0, 120.0, 300.0])
"""Between two tracklets: where classes begin in which it is counted how often they are one person;
what overlaps is of the first."""
BY_GAP = (-4.0, 1.0)
GAP_PAIRS = 3.0
"""So many pairs of one person are believed to have been found in each class as expected."""
ARRIVALS_OVER_S = 60.0
"""Over less time how often new people come is not known."""
WALK_MPS = 1.3
FORGET_S = 10.0
"""After about so long out of sight a person may be anywhere."""
CUTS_MAX = 16
"""Members of a group from which cuts through it are looked for."""
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


@dataclass(frozen=True, eq=False)
class Looks:
    """What cosines of one view pair say, and what that has been held against."""

    normals: Normals
    strangers: Float64
    """Cosines of pairs that are known to be two people, ascending."""
    worth: float
    """So many of those pairs are different ones."""
    blind: bool = False
    """Nobody can be told apart by looks here: they say nothing (``telling``)."""

    @property
    def checked(self) -> float:
        """What they can come to by the strangers that were seen, and one odd pair in fifty."""
        return float(np.log((CHECKED_PAIRS + self.worth) * (1 - ODD_LOOKS)))

    def share(self, similarity: Float64) -> Float64:
        """Part of the strangers who look as alike or more; any shape."""
        below = np.searchsorted(self.strangers, similarity.ravel(), "left")
        count = len(self.strangers)
        return ((count - below) / max(count, 1)).reshape(similarity.shape)

    def odd(self, similarity: Float64) -> Float64:
        """Part of the strangers who look as alike, as far as is known; any shape."""
        n = self.normals
        apart = n.same_mean - n.different_mean
        by = (similarity - n.different_mean - ALIKE_AT * apart) / (ALIKE_WIDTH * apart)
        believed = np.maximum(LOOK_ALIKES * ndtr(-by), RARE)
        seen = CHECKED_PAIRS * believed + self.worth * self.share(similarity)
        out: Float64 = np.maximum(seen / (CHECKED_PAIRS + self.worth), 1 / (1 / RARE + self.worth))
        return out

    def says(self, similarity: Float64) -> tuple[Float64, Float64]:
        """Log-likelihood ratios of cosines of any shape, and the most that those can come to.

        Two normals, but some strangers look alike (``odd``), and some tracklets of one person do
        not: a share ``ODD_LOOKS`` of them is as strangers are.
        """
        if self.blind:
            return np.zeros(similarity.shape), np.zeros(similarity.shape)
        n, odd = self.normals, self.odd(similarity)
        same = np.exp(-0.5 * ((similarity - n.same_mean) / n.same_std) ** 2) / n.same_std
        other = np.exp(-0.5 * ((similarity - n.different_mean) / n.different_std) ** 2)
        other /= n.different_std
        tiny = 1e-30  # far from both, nothing is known
        llr = np.log(
            ((1 - ODD_LOOKS) * same + ODD_LOOKS * other + tiny)
            / ((1 - odd) * other + odd * same + tiny)
        )
        most = -np.log(odd)
        return np.minimum(llr, most), most

    def llr(self, similarity: Float64) -> Float64:
        """The former of what it ``says``."""
        return self.says(similarity)[0]


def place_llr(offset: Float64, covariance: Float64, area_m2: float) -> Float64:
    """What two positions at one moment say.

    One person: normal about no offset, or anywhere with probability ``OUTLIERS``. Different
    people: anywhere on the site, or beside each other with probability ``COMPANY``.

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
    one = np.exp(-0.5 * distance2) / (2 * np.pi * np.sqrt(det))
    side = (ee + nn) / 2 + COMPANY_M**2
    beside = np.exp(-0.5 * (east**2 + north**2) / side) / (2 * np.pi * side)
    two = (1 - COMPANY) / area_m2 + COMPANY * beside
    llr = np.log(((1 - OUTLIERS) * one + OUTLIERS / area_m2) / two)
    bounded: Float64 = np.clip(llr, np.log(OUTLIERS), PLACE_MAX)
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


def odds(evidence: Float64, prior: Float64, weight: Float64) -> float:
    """Log posterior odds that two groups are one person, from the pairs between them [N]."""
    mean = float(np.average(evidence, weights=weight))
    gain: float = len(evidence) ** ACCUMULATION
    return mean * gain + float(prior.mean())


def overlapping(camera: Int64, first_ns: Int64, last_ns: Int64, most: int) -> tuple[Int64, Int64]:
    """Pairs of tracklets that one camera saw at one time: certainly two people.

    Args:
        camera: [N] a number per camera.
        first_ns: [N] when each began.
        last_ns: [N] when each ended.
        most: how many pairs are looked at; those that began next to each other.

    Returns:
        two arrays of places in [N]
    """
    order = np.lexsort((first_ns, camera))
    reach = min(len(order) - 1, max(1, most // max(len(order), 1)))
    a = np.concatenate([order[:-d] for d in range(1, reach + 1)] or [order[:0]])
    b = np.concatenate([order[d:] for d in range(1, reach + 1)] or [order[:0]])
    together = (camera[a] == camera[b]) & (last_ns[a] > first_ns[b]) & (last_ns[b] > first_ns[a])
    return a[together], b[together]


def fullest(camera: Int64, first_ns: Int64, last_ns: Int64) -> int:
    """How many tracklets [N] the fullest moment of a camera shows; 1 at least."""
    out = 1
    for number in np.unique(camera):
        own = camera == number
        begun = np.searchsorted(np.sort(first_ns[own]), first_ns[own], "right")
        over = np.searchsorted(np.sort(last_ns[own]), first_ns[own], "left")
        out = max(out, int((begun - over).max()))
    return out


def arrivals_per_s(person: Int64, first_ns: Int64, last_ns: Int64) -> float:
    """New people a second.

    Who was there within ``FORGET_S`` of the beginning came before it.

    Args:
        person: [N] a number per person of each tracklet.
        first_ns: [N] when each began.
        last_ns: [N] when each ended.
    """
    if not len(person):
        return 0.0
    begin = np.full(int(person.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begin, person, first_ns)
    after_s = (begin - first_ns.min()) / 1e9 - FORGET_S
    span_s = float(last_ns.max() - first_ns.min()) / 1e9 - FORGET_S
    return float((after_s > 0).sum()) / max(span_s, ARRIVALS_OVER_S)


def open_after(at_s: Float64, before_s: Float64) -> Float64:
    """[N] of the moments ``before_s`` (ascending), how many have passed and been forgotten.

    A tracklet that ended t seconds ago is open to 1 - exp(-t / ``FORGET_S``): its person may be
    anywhere by then. Less the ``OUTLIERS`` that are open anyway.
    """
    if not len(before_s):
        return np.zeros(len(at_s))
    count = np.searchsorted(before_s, at_s, "right")
    latest = before_s[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        kept = np.concatenate([[0.0], np.cumsum(np.exp((before_s - latest) / FORGET_S))])
        recent = np.nan_to_num(np.exp((latest - at_s) / FORGET_S) * kept[count], nan=0.0)
    out: Float64 = (1 - OUTLIERS) * (count - np.minimum(recent, count))
    return out


def by_gap(evidence: Float64, prior: Float64, gap: Int64) -> Float64:
    """What to add to the prior of pairs so that as many are one person as their evidence says.

    A prior says among how many people somebody is; not how many of those who left come back, and
    after how long. That differs from site to site, and is counted here: in each class of gaps what
    is added makes the pairs expected to be one person beforehand as many as those found to be
    (expectation maximization; where evidence says nothing, nothing is added).

    Args:
        evidence: [P] log-likelihood ratios of pairs of a window.
        prior: [P] their log prior odds.
        gap: [P] class of each, a place in ``GAPS_S``.

    Returns:
        [len(GAPS_S)]
    """

    def count(of: Float64) -> Float64:
        return np.bincount(gap, expit(of), len(GAPS_S)).astype(np.float64)

    added: Float64 = np.zeros(len(GAPS_S))
    for _ in range(8):
        now = prior + added[gap]
        added += np.log((count(now + evidence) + GAP_PAIRS) / (count(now) + GAP_PAIRS))
    return np.clip(added, *BY_GAP)


def weakest_cuts(
    total: Float64, mass: Float64, prior: Float64, count: Float64, most: Float64, size: Float64
) -> Float64:
    """How sure each of some tracklets can be to show whom most of the others show.

    If a group is two people's, what joins them is the evidence across the cut between them, and
    however fast the parts hold together, the lesser one is no surer of the whole than that. The
    cuts are looked for from each member and the one that is least like it: the others go to the
    side that more speaks for.

    Args:
        total: [N, N] sums of weighted evidence between tracklets or groups; 0 with itself.
        mass: [N, N] of weights.
        prior: [N, N] of log priors.
        count: [N, N] numbers of pairs.
        most: [N, N] what the pairs can come to at most; ``-inf`` of each with itself.
        size: [N] tracklets of each.

    Returns:
        [N] log odds across the weakest of those cuts that each is not on the greater side of
    """
    n = len(total)
    seeds = np.unique(np.linspace(0, n - 1, min(n, CUTS_MAX)).round().astype(np.int64))
    alike = np.where(count > 0, total / np.maximum(mass, 1e-9), np.inf)
    far = np.argmin(alike[seeds], 1)
    at = np.arange(len(seeds))
    side: Bool = total[seeds] >= total[far]
    for _ in range(2):
        side[at, seeds], side[at, far] = True, False
        side = side @ total >= ~side @ total
    side[at, seeds], side[at, far] = True, False

    def across(table: Float64) -> Float64:
        summed: Float64 = ((side @ table) * ~side).sum(1)
        return summed

    pairs = across(count)
    before = across(prior) / pairs
    odds_of = across(total) / across(mass) * pairs**ACCUMULATION
    top = np.where(side[:, :, None] & ~side[:, None, :], most, -np.inf).max((1, 2))
    odds_of = np.minimum(odds_of, top) + before
    ours, theirs = side @ size, ~side @ size
    bound = np.full(n, np.inf)
    for part, own, others in ((side, ours, theirs), (~side, theirs, ours)):
        lesser = part & (own - 1 <= others)[:, None]
        bound = np.minimum(bound, np.where(lesser, odds_of[:, None], np.inf).min(0))
    return bound


def accept_from(fpir: float) -> float:
    """The posterior from which a link is accepted and not only tentative."""
    return 1 / (1 + fpir)
