"""From a clustering of the window to decisions that lead there from the present identities.

Each decision is handed to ``decide``, which folds it and returns the state after it: what comes
next may depend on it (a fresh id, who holds what).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.server.matching.identity import Decision, State
from skyreid.server.matching.likelihood import Int64
from skyreid.server.matching.odds import Scores

REVISE_FROM = 0.1
"""A link's posterior must change by this much to be worth an entry in the log."""

Decide = Callable[[Decision], State]


def agree(
    state: State, scores: Scores, label: Int64, at_ns: int, fpir: float, decide: Decide
) -> None:
    """Splits, moves and merges that make the identities agree with a clustering.

    Every identity follows most of its tracklets; where several follow into one group, the oldest
    keeps it. What is left of the others moves, founds new identities, or merges.

    Args:
        state: before.
        scores: the window.
        label: [N] group of each of the window's tracklets.
        at_ns: capture time.
        fpir: as configured.
        decide: takes each decision; it fits the state after those before it.
    """
    keys = [t.key for t in scores.tracklets]
    cluster_of = {k: int(c) for k, c in zip(keys, label, strict=True) if k in state.tracks}
    rows_of = {int(c): np.flatnonzero(label == c) for c in np.unique(label)}
    held: dict[str, list[TrackKey]] = {}
    for key in cluster_of:
        held.setdefault(state.tracks[key], []).append(key)
    by_age = sorted(held, key=lambda name: (state.identities[name].founded_ns, name))
    home: dict[str, int] = {}
    owner: dict[int, str] = {}
    for name in by_age:
        votes = Counter(cluster_of[key] for key in held[name])
        home[name] = min(votes, key=lambda c: (-votes[c], c))
        owner.setdefault(home[name], name)
    for name in by_age:
        away: dict[int, list[TrackKey]] = {}
        for key in held[name]:
            if cluster_of[key] != home[name]:
                away.setdefault(cluster_of[key], []).append(key)
        for group, tracks in sorted(away.items()):
            if group not in owner:
                tracks.sort(key=lambda k: (scores.tracklets[scores.index[k]].first_ns, k))
                fresh = state.mint(tracks[0])
                match = scores.match(tracks[-1], rows_of[group], fpir) if len(tracks) > 1 else None
                decision = Decision("split", at_ns, fresh, tuple(tracks), name, match)
                owner[group] = fresh
                state = decide(decision)
            else:
                for key in tracks:
                    match = scores.match(key, rows_of[group], fpir)
                    decision = Decision("move", at_ns, owner[group], (key,), name, match)
                    state = decide(decision)
    for name in by_age:
        keep = owner[home[name]]
        if keep == name:
            continue
        founder = next(k for k in held[name] if cluster_of[k] == home[name])
        others = np.array(
            [i for i in rows_of[home[name]] if state.tracks.get(keys[i]) == keep], np.int64
        )
        match = scores.match(founder, others, fpir) if len(others) else None
        decision = Decision("merge", at_ns, keep, (), name, match)
        state = decide(decision)


def revise(state: State, scores: Scores, at_ns: int, fpir: float, decide: Decide) -> None:
    """New posteriors of links whose evidence has changed enough to tell."""
    for name, rows in scores.groups(state).items():
        if len(rows) < 2:
            continue
        for i in rows:
            key = scores.tracklets[i].key
            before = state.identities[name].members[key]
            if before is None:
                continue
            match = scores.match(key, rows, fpir)
            changed = abs(match.probability - before.probability) >= REVISE_FROM
            if changed or match.state != before.state:
                decide(Decision("revise", at_ns, name, (key,), match=match))
