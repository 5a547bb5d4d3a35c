"""From tracklets that belong together to decisions that lead there from the present identities.

Each decision is handed to ``decide``, which folds it and returns the state after it: what comes
next may depend on it (a fresh id, who holds what).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.server.matching.clustering import Edges, cluster, edges_of, unique_pairs
from skyreid.server.matching.identity import Decision, State
from skyreid.server.matching.likelihood import Bool, Int64
from skyreid.server.matching.odds import Scores, assign
from skyreid.server.matching.tracklets import Window

COMPANY = 8
"""Of its own group's tracklets, so many are among those a tracklet is compared with."""
REVISE_FROM = 0.1
"""A link's posterior must change by this much to be worth an entry in the log."""

Decide = Callable[[Decision], State]


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
    state: State,
    scores: Scores,
    roster: Roster,
    new: Sequence[TrackKey],
    at_ns: int,
    fpir: float,
    decide: Decide,
) -> None:
    """Assign tracklets that are in no identity yet, one camera after the other.

    Args:
        state: before.
        scores: of the window.
        roster: which of its rows each identity has.
        new: those tracklets, in order of their keys.
        at_ns: capture time.
        fpir: as configured.
        decide: takes each decision.
    """
    row_of = scores.window.rows
    for _, group in groupby(new, lambda k: (k.device, k.boot, k.camera)):
        keys = list(group)
        names_of = likely(scores, roster, [row_of[key] for key in keys])
        asked = [(place, name) for place, names in enumerate(names_of) for name in names]
        odds, pairs = scores.links(
            [row_of[keys[place]] for place, _ in asked], [roster.rows(name) for _, name in asked]
        )
        for key, at in zip(keys, assign(len(keys), asked, odds), strict=True):
            if at is None:
                state = decide(Decision("assign", at_ns, state.mint(key), (key,)))
            else:
                match = scores.reason(float(odds[at]), pairs[at], fpir)
                state = decide(Decision("assign", at_ns, asked[at][1], (key,), match=match))


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
    state: State,
    scores: Scores,
    roster: Roster,
    first: list[int],
    others: Iterable[str],
    fresh: Callable[[int], bool],
    most: int,
    at_ns: int,
    fpir: float,
    decide: Decide,
) -> None:
    """Group tracklets again, with their groups and neighbours: what would explain it better?

    Args:
        state: before.
        scores: of the window.
        roster: which of its rows each identity has.
        first: rows of those who changed.
        others: identities that they could be.
        fresh: whether the group of a row may still change; the others' groups are only joined.
        most: rows whose group may change at a time; ``first`` at least.
        at_ns: capture time.
        fpir: as configured.
        decide: takes each decision.
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

    def deciding(decision: Decision) -> State:
        nonlocal state
        state = decide(decision)
        return state

    agree(state, scores, items, settled, label, at_ns, fpir, deciding)
    asked = sorted(inside)
    groups = [roster.rows(roster.owner[row]) for row in asked]
    revise(state, scores, asked, groups, at_ns, fpir, deciding)


def conclude(state: State, found: Grouped, at_ns: int, fpir: float, decide: Decide) -> set[str]:
    """Make the identities agree with what was found, those included who are in none yet.

    Returns:
        the identities that have other tracklets than before
    """
    window, before = found.scores.window, state.tracks

    def deciding(decision: Decision) -> State:
        nonlocal state
        state = decide(decision)
        return state

    rows_of: dict[int, list[int]] = {}
    settled = dict(zip(found.rows.tolist(), found.settled.tolist(), strict=True))
    for row, group in zip(found.rows.tolist(), found.label.tolist(), strict=True):
        if window.at(row).key not in state.erased_tracks:
            rows_of.setdefault(group, []).append(row)
    for members in rows_of.values():  # who came too late to be decided live
        known = [row for row in members if window.at(row).key in state.tracks]
        for row in members:
            key = window.at(row).key
            if key in state.tracks:
                continue
            if known:
                match = found.scores.match(row, np.array(known, np.int64), fpir)
                names = {state.tracks[window.at(k).key] for k in known}
                firm = {state.tracks[window.at(k).key] for k in known if settled[k]}
                name = min(firm or names, key=lambda n: (state.identities[n].founded_ns, n))
                deciding(Decision("assign", at_ns, name, (key,), match=match))
            else:
                deciding(Decision("assign", at_ns, state.mint(key), (key,)))
            known.append(row)
    kept = np.array([window.at(row).key in state.tracks for row in found.rows.tolist()], np.bool_)
    rows, old, label = found.rows[kept], found.settled[kept], found.label[kept]
    agree(state, found.scores, rows, old, label, at_ns, fpir, deciding)
    after = state.tracks
    changed: set[str] = set()
    if after is not before:
        for row in rows.tolist():
            key = window.at(row).key
            was, now = before.get(key), after[key]
            if was != now:
                changed |= {now} if was is None else {was, now}
    fresh = rows[~old].tolist()
    groups = [np.array(rows_of[int(group)], np.int64) for group in label[~old]]
    revise(state, found.scores, fresh, groups, at_ns, fpir, deciding)
    return {name for name in changed if name in state.identities}


def agree(
    state: State,
    scores: Scores,
    rows: Int64,
    settled: Bool,
    label: Int64,
    at_ns: int,
    fpir: float,
    decide: Decide,
) -> None:
    """Splits, moves and merges that make the identities agree with a clustering.

    Every identity follows its settled tracklets, else most of its tracklets; where several follow
    into one group, the one with settled ones keeps it, else the oldest. What is left of the others
    moves, founds new identities, or merges. Tracklets that are not among ``rows`` stay as they are.

    Args:
        state: before.
        scores: of a window that has the rows.
        rows: [N] of the tracklets that were clustered.
        settled: [N] those whose identity does not change.
        label: [N] group of each.
        at_ns: capture time.
        fpir: as configured.
        decide: takes each decision; it fits the state after those before it.
    """
    keys = [scores.window.at(int(row)).key for row in rows]
    place = {key: k for k, key in enumerate(keys) if key in state.tracks}
    cluster_of = {key: int(label[k]) for key, k in place.items()}
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    group_rows = {int(label[part[0]]): rows[part] for part in np.split(order, cuts) if len(part)}
    held: dict[str, list[TrackKey]] = {}
    for key in cluster_of:
        held.setdefault(state.tracks[key], []).append(key)
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
        nonlocal state
        for key in tracks:
            match = scores.match(int(rows[place[key]]), group_rows[group], fpir)
            decision = Decision("move", at_ns, owner[group], (key,), source, match)
            state = decide(decision)

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
            fresh = state.mint(tracks[0])
            match = None
            if len(tracks) > 1:
                match = scores.match(int(rows[place[tracks[-1]]]), group_rows[group], fpir)
            owner[group] = fresh
            state = decide(Decision("split", at_ns, fresh, tuple(tracks), name, match))
    for name in by_age:
        keep = owner[home[name]]
        if keep == name:
            continue
        staying = [key for key in held[name] if cluster_of[key] == home[name]]
        if len(state.identities[name].members) > len(staying):  # others hold it, who are not here
            join(staying, home[name], name)
            continue
        founder = staying[0]
        there = [
            row
            for row in group_rows[home[name]].tolist()
            if state.tracks.get(scores.window.at(row).key) == keep
        ]
        match = None
        if there:
            match = scores.match(int(rows[place[founder]]), np.array(there, np.int64), fpir)
        state = decide(Decision("merge", at_ns, keep, (), name, match))


def revise(
    state: State,
    scores: Scores,
    rows: list[int],
    groups: list[Int64],
    at_ns: int,
    fpir: float,
    decide: Decide,
) -> None:
    """New posteriors of the links of ``rows`` with their groups, where they changed enough."""
    asked = []
    for row, group in zip(rows, groups, strict=True):
        key = scores.window.at(row).key
        before = state.identities[state.tracks[key]].members[key]
        if before is not None and len(group) > 1:
            asked.append((row, group, key, before))
    odds, pairs = scores.links([row for row, *_ in asked], [group for _, group, *_ in asked])
    for log_odds, of_row, (_, _, key, before) in zip(odds, pairs, asked, strict=bool(pairs)):
        match = scores.reason(float(log_odds), of_row, fpir)
        changed = abs(match.probability - before.probability) >= REVISE_FROM
        if changed or match.state != before.state:
            decide(Decision("revise", at_ns, state.tracks[key], (key,), match=match))
