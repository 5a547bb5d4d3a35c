"""From tracklets that belong together to decisions that lead there from the present identities.

Each decision is handed to ``decide``, which folds it and returns the state after it: what comes
next may depend on it (a fresh id, who holds what).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from skyreid.contract.identity_event import Match, TrackKey
from skyreid.server.matching import checked
from skyreid.server.matching.clustering import SETTLED_FROM, Edges, cluster, edges_of, unique_pairs
from skyreid.server.matching.identity import Decision, DecisionKind, State
from skyreid.server.matching.likelihood import Bool, Float64, Int64, weakest_cuts
from skyreid.server.matching.odds import Pairs, Scores, assign
from skyreid.server.matching.tracklets import Window

COMPANY = 8
"""Of its own group's tracklets, so many are among those a tracklet is compared with."""
Fresh = Callable[[int], bool]
REVISE_FROM = 0.1
"""A link's posterior must change by this much to be worth an entry in the log."""


class Course:
    """What a step of matching goes by: who is who by now, the moment, and how sure is sure."""

    def __init__(
        self, state: State, at_ns: int, fpir: float, fold: Callable[[Decision], State]
    ) -> None:
        """``fold`` takes a decision and returns the state after it."""
        self.state = state
        """After every decision so far."""
        self.at_ns = at_ns
        """Capture time."""
        self.fpir = fpir
        """As configured."""
        self._fold = fold

    def decide(
        self,
        kind: DecisionKind,
        identity: str,
        tracks: tuple[TrackKey, ...] = (),
        other: str | None = None,
        match: Match | None = None,
    ) -> None:
        """Take a decision, as of `Decision`; it fits the state after those before it."""
        self.state = self._fold(Decision(kind, self.at_ns, identity, tracks, other, match))


@dataclass(frozen=True, eq=False)
class Grouped:
    """Tracklets that were grouped from their sightings alone; arrays are [N]."""

    scores: Scores
    rows: Int64
    """Of ``scores.window``."""
    settled: Bool
    """Those whose group was settled before."""
    label: Int64
    """The group of each."""
    links: Mapping[int, tuple[float, Pairs]] = field(default_factory=dict)
    """By row, of those that are not settled: see ``weighed``."""
    bounds: Mapping[int, float] = field(default_factory=dict)

    def only(self, some: Int64) -> Grouped:
        """Of some places in the arrays."""
        arrays = (self.rows[some], self.settled[some], self.label[some])
        return Grouped(self.scores, *arrays, self.links, self.bounds)

    def weighed(self) -> Grouped:
        """With what links each to the rest of its group, and how sure one can be of that at most.

        A group may be two people's, each of whose tracklets hold fast to each other: what joins
        the two parts is what a link of either with the whole is worth (``weakest_cuts``).
        """
        bounds: dict[int, float] = {}
        order = np.argsort(self.label, kind="stable")
        cuts = np.flatnonzero(np.diff(self.label[order])) + 1
        groups = [g for g in np.split(order, cuts) if len(g) > 1 and not self.settled[g].all()]
        fresh = [g[~self.settled[g]] for g in groups]
        rows = [row for some in fresh for row in self.rows[some].tolist()]
        others = [self.rows[g] for g, some in zip(groups, fresh, strict=True) for _ in some]
        odds, of = self.scores.links(rows, others)
        links = {row: (float(odds[k]), of(k)) for k, row in enumerate(rows)}
        for g, some in zip(groups, fresh, strict=True):
            if len(g) > 2:
                own = self.rows[some].tolist()
                bounds.update(zip(own, _bounds(own, [links[k][1] for k in own]), strict=True))
        return replace(self, links=links, bounds=bounds)

    def match(self, row: int, others: Int64, course: Course) -> Match:
        """The stated reason for a link of one of the rows with others of its group."""
        odds, of = self.scores.links([row], [others])
        return self.reason(row, float(odds[0]), of(0), course)

    def reason(self, row: int, log_odds: float, pairs: Pairs, course: Course) -> Match:
        """The same for what ``links`` gave."""
        held = held_of(course.state, self.scores.window, pairs.b)
        held[np.isin(pairs.b, self.rows[~self.settled])] = np.inf  # ``bounds`` tell of those
        bounded = min(log_odds, self.bounds.get(row, np.inf))
        return self.scores.reason(bounded, pairs, held, course.fpir)


def _bounds(rows: list[int], pairs: list[Pairs]) -> list[float]:
    """``weakest_cuts`` of a group; its settled rows are on one side together.

    Args:
        rows: [N] of the group, those that are not settled.
        pairs: of each of them with all others of the group.
    """
    count = len(rows)
    place = {row: k for k, row in enumerate(rows)}
    sums = np.zeros((4, count + 1, count + 1))
    most = np.full((count + 1, count + 1), -np.inf)
    for k, of in enumerate(pairs):
        at = np.array([place.get(row, count) for row in of.b.tolist()], np.int64)
        columns = (of.evidence * of.weight, of.weight, of.prior, np.ones(len(at)))
        for table, column in zip(sums, columns, strict=True):
            table[k] = np.bincount(at, column, count + 1)
        np.maximum.at(most[k], at, of.most)
    size = np.ones(count + 1)
    size[count] = len(pairs[0].b) + 1 - count
    whole = count + (size[count] > 0)
    sums[:, count], most[count] = sums[:, :, count], most[:, count]
    total, mass, prior, number = sums[:, :whole, :whole]
    cut = weakest_cuts(total, mass, prior, number, most[:whole, :whole], size[:whole])
    out: list[float] = cut[:count].tolist()
    return out


def held_of(state: State, window: Window, rows: Int64) -> Float64:
    """[N] what the own link of each row is worth, log odds; ``inf`` where nothing is in doubt."""
    out = np.full(len(rows), np.inf)
    for k, row in enumerate(rows.tolist()):
        key = window.at(row).key
        name = state.tracks.get(key)
        own = None if name is None else state.identities[name].members[key]
        if own is not None and own.state == "tentative":
            out[k] = math.log(own.probability / (1 - own.probability))
    return out


class Roster:
    """Which rows of a window each identity has, and which rows could be one person."""

    def __init__(self) -> None:
        self.owner: dict[int, str] = {}
        """Identity of each row."""
        self.partners: dict[int, Int64] = {}
        """By row, the rows that it was last found to be worth comparing with."""
        self._rows: dict[str, set[int]] = {}

    def rows(self, name: str) -> Int64:
        """Rows of an identity, ascending."""
        return np.array(sorted(self._rows.get(name, ())), np.int64)

    def own(self, row: int, name: str) -> None:
        """A row is of an identity from now on."""
        self.leave(row)
        self.owner[row] = name
        self._rows.setdefault(name, set()).add(row)

    def leave(self, row: int) -> None:
        """A row is of nobody."""
        name = self.owner.pop(row, None)
        if name is not None:
            self._rows[name].discard(row)
            if not self._rows[name]:
                del self._rows[name]

    def note(self, d: Decision, window: Window) -> None:
        """Follow a decision."""
        if d.kind == "merge":
            for row in self.rows(str(d.other)).tolist():
                self.own(row, d.identity)
        elif d.kind in ("assign", "move", "split"):
            for key in d.tracks:
                if key in window:
                    self.own(window.rows[key], d.identity)


def place_new(
    course: Course, scores: Scores, roster: Roster, new: Sequence[TrackKey], fresh: Fresh
) -> None:
    """Assign tracklets that are in no identity yet, one camera after the other.

    Args:
        course: what it goes by.
        scores: of the window.
        roster: which of its rows each identity has.
        new: those tracklets, in order of their keys.
        fresh: whether the group of a row may still change.
    """
    row_of = scores.window.rows
    for _, group in groupby(new, lambda k: (k.device, k.boot, k.camera)):
        keys = list(group)
        names_of = likely(scores, roster, [row_of[key] for key in keys])
        asked = [(place, name) for place, names in enumerate(names_of) for name in names]
        there = {name: roster.rows(name) for _, name in asked}
        odds, of = scores.links(
            [row_of[keys[place]] for place, _ in asked], [there[name] for _, name in asked]
        )
        firm = {name for name, rows in there.items() if not all(map(fresh, rows.tolist()))}
        odds[odds <= [SETTLED_FROM if name in firm else 0.0 for _, name in asked]] = -np.inf
        for key, at in zip(keys, assign(len(keys), asked, odds), strict=True):
            if at is None:
                course.decide("assign", course.state.mint(key), (key,))
            else:
                pairs = of(at)
                held = held_of(course.state, scores.window, pairs.b)
                match = scores.reason(float(odds[at]), pairs, held, course.fpir)
                course.decide("assign", asked[at][1], (key,), match=match)


def likely(scores: Scores, roster: Roster, rows: Sequence[int]) -> list[list[str]]:
    """Identities that rows could join: something speaks for one of their tracklets."""
    alive = scores.window.facts["alive"]
    there = [partners[alive[partners]] for partners in (roster.partners[row] for row in rows)]
    sizes = [len(some) for some in there]
    if not sum(sizes):
        return [[] for _ in rows]
    others = np.concatenate(there)
    pairs = scores.between(np.repeat(np.array(rows, np.int64), sizes), others)
    out, good, at = [], pairs.evidence > 0, 0
    for size in sizes:
        chosen = others[at : at + size][good[at : at + size]].tolist()
        out.append(sorted({roster.owner[row] for row in chosen if row in roster.owner}))
        at += size
    return out


def again(
    course: Course,
    scores: Scores,
    roster: Roster,
    first: list[int],
    others: Iterable[str],
    fresh: Fresh,
    most: int,
) -> None:
    """Group tracklets again, with their groups and neighbours: what would explain it better?

    Args:
        course: what it goes by.
        scores: of the window.
        roster: which of its rows each identity has.
        first: rows of those who changed.
        others: identities that they could be.
        fresh: whether the group of a row may still change; the others' groups are only joined.
        most: rows whose group may change at a time; ``first`` at least.
    """
    names = dict.fromkeys([*(roster.owner[row] for row in first), *others])
    rows = [row for name in names for row in roster.rows(name).tolist()]
    inside = dict.fromkeys(first)
    for row in rows:
        if len(inside) < most and fresh(row):
            inside[row] = None
    items = np.array(sorted({*rows, *inside}), np.int64)
    place = {row: k for k, row in enumerate(items.tolist())}
    settled = np.array([row not in inside for row in items.tolist()], np.bool_)
    old: dict[str, int] = {}
    label = np.array(
        [old.setdefault(roster.owner[row], k) if settled[k] else k for row, k in place.items()],
        np.int64,
    )

    def score(i: Int64, j: Int64) -> Edges:
        found = edges_of(scores.between(items[i], items[j]))
        return replace(found, a=i, b=j)

    here = np.array([place[row] for row in sorted(inside)], np.int64)
    edges = []
    for row in sorted(inside):
        own = roster.rows(roster.owner[row])
        near = np.union1d(roster.partners.get(row, own[:0]), own[-COMPANY:])
        edges.append(
            np.array([place[other] for other in near.tolist() if other in place], np.int64)
        )
    a, b = unique_pairs(here, edges)
    apart = a != b
    label = cluster(label, settled, score(a[apart], b[apart]), score)

    found = Grouped(scores, items, settled, label).weighed()
    agree(course, found)
    revise(course, found)


def agree(course: Course, found: Grouped) -> None:
    """Splits, moves and merges that make the identities agree with a clustering.

    Every identity follows its settled tracklets, else most of its tracklets; where several follow
    into one group, the one with settled ones keeps it, else the oldest. What is left of the others
    moves, founds new identities, or merges. Tracklets that are not among the rows stay as they are.
    Which links are taken back by that is counted in the log.
    """
    found = _at_odds(course.state, found)
    if not len(found.rows):
        return
    scores, rows, settled, label = found.scores, found.rows, found.settled, found.label
    state = course.state
    keys = [scores.window.at(int(row)).key for row in rows]
    place = {key: k for k, key in enumerate(keys)}
    cluster_of = {key: int(label[k]) for key, k in place.items()}
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    group_rows = {int(label[part[0]]): rows[part] for part in np.split(order, cuts) if len(part)}
    held: dict[str, list[TrackKey]] = {}
    for key in cluster_of:
        held.setdefault(state.tracks[key], []).append(key)
    links = checked.within(state.identities, held)
    firm = {name for name, tracks in held.items() if any(settled[place[key]] for key in tracks)}
    by_age = sorted(
        held, key=lambda name: (name not in firm, state.identities[name].founded_ns, name)
    )
    home: dict[str, int] = {}
    owner: dict[int, str] = {}
    for name in by_age:
        leading = [key for key in held[name] if name not in firm or settled[place[key]]]
        votes = Counter(cluster_of[key] for key in leading)
        home[name] = min(votes, key=lambda c: (-votes[c], c))
        owner.setdefault(home[name], name)

    def join(tracks: list[TrackKey], group: int, source: str) -> None:
        for key in tracks:
            match = found.match(int(rows[place[key]]), group_rows[group], course)
            course.decide("move", owner[group], (key,), source, match)

    for name in by_age:
        away: dict[int, list[TrackKey]] = {}
        for key in held[name]:
            if cluster_of[key] != home[name]:
                away.setdefault(cluster_of[key], []).append(key)
        for group, tracks in sorted(away.items()):
            if group in owner:
                join(tracks, group, name)
                continue
            tracks.sort(key=lambda k: (scores.window.tracklet(k).first_ns, k))
            fresh = course.state.mint(tracks[0])
            match = None
            if len(tracks) > 1:
                match = found.match(int(rows[place[tracks[-1]]]), group_rows[group], course)
            owner[group] = fresh
            course.decide("split", fresh, tuple(tracks), name, match)
    for name in by_age:
        keep = owner[home[name]]
        if keep == name:
            continue
        staying = [key for key in held[name] if cluster_of[key] == home[name]]
        # Others may hold it, who are not here.
        if len(course.state.identities[name].members) > len(staying):
            join(staying, home[name], name)
            continue
        founder = staying[0]
        there = [
            row
            for row in group_rows[home[name]].tolist()
            if course.state.tracks.get(scores.window.at(row).key) == keep
        ]
        match = None
        if there:
            match = found.match(int(rows[place[founder]]), np.array(there, np.int64), course)
        course.decide("merge", keep, (), name, match)
    if gone := checked.parted(links, course.state.tracks):
        course.decide("check", "", other=checked.count(gone.values(), gone.values()).text)


def _at_odds(state: State, found: Grouped) -> Grouped:
    """Of what is in an identity, those groups and identities that are not each the other."""
    names: dict[str, int] = {}
    at = found.scores.window.at
    told = [state.tracks.get(at(row).key) for row in found.rows.tolist()]
    kept = np.array([k for k, name in enumerate(told) if name is not None], np.int64)
    who = np.array([names.setdefault(n, len(names)) for n in told if n is not None], np.int64)
    _, group = np.unique(found.label[kept], return_inverse=True)
    both = np.unique(np.stack([who, group.reshape(-1)], 1), axis=0)
    groups_of, names_of = np.bincount(both[:, 0]), np.bincount(both[:, 1])
    return found.only(kept[(groups_of[who] > 1) | (names_of[group.reshape(-1)] > 1)])


def revise(course: Course, found: Grouped) -> None:
    """New posteriors of the links that are not settled, where they changed enough."""
    for row, (log_odds, pairs) in found.links.items():
        key = found.scores.window.at(row).key
        name = course.state.tracks[key]
        before = course.state.identities[name].members[key]
        if before is None:
            continue
        match = found.reason(row, log_odds, pairs, course)
        changed = abs(match.probability - before.probability) >= REVISE_FROM
        if changed or match.state != before.state:
            course.decide("revise", name, (key,), match=match)
