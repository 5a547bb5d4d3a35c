"""Agglomerative clustering of a sparse graph of tracklets: who is compared with whom, who is who.

Candidates are exact: nobody who was near and nobody who looks alike is overlooked, up to the number
that is asked for. Who may *not* be one person is no matter of candidates: before two groups join,
all pairs between them are looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from skyreid.server.matching.likelihood import (
    ACCUMULATION,
    FORGET_S,
    NONE,
    OUTLIERS,
    STEP_S,
    TIME,
    WALK_MPS,
    Bool,
    Float64,
    Int64,
)
from skyreid.server.matching.odds import Pairs, Scores
from skyreid.server.matching.tracklets import UNRELATED_S

T = TypeVar("T")

ALIKE = 40
"""The most alike of the window that are looked at."""
NEAR = 24
"""The nearest in place and time that are looked at; with ``ALIKE`` and some of a tracklet's own
group 64 edges at most."""
REACH_M = 3.0
"""So far off two positions of one moment may be one person, beyond what covariance says."""
REACH_S = 1.5 * FORGET_S
"""After so long out of sight place says nothing."""
ROWS_AT_ONCE = 256
"""Rows that are compared with all others at a time."""
PAIRS_AT_ONCE = 32
"""So many pairs of groups that are next to join are scored wholly at a time."""
SETTLED_FROM = 1.1
"""Log odds (three in four) from which somebody joins a settled group: nobody takes it apart again.
Who is less sure is somebody of their own, of whom a return may be told."""
A_PIECE = 32
"""Joins and looks in a piece of work."""
SUMS_A_PIECE = 8192
"""Pairs of groups that are noted in a piece of work."""


def candidates(scores: Scores, rows: Int64, among: Int64) -> list[Int64]:
    """For each of ``rows``, the rows of ``among`` that it is worth comparing with, ascending.

    Counts on the way how many rivals place leaves to each (see ``Scores.near``).
    """
    if len(among) <= ALIKE + NEAR:
        out = [among[among != row] for row in rows.tolist()]
        pairs = scores.between(np.repeat(rows, len(among)), np.tile(among, len(rows)))
        open_to = open_beyond_time(pairs).reshape(len(rows), len(among))
        open_to[rows[:, None] == among[None]] = 0.0
        scores.near(rows, open_to.sum(1))
    else:
        out = []
        for at in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[at : at + ROWS_AT_ONCE]
            near = _near(scores, some, among)
            alike = _alike(scores, some, among)
            out += [np.union1d(one, two) for one, two in zip(near, alike, strict=True)]
    return out


def open_beyond_time(pairs: Pairs) -> Float64:
    """[P] how many rivals each pair is beyond what its moments alone say (see ``open_after``)."""
    t = pairs.tables
    unseen_s = np.where(t.kind == TIME, t.measure, 0.0)
    assumed = OUTLIERS + (1 - OUTLIERS) * (1 - np.exp(-unseen_s / FORGET_S))
    actual = np.exp(np.minimum(t.llr, 0.0)) * ~t.forbidden
    return np.where(t.kind == NONE, 0.0, actual - assumed)


def unique_pairs(rows: Int64, partners: list[Int64]) -> tuple[Int64, Int64]:
    """Each pair of a row and one of its partners once, the lower row first."""
    a = np.repeat(rows, [len(p) for p in partners])
    b = np.concatenate([*partners, np.zeros(0, np.int64)])
    low, high = np.minimum(a, b), np.maximum(a, b)
    names = np.unique(low << 32 | high)
    return names >> 32, names & 0xFFFFFFFF


def _alike(scores: Scores, rows: Int64, among: Int64) -> list[Int64]:
    camera, model = (scores.window.facts[name] for name in ("camera", "model"))
    similarity = scores.looks.alike(rows, among)
    similarity[rows[:, None] == among] = -2.0
    similarity[model[rows][:, None] != model[among]] = -2.0
    of, by = np.nonzero(camera[rows][:, None] == camera[among])
    barred = scores.window.at_once(rows[of], among[by])
    similarity[of[barred], by[barred]] = -2.0
    chosen = np.argpartition(-similarity, ALIKE, axis=1)[:, :ALIKE]
    good = np.take_along_axis(similarity, chosen, 1) > 0.0
    return [np.sort(among[c[g]]) for c, g in zip(chosen, good, strict=True)]


def _near(scores: Scores, rows: Int64, among: Int64) -> list[Int64]:
    """The nearest of each row, in place and time."""
    window = scores.window
    none = np.zeros(0, np.int64)
    facts = window.facts
    seen = np.flatnonzero(facts["end"][rows] > facts["start"][rows])
    if not len(seen):
        return [none] * len(rows)
    mine = rows[seen]
    margin = round(REACH_S / STEP_S)
    low, high = facts["start"][mine].min() - margin, facts["end"][mine].max() + margin
    others = facts[among]
    active = (others["end"] > others["start"]) & (others["end"] >= low) & (others["start"] <= high)
    theirs = among[active]
    closeness = np.full((len(mine), len(theirs)), np.inf)
    if len(theirs):
        one, two = mine[:, None], theirs[None]
        for point in (facts["end"][mine][:, None] - 1, facts["end"][theirs][None] - 1):
            np.minimum(closeness, _closeness(scores, one, two, point), out=closeness)
        closeness[one == two] = np.inf
    out = [none] * len(rows)
    within = closeness <= 1.0
    counted: list[Int64] = []
    stand_for: list[Float64] = []
    for k in range(len(mine)):
        found = np.flatnonzero(within[k])
        found = found[np.lexsort((found, closeness[k, found]))]
        out[int(seen[k])] = np.sort(theirs[found[:NEAR]])
        # Those farther off are rivals of another measure than the nearest: some stand for them.
        every = max(1, -(-(len(found) - NEAR) // NEAR))
        rest = found[NEAR::every]
        counted += [theirs[found[:NEAR]], theirs[rest]]
        share = max(len(found) - NEAR, 0) / max(len(rest), 1)
        stand_for.append(np.repeat([1.0, share], [min(len(found), NEAR), len(rest)]))
    of = np.repeat(np.arange(len(mine)), [len(each) for each in stand_for])
    pairs = scores.between(mine[of], np.concatenate(counted))
    beyond = open_beyond_time(pairs) * np.concatenate(stand_for)
    open_to = np.zeros(len(mine))
    np.add.at(open_to, of, beyond)
    scores.near(mine, open_to)
    return out


def _closeness(scores: Scores, one: Int64, two: Int64, point: Int64) -> Float64:
    """[len(one), len(two)] distance at a point of time, over how far a person may have come."""
    window = scores.window
    east, north, short = window.where(one, point)
    east2, north2, short2 = window.where(two, point)
    gap_s = (short + short2) * STEP_S
    tail = window.facts["tail"]
    variance = (tail[:, 3] + tail[:, 5])[one] + (tail[:, 3] + tail[:, 5])[two]
    reach = REACH_M + 2 * np.sqrt(variance) + 1.5 * WALK_MPS * gap_s
    distance = np.hypot(east - east2, north - north2)
    error_s = (window.facts["error_ms"][one] + window.facts["error_ms"][two]) / 1e3
    same: Bool = window.facts["camera"][one] == window.facts["camera"][two]
    unrelated = (error_s > UNRELATED_S) & ~same
    reach = reach + 1.5 * WALK_MPS * np.where(same, 0.0, np.minimum(error_s, REACH_S))
    out: Float64 = np.where((gap_s > REACH_S) | unrelated, np.inf, distance / reach)
    return out


@dataclass(frozen=True, eq=False)
class Edges:
    """P pairs of items ``a`` and ``b``; every array is [P]."""

    a: Int64
    b: Int64
    evidence: Float64
    """Log-likelihood ratios."""
    prior: Float64
    """Log prior odds; count once between two groups, not once a pair."""
    weight: Float64
    """Positive; how much each pair has to say."""
    most: Float64
    """What the evidence of several pairs can come to by each (``odds``)."""
    forbidden: Bool


def edges_of(p: Pairs) -> Edges:
    """Scored pairs as edges of the graph that is clustered."""
    return Edges(p.a, p.b, p.evidence, p.prior, p.weight, p.most, p.tables.forbidden)


def joined(parts: list[Edges]) -> Edges:
    """All edges of several parts; at least one is needed."""
    return Edges(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Edges)))


def cluster(
    label: Int64, settled: Bool, edges: Edges, score: Callable[[Int64, Int64], Edges]
) -> Int64:
    """``clustering`` in one go."""
    return whole(clustering(label, settled, edges, score))


def whole(pieces: Generator[None, None, T]) -> T:
    """What work in pieces comes to."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            result: T = end.value
            return result


# Of two groups, what the known pairs between them sum up to.
_TOTAL, _MASS, _PRIOR, _KNOWN, _BARRED, _BEST, _MOST = range(7)
_Sum = list[float]


def clustering(
    label: Int64, settled: Bool, edges: Edges, score: Callable[[Int64, Int64], Edges]
) -> Generator[None, None, Int64]:
    """Group items so that no two groups are more probably one person than two.

    In pieces of bounded work. Greedy: the two groups with the greatest odds (as ``odds`` has them)
    join first, until none are positive, with a settled one none above ``SETTLED_FROM``. The edges
    say which groups to look at; before two join, all pairs between them are scored. Groups with a
    forbidden pair between them never join. With all pairs as edges it does what a plain loop does.

    Args:
        label: [N] groups to begin with: the lowest index in each item's group.
        settled: [N] items whose groups are settled: two of those never join.
        edges: the sparse graph; each pair once at most.
        score: of pairs of items.

    Returns:
        [N] the lowest index in each item's group.
    """
    groups, work = _Groups(label, settled), 0
    yield from groups.add(label, edges)
    while (best := groups.best()) is not None:
        i, j = best
        work += 1
        if work % A_PIECE == 0:
            yield
        if groups.known(i, j):
            groups.join(i, j)
            continue
        wanted = [(i, j), *groups.next_unknown(PAIRS_AT_ONCE - 1)]
        groups.complete(wanted, score)
    return groups.label()


class _Groups:
    def __init__(self, label: Int64, settled: Bool) -> None:
        self._count = len(label)
        self._items: dict[int, list[int]] = {}
        for item, group in enumerate(label.tolist()):
            self._items.setdefault(group, []).append(item)
        self._settled = {g for g, items in self._items.items() if settled[items[0]]}
        self._sums: dict[int, dict[int, _Sum]] = {group: {} for group in self._items}
        self._heap: list[tuple[float, int, int]] = []

    def best(self) -> tuple[int, int] | None:
        """The pair of groups that is next to join, as far as is known."""
        while self._heap:
            gain, i, j = self._heap[0]
            found = self._sums.get(i, {}).get(j)
            if found is not None and not found[_BARRED] and -gain == self._gain(i, j, found):
                return i, j
            heapq.heappop(self._heap)
        return None

    def known(self, i: int, j: int) -> bool:
        """Whether all pairs between two groups are scored."""
        return self._sums[i][j][_KNOWN] == len(self._items[i]) * len(self._items[j])

    def next_unknown(self, count: int) -> list[tuple[int, int]]:
        """Pairs of groups after the best of which not all is known; of each group one at most."""
        _, i, j = self._heap[0]
        busy = {i, j}
        out: list[tuple[int, int]] = []
        back: list[tuple[float, int, int]] = []
        while self._heap and len(out) < count and len(back) < 4 * count:
            entry = heapq.heappop(self._heap)
            gain, i, j = entry
            found = self._sums.get(i, {}).get(j)
            if found is None or found[_BARRED] or -gain != self._gain(i, j, found):
                continue
            back.append(entry)
            if not {i, j} & busy and not self.known(i, j):
                busy |= {i, j}
                out.append((i, j))
        for entry in back:
            heapq.heappush(self._heap, entry)
        return out

    def complete(
        self, wanted: list[tuple[int, int]], score: Callable[[Int64, Int64], Edges]
    ) -> None:
        """Score all pairs between groups."""
        a: list[int] = []
        b: list[int] = []
        for i, j in wanted:
            ones, others = self._items[i], self._items[j]
            a += [one for one in ones for _ in others]
            b += others * len(ones)
        all_pairs = score(np.array(a, np.int64), np.array(b, np.int64))
        total = all_pairs.evidence * all_pairs.weight
        at = 0
        for i, j in wanted:
            end = at + len(self._items[i]) * len(self._items[j])
            found = self._sums[i][j]
            found[:] = [
                float(total[at:end].sum()),
                float(all_pairs.weight[at:end].sum()),
                float(all_pairs.prior[at:end].sum()),
                float(end - at),
                float(all_pairs.forbidden[at:end].any()),
                float(all_pairs.evidence[at:end].max()),
                float(all_pairs.most[at:end].max()),
            ]
            self._push(i, j, found)
            at = end

    def join(self, i: int, j: int) -> None:
        """``j`` becomes part of ``i``."""
        self._items[i] += self._items.pop(j)
        gone = self._sums.pop(j)
        del gone[i], self._sums[i][j]
        if j in self._settled:
            self._settled.discard(j)
            self._settled.add(i)
        mine = self._sums[i]
        for other, found in gone.items():
            theirs = self._sums[other]
            del theirs[j]
            if other in mine:
                both = mine[other]
                both[:_BEST] = map(sum, zip(both[:_BEST], found[:_BEST], strict=True))
                both[_BEST:] = map(max, both[_BEST:], found[_BEST:])
            else:
                mine[other] = theirs[i] = found
        for other, found in mine.items():
            if i in self._settled and other in self._settled:
                found[_BARRED] = 1.0
            self._push(i, other, found)

    def label(self) -> Int64:
        out = np.zeros(self._count, np.int64)
        for items in self._items.values():
            out[items] = min(items)
        return out

    def _gain(self, i: int, j: int, found: _Sum) -> float:
        """Log odds of a join; 0 where there is none to be."""
        pairs = len(self._items[i]) * len(self._items[j])
        # As long as not all of them are known, as good as the best: a join that is right must not
        # wait behind a wrong one because the pairs that happen to be known are its poor ones.
        mean = found[_BEST] if found[_KNOWN] < pairs else found[_TOTAL] / found[_MASS]
        gain = min(mean * pairs**ACCUMULATION, found[_MOST]) + found[_PRIOR] / found[_KNOWN]
        return gain if gain > (SETTLED_FROM if self._settled & {i, j} else 0.0) else 0.0

    def _push(self, i: int, j: int, found: _Sum) -> None:
        if found[_BARRED] or found[_BEST] <= 0:  # the prior speaks against every pair
            return
        gain = self._gain(i, j, found)
        if gain > 0:
            heapq.heappush(self._heap, (-gain, min(i, j), max(i, j)))

    def add(self, label: Int64, edges: Edges) -> Generator[None, None, None]:
        """Sum the edges up between the groups that there are, once, in pieces of bounded work."""
        one, two = label[edges.a], label[edges.b]
        low, high = np.minimum(one, two), np.maximum(one, two)
        # Where looks and place speak against a pair it says nothing of whom to look at.
        across = np.flatnonzero((low != high) & (edges.evidence > 0))
        names, which = np.unique(low[across] * self._count + high[across], return_inverse=True)
        columns = (
            edges.evidence * edges.weight,
            edges.weight,
            edges.prior,
            np.ones(len(low)),
            edges.forbidden.astype(np.float64),
        )
        sums = [
            np.bincount(which.reshape(-1), weights=c[across], minlength=len(names)).tolist()
            for c in columns
        ]
        for column in (edges.evidence, edges.most):
            most = np.full(len(names), -np.inf)
            np.maximum.at(most, which.reshape(-1), column[across])
            sums.append(most.tolist())
        for k, (name, *found) in enumerate(zip(names.tolist(), *sums, strict=True)):
            if k % SUMS_A_PIECE == 0:
                yield
            i, j = divmod(name, self._count)
            if i in self._settled and j in self._settled:
                continue
            self._sums[i][j] = self._sums[j][i] = found
            self._push(i, j, found)
