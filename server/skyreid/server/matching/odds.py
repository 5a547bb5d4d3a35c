"""From pairs of rows to the posterior odds of any grouping, calibrated on the window itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from skyreid.contract.identity_event import Evidence, LinkState, Match, TrackKey
from skyreid.contract.sighting import View
from skyreid.server.matching.likelihood import (
    ACCUMULATION,
    APPEARANCE_MAX,
    FORGET_S,
    OUTLIERS,
    Bool,
    Float32,
    Float64,
    Int64,
    Normals,
    appearance_llr,
    calibrate,
    prior_of,
    shifts,
    view_pair,
)
from skyreid.server.matching.tracklets import NONE, PLACE, STEP_S, TIME, Tables, Window

CENTRING = 5.0
"""Tracklets that weigh as much as the mean one level up (see ``likelihood.shifts``)."""
PRIOR_PAIRS = 30.0
"""How many pairs a prior of the score calibration is worth."""
QUIET = 0.05
"""Weight of a pair that nothing but looks and lapse of time speaks about, against one whose
places can be compared: in a group the latter know better."""
SAMPLE = 4096
"""Pairs that scores are calibrated on: of neighbours in time, whatever they look like."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of rows, scored; every array is [P]."""

    a: Int64
    b: Int64
    tables: Tables
    similarity: Float64
    appearance: Float64
    """Log-likelihood ratio of the looks; 0 across models, which say nothing of each other."""
    prior: Float64
    """Log of how few of the people here the pair could be by place alone; negative."""
    weight: Float64
    """How much a pair has to say where there are several."""

    @property
    def evidence(self) -> Float64:
        """Log-likelihood ratio of looks and place together."""
        return self.appearance + self.tables.llr


class Scores:
    """A window with what is learned from it: means, calibration, and how many people are here."""

    def __init__(self, window: Window, priors: Mapping[str, Normals]) -> None:
        self.window = window
        self._priors = priors
        self.unit: Float32 = np.zeros((0, 1), np.float32)
        """[rows, D] embeddings less the mean look of their camera."""
        self._shift: dict[tuple[int, int, int], Float64] = {}
        self._people, self._others, self._placed = 2.0, 0, 0
        self._ends, self._starts = np.zeros(0), np.zeros(0)  # of tracklets with positions, seconds
        self._rivals: Float64 = np.zeros(0)
        self._near: Float64 = np.zeros(0)
        self._normals: dict[tuple[int, int], Normals] = {}
        self._stale = 0
        self._fresh: list[int] = []

    def touched(self, row: int) -> None:
        """A row was put."""
        self._fresh.append(row)
        self._stale += 1

    def near(self, rows: Int64, open_to: Float64) -> None:
        """Of some rows, how many more than time alone leaves open place does (or fewer)."""
        self._fit()
        self._near[rows] = open_to
        self._count(rows)

    def near_as_others(self, known: Int64, rest: Int64) -> None:
        """For rows whose neighbours were not looked at: as many as those of others on average."""
        self._near[rest] = self._near[known].mean() if len(known) else 0.0
        self._count(rest)

    def refresh(self, *, whole: bool = False) -> None:
        """Learn again, if a tenth of the window is new since; else only see to the new rows."""
        self._fit()
        rows = self.window.taken()
        if not len(rows):
            self._fresh.clear()
            return
        if whole or self._stale * 10 >= len(rows):
            self._stale = 0
            self._fresh.clear()
            self.window.measure_area()
            self._centre(rows)
            self._crowd(rows)
            self._count(rows)
            self._calibrate(rows)
            return
        alive = [row for row in set(self._fresh) if self.window.facts["alive"][row]]
        self._fresh.clear()
        if alive:
            new = np.array(sorted(alive), np.int64)
            self._shifted(new)
            self._count(new)

    def between(self, a: Int64, b: Int64) -> Pairs:
        """The pairs (``a[k]``, ``b[k]``), scored."""
        facts, tables = self.window.facts, self.window.between(a, b)
        similarity = np.einsum("ij,ij->i", self.unit[a], self.unit[b]).astype(np.float64)
        alien = facts["model"][a] != facts["model"][b]
        similarity[alien] = 0.0
        appearance = np.zeros(len(a))
        low = np.minimum(facts["view"][a], facts["view"][b])
        high = np.maximum(facts["view"][a], facts["view"][b])
        for (one, two), normals in self._normals.items():
            of_pair = (low == one) & (high == two)
            appearance[of_pair] = appearance_llr(similarity[of_pair], normals)
        appearance[alien] = 0.0
        prior = -0.5 * (self._rivals[a] + self._rivals[b])
        weight = np.full(len(a), QUIET)
        placed = tables.kind != NONE
        unseen_s = tables.clock_s + np.where(tables.kind == TIME, tables.measure, 0.0)
        weight[placed] += (1 - QUIET) * np.exp(-unseen_s[placed] / 2.0)
        return Pairs(a, b, tables, similarity, appearance, prior, weight)

    def links(self, rows: Sequence[int], groups: Sequence[Int64]) -> tuple[Float64, list[Pairs]]:
        """Log posterior odds that ``rows[k]`` belongs with ``groups[k]``; -inf if it cannot.

        A row is no evidence of itself: it is left out of its group, and alone in it is -inf.
        """
        others = [group[group != row] for row, group in zip(rows, groups, strict=True)]
        sizes = np.array([len(group) for group in others], np.int64)
        odds = np.full(len(rows), -np.inf)
        if not sizes.sum():
            return odds, []
        pairs = self.between(np.repeat(np.array(rows, np.int64), sizes), np.concatenate(others))
        some = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[some]
        mass = np.add.reduceat(pairs.weight, starts)
        mean = np.add.reduceat(pairs.evidence * pairs.weight, starts) / mass
        prior = np.add.reduceat(pairs.prior, starts) / sizes[some]
        barred = np.logical_or.reduceat(pairs.tables.forbidden, starts)
        odds[some] = np.where(barred, -np.inf, mean * sizes[some] ** ACCUMULATION + prior)
        return odds, _sliced(pairs, sizes)

    def match(self, row: int, group: Int64, fpir: float) -> Match:
        """The stated reason for a link of a row with others of its group."""
        (odds,), (pairs,) = self.links([row], [group])
        return self.reason(float(odds), pairs, fpir)

    def reason(self, log_odds: float, pairs: Pairs, fpir: float) -> Match:
        """The same for what ``links`` gave: the evidence is its clearest pair's."""
        t = pairs.tables
        if not (t.llr > 0).any():
            # Looks alone: many pairs of them are still one kind of evidence, and bounded as one.
            log_odds = min(log_odds, APPEARANCE_MAX + float(pairs.prior.mean()))
        j = int(np.argmax(pairs.evidence * np.sqrt(pairs.weight)))
        evidence = [
            Evidence("appearance", _short(pairs.appearance[j]), _short(pairs.similarity[j]))
        ]
        if t.kind[j] == PLACE:
            evidence.append(Evidence("place", _short(t.llr[j]), _short(t.measure[j])))
        elif t.kind[j] == TIME:
            evidence.append(Evidence("time", _short(t.llr[j]), _short(t.measure[j])))
        if np.isinf(t.clock_s[j]):
            evidence.append(Evidence("clock", 0.0))
        elif t.clock_s[j] > 0 or t.kind[j] == TIME:
            evidence.append(Evidence("clock", 0.0, _short(t.clock_s[j])))
        evidence.append(Evidence("prior", _short(pairs.prior[j])))
        probability = 1 / (1 + math.exp(-max(min(log_odds, 50.0), -50.0)))
        state: LinkState = "accepted" if probability >= accept_from(fpir) else "tentative"
        other: TrackKey = self.window.at(int(pairs.b[j])).key
        return Match(state, _short(probability), other, tuple(evidence))

    def _fit(self) -> None:
        shape = self.window.vectors.shape
        if self.unit.shape != shape:
            for name, old in (("_rivals", self._rivals), ("_near", self._near)):
                grown = np.zeros(shape[0])
                grown[: len(old)] = old
                setattr(self, name, grown)
            unit = np.zeros(shape, np.float32)
            unit[: len(self.unit), : self.unit.shape[1]] = self.unit
            self.unit = unit

    def _centre(self, rows: Int64) -> None:
        facts = self.window.facts[rows]
        self._shift = shifts(
            self.window.vectors[rows], facts["model"], facts["view"], facts["eye"], CENTRING
        )
        self._shifted(rows)

    def _shifted(self, rows: Int64) -> None:
        facts = self.window.facts[rows]
        unit = self.window.vectors[rows].astype(np.float64)
        names = np.stack([facts["model"], facts["view"], facts["eye"]], 1)
        kinds, which = np.unique(names, axis=0, return_inverse=True)
        which = which.reshape(-1)
        for number, (model, view, eye) in enumerate(kinds.tolist()):
            # A camera that is new since: less the mean of its view, until more is learned.
            shift = self._shift.get((model, view, eye), self._shift.get((model, view, -1)))
            if shift is not None:
                width = len(shift)
                unit[which == number, :width] -= shift
        length = np.linalg.norm(unit, axis=1, keepdims=True)
        self.unit[rows] = unit / np.maximum(length, 1e-9)

    def _crowd(self, rows: Int64) -> None:
        """How many people are here: about as many as the fullest moment of a camera shows.

        Beside that, for each moment how many tracklets time leaves open to somebody seen then.
        """
        facts, half_ns = self.window.facts[rows], self.window.tolerance_ns // 2
        fullest = 1
        for camera in np.unique(facts["camera"]):
            own = np.flatnonzero(facts["camera"] == camera)
            first = np.sort(facts["first_ns"][own] + half_ns)
            last = np.sort(facts["last_ns"][own] - half_ns)
            begun = np.searchsorted(first, facts["first_ns"][own] + half_ns, "right")
            over = np.searchsorted(last, facts["first_ns"][own] + half_ns, "left")
            fullest = max(fullest, int((begun - over).max()))
        self._people = 1 + float(fullest)
        placed = facts[facts["end"] > facts["start"]]
        self._others = len(rows) - 1
        self._placed = len(placed)
        self._ends, self._starts = (
            np.sort(placed["end"] * STEP_S),
            np.sort(placed["start"] * STEP_S),
        )

    def _count(self, rows: Int64) -> None:
        """Logarithm of how many each row has to be told from."""
        facts = self.window.facts[rows]
        free = np.full(len(rows), float(max(self._others, 0)))
        seen = facts["end"] > facts["start"]
        some = np.flatnonzero(seen)
        if len(some):
            gone = _open(facts["start"][some] * STEP_S, self._ends)
            gone += _open(-facts["end"][some] * STEP_S, np.sort(-self._starts))
            here = OUTLIERS * (self._placed - 1)  # whom place excludes may yet be a bad pose's
            free[some] = self._others + 1 - self._placed + here + gone + self._near[rows[some]]
        share = np.clip(free / max(self._others, 1), 0.0, 1.0)
        self._rivals[rows] = np.log(1 + self._people * share)

    def _calibrate(self, rows: Int64) -> None:
        facts = self.window.facts
        order = rows[np.lexsort((rows, facts["last_ns"][rows]))]
        reach = min(len(order) - 1, max(1, SAMPLE // len(order)))
        a = np.concatenate([order[:-d] for d in range(1, reach + 1)] or [order[:0]])
        b = np.concatenate([order[d:] for d in range(1, reach + 1)] or [order[:0]])
        tables = self.window.between(a, b)
        similarity = np.einsum("ij,ij->i", self.unit[a], self.unit[b]).astype(np.float64)
        alike = facts["model"][a] == facts["model"][b]
        apart = (facts["eye"][a] != facts["eye"][b]) & (tables.kind == PLACE)
        same = alike & apart & (tables.llr >= 3.0) & (tables.shared_s >= 2.0)
        different: Bool = alike & ((apart & (tables.llr <= -3.0)) | tables.forbidden)
        low = np.minimum(facts["view"][a], facts["view"][b])
        high = np.maximum(facts["view"][a], facts["view"][b])
        views = sorted(set(facts["view"][rows].tolist()))
        self._normals = {}
        for one in views:
            for two in [v for v in views if v >= one]:
                of_pair = (low == one) & (high == two)
                self._normals[one, two] = calibrate(
                    similarity,
                    different & of_pair,
                    same & of_pair,
                    similarity[different],
                    prior_of(self._priors, view_pair(View(one).word, View(two).word)),
                    pairs=PRIOR_PAIRS,
                )


def open_beyond_time(pairs: Pairs) -> Float64:
    """[P] how many rivals each pair is beyond what its moments alone say (see ``_open``)."""
    t = pairs.tables
    unseen_s = np.where(t.kind == TIME, t.measure, 0.0)
    assumed = OUTLIERS + (1 - OUTLIERS) * (1 - np.exp(-unseen_s / FORGET_S))
    actual = np.exp(np.minimum(t.llr, 0.0)) * ~t.forbidden
    return np.where(t.kind == NONE, 0.0, actual - assumed)


def assign(tracklets: int, asked: Sequence[tuple[int, str]], odds: Float64) -> list[int | None]:
    """Which link each tracklet of one camera takes (Hungarian); None = somebody new.

    Tracklets of one camera at one time are different people, so each identity is given at most
    once; the sum of the odds is the greatest possible, with 0 for "new".

    Args:
        tracklets: how many there are.
        asked: [links] tracklet and identity of each link.
        odds: [links] log posterior odds against "new"; -inf = impossible.

    Returns:
        [tracklets] places in ``asked``
    """
    chosen: list[int | None] = [None] * tracklets
    good = [k for k in range(len(asked)) if odds[k] > 0]
    columns: dict[str, int] = {}
    rows = np.array([asked[k][0] for k in good], np.int64)
    names = np.array([columns.setdefault(asked[k][1], len(columns)) for k in good], np.int64)
    if not good:
        return chosen
    # Tracklets that share no identity do not concern each other.
    size = tracklets + len(columns)
    graph = coo_matrix((np.ones(len(good)), (rows, names + tracklets)), (size, size))
    part = connected_components(graph, directed=False)[1][rows]
    for number in np.unique(part):
        links = np.flatnonzero(part == number)
        ours, row = np.unique(rows[links], return_inverse=True)
        theirs, column = np.unique(names[links], return_inverse=True)
        table = np.zeros((len(ours), len(theirs) + len(ours)))
        table[:, : len(theirs)] = -1e6
        which = np.full((len(ours), len(theirs)), -1, np.int64)
        for link, r, c in zip(links.tolist(), row.tolist(), column.tolist(), strict=True):
            table[r, c], which[r, c] = odds[good[link]], good[link]
        for r, c in zip(*linear_sum_assignment(table, maximize=True), strict=True):
            if c < len(theirs) and which[r, c] >= 0:
                chosen[int(ours[r])] = int(which[r, c])
    return chosen


def accept_from(fpir: float) -> float:
    """The posterior from which a link is accepted and not only tentative."""
    return 1 / (1 + fpir)


def _open(at_s: Float64, before_s: Float64) -> Float64:
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


def _sliced(pairs: Pairs, sizes: Int64) -> list[Pairs]:
    out, at = [], 0
    for size in sizes.tolist():
        cut = slice(at, at + size)
        t = pairs.tables
        tables = Tables(
            t.llr[cut],
            t.kind[cut],
            t.measure[cut],
            t.shared_s[cut],
            t.forbidden[cut],
            t.clock_s[cut],
        )
        out.append(
            Pairs(
                pairs.a[cut],
                pairs.b[cut],
                tables,
                pairs.similarity[cut],
                pairs.appearance[cut],
                pairs.prior[cut],
                pairs.weight[cut],
            )
        )
        at += size
    return out


def _short(value: float) -> float:
    return round(float(value), 4)
