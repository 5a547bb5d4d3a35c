"""Evidence as log-likelihood ratios: what place, time and company say; of looks see ``looks``.

Every ratio is natural-logarithm p(measured | same person) / p(measured | different people) and is
bounded on both sides, so that no single kind of evidence can decide against all others: a camera
pose may be wrong, and so may a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skyreid.contract.sighting import Pause

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Facts = NDArray[np.void] | Mapping[str, Int64]

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
STEP_S = 0.25
"""Between two points of a path."""
PAIRS_AT_ONCE = 8192
"""Pairs whose pauses are compared at a time: each tracklet may have 32."""
NONE, PLACE, TIME = 0, 1, 2
SEEN = ("camera", "first_ns", "last_ns")


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


def odds(evidence: Float64, prior: Float64, weight: Float64, most: Float64) -> float:
    """Log posterior odds that two groups are one person, from the pairs between them [N].

    ``most`` is what each pair can come to where nothing but looks speaks for it: many pairs of
    looks are still one kind of evidence, and bounded as the clearest of them is.
    """
    mean = float(np.average(evidence, weights=weight))
    gain: float = len(evidence) ** ACCUMULATION
    return min(mean * gain, float(most.max())) + float(prior.mean())


class Unseen:
    """Pauses of the rows of a window.

    A tracklet that went on after its person was lost spans seconds in which they may have been
    followed as somebody else: only two of one camera who were both *seen* at once are two people.
    """

    def __init__(self) -> None:
        self._pauses: Int64 = np.zeros((0, 0, 2), np.int64)
        """[rows, most, 2] from and until, nanoseconds; of a row with fewer the rest is empty."""
        self._total_ns: Int64 = np.zeros(0, np.int64)

    def put(self, row: int, pauses: Sequence[Pause]) -> None:
        """Those of a row, in place of what it had."""
        rows, most = self._pauses.shape[:2]
        if row >= rows or len(pauses) > most:
            grown = max(2 * row + 1, rows) if row >= rows else rows
            more = ((0, grown - rows), (0, max(len(pauses), most) - most), (0, 0))
            self._pauses = np.pad(self._pauses, more)
            self._total_ns = np.pad(self._total_ns, more[0])
        if pauses or self._total_ns[row]:
            said = [(pause.begin_ns, pause.end_ns) for pause in pauses]
            self._pauses[row] = 0
            self._pauses[row, : len(said)] = np.array(said, np.int64).reshape(-1, 2)
            self._total_ns[row] = sum(end_ns - begin_ns for begin_ns, end_ns in said)

    def at_once(self, a: Int64, b: Int64, one: Facts, two: Facts, tolerance_ns: int) -> Bool:
        """[P] pairs of rows that one camera saw at once for longer than is tolerated.

        ``one`` and ``two`` are [P] what the rows are compared by, ``SEEN`` at least.
        """
        out: Bool = (one["camera"] == two["camera"]) & (a != b)
        own = np.flatnonzero(out)
        begin_ns = np.maximum(one["first_ns"][own], two["first_ns"][own])
        end_ns = np.minimum(one["last_ns"][own], two["last_ns"][own])
        beyond_ns = end_ns - begin_ns - tolerance_ns
        out[own] = beyond_ns > 0
        a, b = a[own], b[own]
        unsure = (beyond_ns > 0) & (beyond_ns <= self._total_ns[a] + self._total_ns[b])
        some = np.flatnonzero(unsure)
        for at in (some[k : k + PAIRS_AT_ONCE] for k in range(0, len(some), PAIRS_AT_ONCE)):
            both_ns = self._both_ns(a[at], b[at], begin_ns[at], end_ns[at])
            out[own[at]] = both_ns > tolerance_ns
        return out

    def stretches(self, facts: Facts, rows: Int64) -> tuple[Int64, Int64, Int64]:
        """Rows [N] as the stretches [S] in which they were seen: camera, all first, all last.

        The k-th first and the k-th last are of one camera, not of one stretch.
        """
        pauses, (camera, first, last) = self._of(rows), (facts[name][rows] for name in SEEN)
        row, k = np.nonzero(pauses[:, :, 1])
        begin_ns, end_ns = pauses[row, k].T
        joined = np.concatenate
        return joined([camera, camera[row]]), joined([first, end_ns]), joined([last, begin_ns])

    def _both_ns(self, a: Int64, b: Int64, begin_ns: Int64, end_ns: Int64) -> Int64:
        """[P] for how long neither of two rows has a pause, within a stretch of time."""
        said = np.concatenate([self._of(a), self._of(b)], 1)
        said = np.clip(said, begin_ns[:, None, None], end_ns[:, None, None])
        # The k-th end before the next beginning, each in order: no pause goes on there.
        begins, ends = np.moveaxis(np.sort(said, 1), 2, 0)
        begins = np.concatenate([begins, end_ns[:, None]], 1)
        ends = np.concatenate([begin_ns[:, None], ends], 1)
        out: Int64 = np.maximum(begins - ends, 0).sum(1)
        return out

    def _of(self, rows: Int64) -> Int64:
        """[len(rows), most, 2] of some rows, as many as the one with most has."""
        pauses = self._pauses[rows]
        most = int((pauses[:, :, 1] > 0).sum(1).max(initial=0))
        return pauses[:, :most]


def on_grid(path: Float64, pauses: Sequence[Pause] = ()) -> tuple[int, Float64]:
    """A path at multiples of ``STEP_S``: number of the first point, and points [M, 5].

    In a pause somebody is between two places, and nobody knows where: there the covariance grows by
    a walk in an unknown direction, from the nearer end of it.
    """
    if not len(path):
        return 0, np.zeros((0, 5))
    moments, known = path[:, 0], path[:, 1:]
    start = round(moments[0] / STEP_S)
    at = np.arange(start, round(moments[-1] / STEP_S) + 1) * STEP_S
    k = np.searchsorted(moments[1:-1], at, "right")
    after = np.minimum(k + 1, len(path) - 1)
    part = (at - moments[k]) / np.maximum(moments[after] - moments[k], 1e-9)
    points: Float64 = known[k] + np.clip(part, 0.0, 1.0)[:, None] * (known[after] - known[k])
    for pause in pauses:
        away_s = np.minimum(at - pause.begin_ns / 1e9, pause.end_ns / 1e9 - at)
        points[:, [2, 4]] += (WALK_MPS * np.maximum(away_s, 0.0))[:, None] ** 2 / 2
    return start, points


def in_turn(camera: Int64, first_ns: Int64, most: int) -> tuple[Int64, Int64]:
    """Pairs of tracklets of one camera that began next to each other.

    Args:
        camera: [N] a number per camera.
        first_ns: [N] when each began.
        most: how many pairs are looked at.

    Returns:
        two arrays of places in [N]
    """
    order = np.lexsort((first_ns, camera))
    reach = min(len(order) - 1, max(1, most // max(len(order), 1)))
    a = np.concatenate([order[:-d] for d in range(1, reach + 1)] or [order[:0]])
    b = np.concatenate([order[d:] for d in range(1, reach + 1)] or [order[:0]])
    own = camera[a] == camera[b]
    return a[own], b[own]


def fullest(camera: Int64, first_ns: Int64, last_ns: Int64) -> int:
    """How many stretches [N] of people seen the fullest moment of a camera shows; 1 at least."""
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
