"""What a matcher made of a made-up day, beside the truth: returns, strangers, probabilities.

Everything here is read out of the log of decisions, by tracklet, so that any matcher that writes
one can be measured. A *visit* is one person from the first tracklet to the last before leaving; its
public id is the person that most of its tracklets are of: the identity that accepted returns lead
to. *Linked* means that this person has tracklets that had ended before the visit began; the link is
right if most of them show the same person. Tracklets whose link is tentative are in no identity
here, and tentative returns are counted apart.

Intervals are 95 %, drawn over people, who differ; another day with other light they do not draw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from world_site import GAPS_S, KNOWN_S, Day
from world_told import Truth

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Modality, View
from skyreid.server.scoring.confidence import EDGES, Link, calibration, links_of
from skyreid.server.scoring.lineage import Lineage

Outcome = Literal["right", "wrong", "missed"]
Tracks = Mapping[TrackKey, Truth]
DRAWS = 400
STATED = (0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Visit:
    """One visit, and what it was linked to."""

    pid: int
    number: int
    tracks: tuple[TrackKey, ...]
    begin_s: float
    outcome: Outcome
    """Of a first visit, `wrong` is a stranger taken for somebody, `missed` as it should be."""
    since_s: float | None
    """Since the one whom it was linked to had left."""


def visits_of(truth: Tracks, said: Lineage) -> list[Visit]:
    """Every visit, in the order of their beginnings."""
    doubtful = {
        track
        for held in said.held
        for track in held.tracks
        if held.match is not None and held.match.state == "tentative"
    }
    members: dict[str, list[TrackKey]] = defaultdict(list)
    name: dict[TrackKey, str] = {}
    by_visit: dict[tuple[int, int], list[TrackKey]] = defaultdict(list)
    for track, one in truth.items():
        by_visit[one.pid, one.visit].append(track)
        final = said.final(track)
        if final is not None and track not in doubtful:
            name[track] = said.person.get(final, final)
            members[name[track]].append(track)
    out = []
    for (pid, number), tracks in by_visit.items():
        begin_s = min(truth[track].begin_s for track in tracks)
        named = Counter(name[track] for track in tracks if track in name)
        earlier = [
            track
            for track in members[named.most_common(1)[0][0]]
            if truth[track].end_s < begin_s
        ] if named else []  # fmt: skip
        outcome: Outcome = "missed"
        if earlier:
            mostly = Counter(truth[track].pid for track in earlier).most_common(1)[0][0]
            outcome = "right" if mostly == pid else "wrong"
        since_s = begin_s - max(truth[t].end_s for t in earlier) if earlier else None
        out.append(Visit(pid, number, tuple(tracks), begin_s, outcome, since_s))
    return sorted(out, key=lambda visit: (visit.begin_s, visit.pid))


def returns(visits: Sequence[Visit], truth: Tracks, day: Day) -> list[dict[str, Any]]:
    """Who came back: right, wrong and missed, by gap, by view and by look-alikes."""
    first = {visit.pid: visit for visit in visits if visit.number == 0}
    cells: dict[tuple[float, str, bool], list[Outcome]] = defaultdict(list)
    for visit in visits:
        if visit.number == 0 or visit.pid not in first:
            continue
        before = first[visit.pid]
        gap_s = visit.begin_s - max(truth[t].end_s for t in before.tracks)
        near = min(GAPS_S, key=lambda gap: abs(np.log(max(gap_s, 1.0) / gap)))
        views = [{truth[t].view for t in v.tracks} for v in (before, visit)]
        seen = "same" if views[0] & views[1] else "cross"
        cells[near, seen, day.people[visit.pid].alike].append(visit.outcome)
    return [
        {
            "gap_s": gap_s,
            "view": seen,
            "look_alikes": alike,
            "n": len(outcomes),
            **{
                f"{word}": rate([o == word for o in outcomes])
                for word in ("right", "wrong", "missed")
            },
        }
        for (gap_s, seen, alike), outcomes in sorted(cells.items())
    ]


def told(truth: Tracks, said: Lineage) -> dict[str, Any]:
    """Returns as they are stated in the end: how many, how sure, and how many of them are right."""
    out: dict[str, Any] = {}
    for state in ("accepted", "tentative"):
        some = [link for link in said.returns if link.state == state]
        right = [truth[link.track].pid == truth[link.other].pid for link in some]
        sure = [link.probability for link in some]
        out[state] = {
            "n": len(some),
            "stated": round(float(np.mean(sure)), 4) if some else None,
            "right": rate(right),
        }
    return out


def strangers(visits: Sequence[Visit], day: Day, window_s: float) -> list[dict[str, Any]]:
    """Who came for the first time and was taken for somebody who had left (FPIR)."""
    out = []
    known = sum(visit.number == 0 and visit.begin_s < KNOWN_S for visit in visits)
    for late in (True, False):
        for alike in (False, True):
            some = [
                visit
                for visit in visits
                if visit.number == 0
                and (visit.begin_s >= KNOWN_S) is late
                and day.people[visit.pid].alike is alike
            ]
            out.append(
                {
                    "gallery": f"{known} and more" if late else "filling",
                    "look_alikes": alike,
                    "n": len(some),
                    "linked": rate([visit.outcome == "wrong" for visit in some]),
                    "linked_beyond_window": rate(
                        [(visit.since_s or 0.0) > window_s for visit in some]
                    ),
                }
            )
    return out


def rate(hits: Sequence[bool]) -> dict[str, float] | None:
    """A share of people with its interval: each counts once, so what is drawn is a binomial."""
    if not hits:
        return None
    n, share = len(hits), sum(hits) / len(hits)
    drawn = np.random.default_rng(0).binomial(n, share, 4000) / n
    low, high = np.percentile(drawn, [2.5, 97.5])
    if share in (0.0, 1.0):  # nothing to draw: three in n, as of a binomial that never happened
        low, high = (0.0, min(1.0, 3 / n)) if share == 0.0 else (max(0.0, 1 - 3 / n), 1.0)
    return {"rate": round(share, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def slices(truth: Tracks, day: Day) -> dict[str, Callable[[Link], bool]]:
    """Which links calibration is told of apart."""

    def infrared(link: Link) -> bool:
        return any(truth[t].modality is Modality.INFRARED for t in link.tracks if t in truth)

    return {
        "all": lambda link: True,
        "cross-view": lambda link: link.across,
        "same view": lambda link: not link.across,
        "look-alikes": lambda link: day.people[truth[link.tracks[0]].pid].alike,
        "no look-alikes": lambda link: not day.people[truth[link.tracks[0]].pid].alike,
        "infrared": infrared,
        "accepted": lambda link: link.accepted,
    }


def stated(said: Lineage, truth: Tracks, day: Day) -> dict[str, dict[str, Any]]:
    """Calibration of what was told and of what is held in the end, by slice."""
    person = {track: one.pid for track, one in truth.items()}
    view = {track: one.view.word for track, one in truth.items()}
    out: dict[str, dict[str, Any]] = {}
    for when, statements in (("told", said.told), ("final", said.held)):
        links = [k for k in links_of(statements, person, view) if k.tracks[0] in truth]
        out[when] = {
            name: _calibrated([k for k in links if inside(k)], truth)
            for name, inside in slices(truth, day).items()
        }
    return out


def _calibrated(links: Sequence[Link], truth: Tracks) -> dict[str, Any]:
    if not links:
        return {"n": 0, "ece": None, "bins": [], "at_least": {}}
    found = calibration(links)
    p = np.array([link.stated for link in links])
    right = np.array([link.right for link in links], np.float64)
    which = np.clip(np.searchsorted(EDGES, p, "right") - 1, 0, len(EDGES) - 2)
    weights = _drawn_people([truth[link.tracks[0]].pid for link in links])
    eces = [
        float(np.abs(np.bincount(which, w * (p - right), len(EDGES) - 1)).sum() / w.sum())
        for w in weights
    ]
    low, high = np.percentile(eces, [2.5, 97.5])
    at_least = {}
    for bar in STATED:
        over = p >= bar
        if over.any():
            shares = [float((w * right)[over].sum() / max(w[over].sum(), 1)) for w in weights]
            ends = np.percentile(shares, [2.5, 97.5])
            at_least[f"{bar:g}"] = {
                "n": int(over.sum()),
                "rate": round(float(right[over].mean()), 4),
                "low": round(float(ends[0]), 4),
                "high": round(float(ends[1]), 4),
            }
    return {
        "n": len(links),
        "ece": round(float(found.ece or 0.0), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "bins": [
            {"from": b.low, "to": b.high, "n": b.n, "stated": round(b.stated or 0, 4),
             "right": round(b.right or 0, 4)}
            for b in found.bins if b.n
        ],
        "at_least": at_least,
    }  # fmt: skip


def _drawn_people(pids: Sequence[int]) -> list[NDArray[np.float64]]:
    """Weights [links] of each draw of people with replacement."""
    names, place = np.unique(pids, return_inverse=True)
    rng = np.random.default_rng(0)
    out = []
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        out.append(times[place].astype(np.float64))
    return out


def pairs(truth: Tracks, said: Lineage) -> dict[str, Any]:
    """Pairs of an aerial and a ground tracklet: within visits, and all of one identity."""
    names = {track: said.final(track) for track in truth}
    counts: dict[str, Counter[Any]] = {"above": Counter(), "below": Counter()}
    both: dict[str, Counter[Any]] = {"above": Counter(), "below": Counter()}
    for track, one in truth.items():
        side = "above" if one.view is View.AERIAL else "below"
        for key in (("name", names[track]), ("pid", one.pid), ("visit", one.pid, one.visit)):
            counts[side][key] += 1
        both[side]["pid", names[track], one.pid] += 1
        both[side]["visit", names[track], one.pid, one.visit] += 1

    def product(of: dict[str, Counter[Any]], kind: str) -> int:
        return sum(n * of["below"][key] for key, n in of["above"].items() if key[0] == kind)

    made, right = product(counts, "name"), product(both, "pid")
    within, possible = product(both, "visit"), product(counts, "visit")
    return {
        "pairs": made,
        "precision": round(right / made, 4) if made else None,
        "recall_within_visits": round(within / possible, 4) if possible else None,
        "recall": round(right / max(product(counts, "pid"), 1), 4),
    }


def idf1(truth: Tracks, said: Lineage, *, visits: bool = False) -> float:
    """Of all cameras as one sequence, every tracklet as long as it was tracked (arXiv:1609.01775).

    Boxes are perfect here, so truth and prediction have the same length, and IDF1 is the part of it
    in the best assignment of one identity to each person (or visit) and one to each identity.
    """
    rows, columns, lengths = [], [], []
    people: dict[Any, int] = {}
    names: dict[Any, int] = {}
    for track, one in truth.items():
        who = (one.pid, one.visit) if visits else one.pid
        final = said.final(track) or ""
        name = final if visits else said.person.get(final, final)
        rows.append(people.setdefault(who, len(people)))
        columns.append(names.setdefault(name or track, len(names)))
        lengths.append(one.end_s - one.begin_s)
    table = coo_array((lengths, (rows, columns)), shape=(len(people), len(names))).tocsr()
    table.sum_duplicates()
    edges = table.tocoo()
    size = len(people) + len(names)
    graph = coo_array(
        (np.ones(len(edges.data)), (edges.row, edges.col + len(people))), (size, size)
    )
    _, part = connected_components(graph, directed=False)
    best = 0.0
    for cells in _grouped(part[edges.row]):
        own, own_row = np.unique(edges.row[cells], return_inverse=True)
        theirs, own_column = np.unique(edges.col[cells], return_inverse=True)
        block = np.zeros((len(own), len(theirs)))
        block[own_row, own_column] = edges.data[cells]
        left, right = linear_sum_assignment(-block)
        best += float(block[left, right].sum())
    return round(best / max(sum(lengths), 1e-9), 4)


def _grouped(labels: NDArray[np.int32]) -> Iterable[NDArray[np.int64]]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
