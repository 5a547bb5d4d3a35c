"""The step of a block of time: who is who in it, decided once more and for good.

Everything captured in the block and in the one before is grouped from nothing, with whoever is
settled already and may only be joined; then the identities are made to agree with that. All of it
goes in pieces of bounded work, between which what is new is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skyreid.contract.identity_event import Match, TrackKey
from skyreid.server.matching import checked
from skyreid.server.matching.clustering import (
    Edges,
    candidates,
    clustering,
    edges_of,
    joined,
    unique_pairs,
)
from skyreid.server.matching.identity import State
from skyreid.server.matching.likelihood import Int64
from skyreid.server.matching.odds import Scores
from skyreid.server.matching.priors import Normals
from skyreid.server.matching.regroup import Course, Grouped, agree, revise
from skyreid.server.matching.shelf import PersistentMap
from skyreid.server.matching.tracklets import Tracklet, Window

OVERLAP_TOLERANCE_S = 0.3
"""Two tracklets of one camera may overlap by this much and still be one person (the tracker held on
to a ghost after it had begun anew)."""
_ROWS_A_PIECE = 64
"""Rows that are taken in, or compared with all others, in a piece of work."""
_COMPARED_A_PIECE = 2**18
"""Pairs of rows that are looked at in a piece of work."""
_SCORED_A_PIECE = 4096
_CONCLUDED_A_PIECE = 64
"""Tracklets whose identities are made to agree with what was found, in a piece of work."""


@dataclass(frozen=True, eq=False)
class Actor:
    """A tracklet in the scene of a block."""

    tracklet: Tracklet
    told: int
    """The last block, up to this one, in which it was told of."""
    began: int
    """The first."""
    settled: bool
    """Whether it is settled who it is."""


def settle(
    scene: Iterable[Actor],
    reach: int,
    identities: PersistentMap[TrackKey, str],
    priors: Mapping[str, Normals],
) -> Generator[None, None, Grouped | None]:
    """The step of a block, in pieces of bounded work; None if nobody was there.

    Args:
        scene: what ``Blocks.scene`` said.
        reach: of how many blocks. A tracklet takes part in two steps; it is compared with those
            that both can see.
        identities: of the settled ones; one that is in none does not take part.
        priors: as for the matcher.
    """
    window = Window(overlap_tolerance_s=OVERLAP_TOLERANCE_S)
    names: list[str | None] = []
    told: list[int] = []
    began: list[int] = []
    for actor in scene:
        key = actor.tracklet.key
        if actor.settled and key not in identities:
            continue
        window.put(actor.tracklet)
        names.append(identities[key] if actor.settled else None)
        told.append(actor.told)
        began.append(actor.began)
        if len(names) % (2 * _ROWS_A_PIECE) == 0:
            window.taken()  # has what was put noted
            yield
    fresh = np.array([k for k, name in enumerate(names) if name is None], np.int64)
    if not len(fresh):
        return None
    rows = window.taken()
    scores = Scores(window, priors)
    scores.refresh(dict(enumerate(names)), whole=True)
    partners: list[Int64] = []
    # By time: those of a piece have the same few in reach.
    fresh = fresh[np.argsort(window.facts["start"][fresh], kind="stable")]
    some = max(8, min(_ROWS_A_PIECE, _COMPARED_A_PIECE // len(rows)))
    for at in range(0, len(fresh), some):
        partners += candidates(scores, fresh[at : at + some], rows)
        yield
    scores.near_as_others(fresh, np.array([k for k, n in enumerate(names) if n], np.int64))
    since, last = np.array(began, np.int64) - (reach - 2), np.array(told, np.int64)
    a, b = unique_pairs(
        fresh, [p[last[p] >= since[k]] for k, p in zip(fresh, partners, strict=True)]
    )
    parts: list[Edges] = []
    for at in range(0, max(len(a), 1), _SCORED_A_PIECE):
        cut = slice(at, at + _SCORED_A_PIECE)
        parts.append(edges_of(scores.between(a[cut], b[cut])))
        yield
    first: dict[str, int] = {}
    label = np.array(
        [k if name is None else first.setdefault(name, k) for k, name in enumerate(names)], np.int64
    )
    old = np.array([name is not None for name in names], np.bool_)
    found = yield from clustering(
        label, old, joined(parts), lambda i, j: edges_of(scores.between(i, j))
    )
    return Grouped(scores, rows, old, found)


def conclude(
    course: Callable[[], Course], found: Grouped, block: int, last: Collection[TrackKey]
) -> Generator[None, None, set[str]]:
    """Make the identities agree with what was found, those included who are in none yet.

    In pieces, each of which leaves some groups as they were found to be. What is decided live in
    between is of those who began last, and the next step decides it again.

    Args:
        course: what it goes by, at the moment.
        found: the groups of a block; one without anybody fresh is what it was.
        block: its number.
        last: those that are settled by this, if this is the first time: links by which they were
            told and are still are counted as looked at again.

    Returns:
        the identities that have other tracklets than before
    """
    keys = [found.scores.window.at(row).key for row in found.rows.tolist()]
    place = {key: k for k, key in enumerate(keys)}
    members: dict[int, list[int]] = {}
    for k, group in enumerate(found.label.tolist()):
        members.setdefault(group, []).append(k)
    changed, done, work = set[str](), set[int](), 0
    kept: list[Match] = []
    for group in dict.fromkeys(found.label[~found.settled].tolist()):
        if group in done:
            continue
        now = course()
        groups = _together(now.state, group, members, keys, place, found.label)
        done |= groups
        erased = now.state.erased_tracks
        some = [k for one in sorted(groups) for k in members[one] if keys[k] not in erased]
        was = {keys[k]: now.state.tracks.get(keys[k]) for k in some}
        part = found.only(np.array(some, np.int64)).weighed()
        names = dict.fromkeys(name for name in was.values() if name is not None)
        links = checked.within(now.state.identities, names)
        links = {key: match for key, match in links.items() if key in last and key in was}
        _assign_late(now, part)
        agree(now, part)
        gone = checked.parted(links, now.state.tracks)
        kept += [match for key, match in links.items() if key not in gone]
        revise(now, part)
        for key, before in was.items():
            if before != (after := now.state.tracks[key]):
                changed |= {after} if before is None else {before, after}
        work += len(some)
        if work >= _CONCLUDED_A_PIECE:
            work = 0
            yield
    if kept:
        course().decide("check", "", other=checked.count(kept, (), block).text)
    return {name for name in changed if name in course().state.identities}


def _together(
    state: State,
    group: int,
    members: Mapping[int, Sequence[int]],
    keys: Sequence[TrackKey],
    place: Mapping[TrackKey, int],
    label: Int64,
) -> set[int]:
    """A group with all that share an identity with it, or with one of those."""
    out, ahead = {group}, [group]
    seen: set[str] = set()
    while ahead:
        for k in members[ahead.pop()]:
            name = state.tracks.get(keys[k])
            if name is None or name in seen:
                continue
            seen.add(name)
            theirs = {
                int(label[place[key]]) for key in state.identities[name].members if key in place
            }
            ahead += theirs - out
            out |= theirs
    return out


def _assign_late(course: Course, found: Grouped) -> None:
    """Who came too late to be decided live joins the rest of the group, or founds somebody."""
    window = found.scores.window
    place = {row: k for k, row in enumerate(found.rows.tolist())}
    for group in dict.fromkeys(found.label.tolist()):
        rows = found.rows[found.label == group].tolist()
        known = [row for row in rows if window.at(row).key in course.state.tracks]
        for row in rows:
            key, state = window.at(row).key, course.state
            if key in state.tracks:
                continue
            if known:
                match = found.match(row, np.array(known, np.int64), course)
                names = {state.tracks[window.at(k).key] for k in known}
                firm = {state.tracks[window.at(k).key] for k in known if found.settled[place[k]]}
                name = min(firm or names, key=lambda n: (state.identities[n].founded_ns, n))
                course.decide("assign", name, (key,), match=match)
            else:
                course.decide("assign", state.mint(key), (key,))
            known.append(row)
