"""Evidence as log-likelihood ratios: what place, time and company say; of looks see ``looks``.

Every ratio is natural-logarithm p(measured | same person) / p(measured | different people) and is
bounded on both sides, so that no single kind of evidence can decide against all others: a camera
pose may be wrong, and so may a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

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
NONE, PLACE, TIME = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Tables:
    """What is known of P pairs of tracklets; every array is [P]."""

    llr: Float64
    """Of place, or of time where the tracklets never coincide; 0 where nothing is known."""
    kind: NDArray[np.int8]
    """``NONE``, ``PLACE`` or ``TIME``."""
    measure: Float64
    """Metres for ``PLACE``, seconds for ``TIME``."""
    shared_s: Float64
    """How long both positions are known."""
    forbidden: Bool
    """Pairs seen by one camera at one time: certainly two people."""
    clock_s: Float64
    """How far the two clocks may be apart: both errors together, 0 within one camera; ``inf``
    where the clocks are unrelated."""


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
