"""From pairs of rows to the posterior odds of any grouping, calibrated on the window itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from skyreid.contract.identity_event import Evidence, LinkState, Match, TrackKey
from skyreid.server.matching.likelihood import (
    ACCUMULATION,
    GAPS_S,
    NONE,
    OUTLIERS,
    PLACE,
    STEP_S,
    SURE_MAX,
    TIME,
    Bool,
    Float64,
    Int64,
    Tables,
    accept_from,
    arrivals_per_s,
    by_gap,
    fullest,
    odds,
    open_after,
)
from skyreid.server.matching.looks import Appearance, short
from skyreid.server.matching.priors import Normals
from skyreid.server.matching.tracklets import Window

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
    gap: Int64
    """How long lies between them, as a place in ``GAPS_S``."""
    most: Float64
    """What looks can come to where nothing else speaks for the pair; ``inf`` where it does."""

    def only(self, some: Bool | slice) -> Pairs:
        """Some of them."""
        t = self.tables
        tables = Tables(*(getattr(t, name)[some] for name in _OF_TABLES))
        one, two, *rest = (getattr(self, name)[some] for name in _OF_PAIRS)
        return Pairs(one, two, tables, *rest)

    @property
    def evidence(self) -> Float64:
        """Log-likelihood ratio of looks and place together."""
        return self.appearance + self.tables.llr


PairsOf = Callable[[int], Pairs]
"""The pairs of one of several links."""
_OF_TABLES = tuple(field.name for field in fields(Tables))
_OF_PAIRS = tuple(field.name for field in fields(Pairs) if field.name != "tables")


class Scores:
    """A window with what is learned from it: means, calibration, and how many people are here."""

    def __init__(self, window: Window, priors: Mapping[str, Normals]) -> None:
        self.window = window
        self.looks = Appearance(window, priors)
        self._people, self._arrivals_per_s, self._others, self._placed = 2.0, 0.0, 0, 0
        self._ends, self._starts = np.zeros(0), np.zeros(0)  # of tracklets with positions, seconds
        self._rivals: Float64 = np.zeros(0)
        self._near: Float64 = np.zeros(0)
        self._by_gap: Float64 = np.zeros(len(GAPS_S))
        self._told_apart = 1
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

    def refresh(self, owner: Mapping[int, str | None], *, whole: bool = False) -> None:
        """Learn again, if a tenth of the window is new since; else only see to the new rows.

        Args:
            owner: which person each row is held to show, as far as that is known.
            whole: learn again in any case.
        """
        self._fit()
        rows = self.window.taken()
        if not len(rows):
            self._fresh.clear()
            return
        if whole or self._stale * 10 >= len(rows):
            self._stale = 0
            self._fresh.clear()
            self.window.measure_area()
            self.looks.centre(rows)
            self._crowd(rows, owner)
            self._count(rows)
            self._calibrate(rows)
            return
        alive = [row for row in set(self._fresh) if self.window.facts["alive"][row]]
        self._fresh.clear()
        if alive:
            new = np.array(sorted(alive), np.int64)
            self.looks.take(new)
            self._count(new)

    def between(self, a: Int64, b: Int64, tables: Tables | None = None) -> Pairs:
        """The pairs (``a[k]``, ``b[k]``), scored; ``tables`` as the window has them."""
        facts, tables = self.window.facts, tables or self.window.between(a, b)
        unrelated = np.isinf(tables.clock_s)
        similarity = self.looks.similarity(a, b)
        appearance, most = self.looks.says(a, b, similarity, unrelated)
        most[tables.llr > 0] = np.inf
        unseen_s = np.maximum(facts["first_ns"][a], facts["first_ns"][b])
        unseen_s = (unseen_s - np.minimum(facts["last_ns"][a], facts["last_ns"][b])) / 1e9
        came = self._arrivals_per_s * np.where(unrelated, 0.0, np.maximum(unseen_s, 0))
        prior = -0.5 * (np.log(self._rivals[a] + came) + np.log(self._rivals[b] + came))
        gap = np.searchsorted(GAPS_S[1:], unseen_s, "right")
        prior += np.where(unrelated, 0.0, self._by_gap[gap])
        weight = np.full(len(a), QUIET)
        placed = tables.kind != NONE
        unseen_s = tables.clock_s + np.where(tables.kind == TIME, tables.measure, 0.0)
        weight[placed] += (1 - QUIET) * np.exp(-unseen_s[placed] / 2.0)
        return Pairs(a, b, tables, similarity, appearance, prior, weight, gap, most)

    def links(self, rows: Sequence[int], groups: Sequence[Int64]) -> tuple[Float64, PairsOf]:
        """Log posterior odds that ``rows[k]`` belongs with ``groups[k]``; -inf if it cannot.

        A row is no evidence of itself: it is left out of its group, and alone in it is -inf.
        """
        others = [group[group != row] for row, group in zip(rows, groups, strict=True)]
        sizes = np.array([len(group) for group in others], np.int64)
        odds = np.full(len(rows), -np.inf)
        there = np.concatenate([*others, np.zeros(0, np.int64)])
        pairs = self.between(np.repeat(np.array(rows, np.int64), sizes), there)
        some = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[some]
        mass = np.add.reduceat(pairs.weight, starts)
        mean = np.add.reduceat(pairs.evidence * pairs.weight, starts) / mass
        prior = np.add.reduceat(pairs.prior, starts) / sizes[some]
        barred = np.logical_or.reduceat(pairs.tables.forbidden, starts)
        most = np.maximum.reduceat(pairs.most, starts)
        gain = np.minimum(mean * sizes[some] ** ACCUMULATION, most)
        odds[some] = np.where(barred, -np.inf, gain + prior)
        ends = np.cumsum(sizes).tolist()  # each is cut out when it is asked for: most never are
        return odds, lambda k: pairs.only(slice(ends[k] - int(sizes[k]), ends[k]))

    def reason(self, log_odds: float, pairs: Pairs, held: Float64, fpir: float) -> Match:
        """The stated reason for a link of a row with others, as ``links`` gave them.

        The evidence is its clearest pair's. What speaks for it only by way of somebody in doubt
        (``held`` [P], log odds of that one's own link; ``inf`` of those who are not) is in doubt.
        """
        t = pairs.tables
        j = int(np.argmax(pairs.evidence * np.sqrt(pairs.weight)))
        doubtful = np.isfinite(held)
        if doubtful.any():
            through = float(held[j] if doubtful[j] else held[doubtful].max())
            sure = -np.inf
            if not doubtful.all():
                some = pairs.only(~doubtful)
                sure = odds(some.evidence, some.prior, some.weight, some.most)
            log_odds = min(log_odds, max(sure, through))
        evidence = [
            self.looks.evidence(
                int(pairs.a[j]), int(pairs.b[j]), pairs.appearance[j], pairs.similarity[j]
            )
        ]
        if t.kind[j] == PLACE:
            evidence.append(Evidence("place", short(t.llr[j]), short(t.measure[j])))
        elif t.kind[j] == TIME:
            evidence.append(Evidence("time", short(t.llr[j]), short(t.measure[j])))
        if np.isinf(t.clock_s[j]):
            evidence.append(Evidence("clock", 0.0))
        elif t.clock_s[j] > 0 or t.kind[j] == TIME:
            evidence.append(Evidence("clock", 0.0, short(t.clock_s[j])))
        evidence.append(Evidence("prior", short(pairs.prior[j])))
        probability = 1 / (1 + math.exp(-max(min(log_odds, 50.0), -50.0)))
        state: LinkState = "accepted" if probability >= accept_from(fpir) else "tentative"
        other: TrackKey = self.window.at(int(pairs.b[j])).key
        return Match(state, short(min(probability, SURE_MAX)), other, tuple(evidence))

    def _fit(self) -> None:
        self.looks.fit()
        more = len(self.window.facts) - len(self._near)
        self._rivals = np.pad(self._rivals, (0, more), constant_values=1.0)
        self._near = np.pad(self._near, (0, more))

    def _crowd(self, rows: Int64, owner: Mapping[int, str | None]) -> None:
        """How many are here: those of the fullest moment of a camera; and when all were seen."""
        facts, half_ns = self.window.facts[rows], self.window.tolerance_ns // 2
        camera, first_ns, last_ns = self.window.stretches(rows)
        most = fullest(camera, first_ns + half_ns, last_ns - half_ns)
        self._people = 1 + float(most)
        held = [row for row in rows.tolist() if owner.get(row) is not None]
        person = np.unique([str(owner[row]) for row in held], return_inverse=True)[1]
        of = self.window.facts[np.array(held, np.int64)]
        self._arrivals_per_s = arrivals_per_s(person, of["first_ns"], of["last_ns"])
        self._told_apart = max(most, len(np.unique(person)))
        placed = facts[facts["end"] > facts["start"]]
        self._others = len(rows) - 1
        self._placed = len(placed)
        self._ends = np.sort(placed["end"] * STEP_S)
        self._starts = np.sort(placed["start"] * STEP_S)

    def _count(self, rows: Int64) -> None:
        """How many each row has to be told from."""
        facts = self.window.facts[rows]
        free = np.full(len(rows), float(max(self._others, 0)))
        seen = facts["end"] > facts["start"]
        some = np.flatnonzero(seen)
        if len(some):
            gone = open_after(facts["start"][some] * STEP_S, self._ends)
            gone += open_after(-facts["end"][some] * STEP_S, np.sort(-self._starts))
            here = OUTLIERS * (self._placed - 1)  # whom place excludes may yet be a bad pose's
            free[some] = self._others + 1 - self._placed + here + gone + self._near[rows[some]]
        share = np.clip(free / max(self._others, 1), 0.0, 1.0)
        self._rivals[rows] = 1 + self._people * share

    def _calibrate(self, rows: Int64) -> None:
        facts = self.window.facts
        order = rows[np.lexsort((rows, facts["last_ns"][rows]))]
        reach = min(len(order) - 1, max(1, SAMPLE // len(order)))
        # Half of them neighbours in time, of whom place can tell; the others ever farther off.
        far = np.geomspace(reach // 2 + 1, max(len(order) - 1, reach // 2 + 1), reach - reach // 2)
        steps = np.unique([*range(1, reach // 2 + 1), *far.astype(np.int64)])[: len(order) - 1]
        a = np.concatenate([*(order[:-d] for d in steps), order[:0]])
        b = np.concatenate([*(order[d:] for d in steps), order[:0]])
        tables = self.window.between(a, b)
        self.looks.learn(rows, a, b, tables, self._told_apart)
        self._by_gap = np.zeros(len(GAPS_S))
        pairs = self.between(a, b, tables)
        pairs = pairs.only(~tables.forbidden & ~np.isinf(tables.clock_s))
        self._by_gap = by_gap(pairs.evidence, pairs.prior, pairs.gap)


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
