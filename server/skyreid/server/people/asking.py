"""Asks of everybody who came whether they had been here before; proposes returns as decisions.

An identity is asked for once nothing joined it for `ASK_AFTER_NS` (its blocks are settled by then),
or once it has been here for `LONG_NS`, and again when it has twice as many tracklets; how many at a
time, `waiting` says. Nothing here joins identities (`matching.returns`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from skyreid.contract.identity_event import Return, TrackKey
from skyreid.contract.sighting import View
from skyreid.server.matching.identity import Decision, State
from skyreid.server.matching.priors import Normals
from skyreid.server.people.judge import (
    COHORT_MIN,
    Candidate,
    Cohort,
    Measured,
    probabilities,
    unit_of,
    why_not,
)
from skyreid.server.people.looks import Looks, Seen, alike
from skyreid.server.people.options import PeopleOptions
from skyreid.server.people.waiting import Waiting
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.spans import Span

AHEAD = 48
"""Tracklets most like somebody, of each pair of views, whose people are looked at."""
COMPARED = 20
"""People who are compared as a whole: those of whom a tracklet is most alike."""
TRACKLETS_MAX = 24
"""Tracklets of one person that are compared, the latest."""
SHARE, COUNTED = 0.25, 40.0
"""Of those who come, so many had been here before, as sure as if so many had been counted."""
REMEMBERED = 20_000
AT_ONCE_NS = 10**9
"""Two that one camera shows for so long together are two people."""
COMPANY_NS = 10 * 10**9
"""Who came within so long of each other came together, and may be dressed alike for that."""


class Times(Protocol):
    """When tracklets were seen."""

    def spans(self, keys: Collection[TrackKey]) -> Mapping[TrackKey, Span]:
        """Of those that are known."""

    def beside(self, span: Span) -> Mapping[TrackKey, Span]:
        """Tracklets that were seen at some moment of a time."""


@dataclass(eq=False)
class Undo:
    """Somebody wants a return undone."""

    identity: str
    done: threading.Event = field(default_factory=threading.Event)
    link: Return | None = None
    """What is undone now; None where there was nothing."""


@dataclass(frozen=True, eq=False)
class _Look:
    """One pair of views: what is seen there, and whom it could be."""

    seen: Seen
    could_be: list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]


class People:
    """Use from the thread that writes the journal; ``undo`` from any."""

    def __init__(
        self,
        gallery: Gallery,
        state: Callable[[], State],
        decide: Callable[[Decision], None],
        times: Times,
        options: PeopleOptions,
        priors: Mapping[str, Normals],
        *,
        undone: Iterable[Return] = (),
    ) -> None:
        """``undone`` are links that an operator undid in a log that is being made anew."""
        self._gallery, self._looks = gallery, Looks(gallery)
        self._state, self._decide, self._times = state, decide, times
        self.options, self.priors = options, priors
        """Replaced as a whole, from the same thread."""
        self.measured = Measured()
        self._undone = list(undone)
        self.waiting = Waiting()
        self._asked: dict[str, int] = {}  # how many tracklets it had then
        self.undos: list[Undo] = []
        """What waits for a ``turn``."""
        self._arrivals, self._returns = 0, 0.0

    def undo(self, identity: str) -> Undo:
        """Have the return of an identity undone; the answer comes with the writer's next turn."""
        asked = Undo(identity)
        self.undos.append(asked)
        return asked

    def note(self, decisions: Iterable[Decision]) -> None:
        """Follow what was decided."""
        for d in decisions:
            if d.kind in ("assign", "merge", "move", "split"):
                self.waiting.touch(d.identity, d.at_ns)

    def resume(self, keys: Iterable[TrackKey]) -> None:
        """Ask of those whom matching held when it began.

        Not where the log has an answer, undone or not; that there was none it does not say.
        """
        state, keys = self._state(), keys if self.options.returns else ()
        for name in dict.fromkeys(state.tracks.get(key) for key in keys):
            if name is None:
                continue
            identity = state.identities[name]
            if not any(link.track in identity.members for link in identity.links):
                self.waiting.touch(name, state.at_ns)

    def turn(self, now_ns: int, *, everything: bool = False, live: bool = True) -> None:
        """Do what is due at a capture time (see ``Waiting.turn``)."""
        while self.undos:
            self._carry_out(self.undos.pop(0))
        if not self.options.returns:
            return
        if everything and self._undone:
            self._undo_again(None)
        self.waiting.turn(now_ns, self._ask, everything=everything, live=live)

    def _carry_out(self, asked: Undo) -> None:
        state = self._state()
        name = state.resolve(asked.identity)
        if name is not None:
            identity = state.identities[name]
            if (link := identity.link) is not None:
                asked.link = replace(link, state="undone", reason="")
                home = state.tracks[link.other]
                self._decide(_decision(state, name, home, asked.link))
            else:
                own = [k for k in identity.links if k.track in identity.members]
                asked.link = own[-1] if own else None
        asked.done.set()

    def _ask(self, name: str) -> bool:
        """Whether there was somebody to ask for."""
        state = self._state()
        identity = state.identities.get(name)
        if identity is None:
            return False
        self._undo_again(identity.members)
        members = list(identity.members)
        if len(members) < 2 * self._asked.get(name, 0):
            return False
        first = name not in self._asked
        if len(self._asked) >= REMEMBERED:
            self._asked.pop(next(iter(self._asked)))
        self._asked[name] = len(members)
        if identity.link is not None and identity.link.state == "accepted":
            return False
        with self._gallery.lock:
            found = _Question(self, self._state(), name, members).answer(first)
        if found is not None:
            link, other = found
            self._decide(_decision(self._state(), name, other, link))
        return True

    def _undo_again(self, members: Collection[TrackKey] | None) -> None:
        """Undo in this log, too, what was undone between these and others (None: all)."""
        left = []
        for link in self._undone:
            state = self._state()
            homes = state.tracks.get(link.track), state.tracks.get(link.other)
            here = members is None or link.track in members or link.other in members
            if not here or homes[0] is None or homes[1] is None:
                left.append(link)
            elif homes[0] != homes[1]:
                self._decide(_decision(state, homes[0], homes[1], link))
        self._undone = left

    def count(self, sure: float, first: bool) -> None:
        """Note how sure it is that somebody had been here."""
        if first:
            self._arrivals += 1
            self._returns += sure

    @property
    def asked_for(self) -> int:
        """How many were asked for the first time."""
        return self._arrivals

    @property
    def share(self) -> float:
        """Of those who came, how many had been here before."""
        return min(0.9, (self._returns + SHARE * COUNTED) / (self._arrivals + COUNTED))

    @property
    def times(self) -> Times:
        """When tracklets were seen."""
        return self._times

    @property
    def looks(self) -> Looks:
        """What they look like."""
        return self._looks


class _Question:
    """One identity, and everybody who had left before it came. Hold the gallery's lock."""

    def __init__(self, of: People, state: State, name: str, members: Sequence[TrackKey]) -> None:
        self._of, self._state, self._name = of, state, name
        self._spans = dict(of.times.spans(members))
        self._span = Span(
            min((s.first_ns for s in self._spans.values()), default=0),
            max((s.last_ns for s in self._spans.values()), default=0),
        )
        own = _latest({key: span.last_ns for key, span in self._spans.items()})
        self._model = of.looks.model_of(own)
        seen = of.looks.of(own, self._model) if self._model else []
        self._looks = [_Look(each, each.ended_before(self._span.first_ns)) for each in seen]
        self._own = of.looks.average(own, self._model) if self._model else None
        self._unit = unit_of(of.priors)

    def answer(self, first: bool) -> tuple[Return, str] | None:
        """The return to be told, and of whom; None where there is none."""
        of, options = self._of, self._of.options
        people = self._people()
        if not people:
            return None
        candidates, where = self._candidates()
        cohort = Cohort.of([each.score for each in candidates], people)
        self._measure(cohort)
        sure = probabilities(candidates, cohort, of.share, options.half_life_h)
        if not sure:
            of.count(0.0, first)
            return None
        best = max(range(len(sure)), key=lambda k: (sure[k], candidates[k].person))
        of.count(sure[best], first)
        if sure[best] < options.suggest_from:
            return None
        return self._told(candidates[best], where[candidates[best].person], sure[best], cohort)

    def _told(
        self, best: Candidate, rows: list[tuple[int, TrackKey, float]], sure: float, cohort: Cohort
    ) -> tuple[Return, str] | None:
        options, state = self._of.options, self._state
        reason = why_not(
            cohort, cohort.beyond(best.score), sure, best.gap_s, options.looks_h,
            self._of.measured, options.fpir,
        )  # fmt: skip
        number, other, similarity = max(rows, key=lambda row: (row[2], row[1]))
        seen = self._looks[number].seen
        own = [key for key in self._spans if self._view(key) is seen.query]
        track = max(own, key=lambda key: (self._spans[key].last_ns, key))
        link = Return(
            "tentative" if reason else "accepted",
            round(sure, 4),
            track,
            other,
            round(best.gap_s, 1),
            cohort.people,
            round(similarity, 4),
            (seen.query.word, seen.view.word),
            reason,
        )
        now = state.identities[self._name].link
        if now is not None and state.tracks[now.other] == state.tracks[other]:
            if (now.state, now.reason) == (link.state, link.reason):
                return None  # nothing new
        return link, state.tracks[other]

    def _view(self, key: TrackKey) -> View | None:
        found = self._of.looks.find(key)
        return None if found is None else found.view

    def _people(self) -> int:
        """About how many people had left: tracklets, by how many of them one has."""
        rows = {look.seen.view: sum(int(m.sum()) for m in look.could_be) for look in self._looks}
        each = max(1.0, len(self._state.tracks) / max(1, len(self._state.identities)))
        return round(sum(rows.values()) / each + 0.5) if sum(rows.values()) else 0

    def _candidates(self) -> tuple[list[Candidate], dict[str, list[tuple[int, TrackKey, float]]]]:
        """The most alike of them, and which of their tracklets are how much so."""
        state = self._state
        ahead: dict[str, float] = {}
        for look in self._looks:
            for key, cosine in _ahead(look):
                if (name := state.tracks.get(key)) is not None:
                    person = state.person(name)
                    ahead[person] = max(ahead.get(person, -1.0), cosine)
        ours = {state.person(self._name)}
        for link in state.identities[self._name].links:  # what was undone stays undone
            if link.state == "undone":
                for end in (link.track, link.other):
                    if (home := state.tracks[end]) != self._name:
                        ours.add(state.person(home))
        candidates, where = [], {}
        for person in sorted(ahead, key=lambda one: (-ahead[one], one))[:COMPARED]:
            found = None if person in ours else self._compared(person)
            if found is not None:
                candidates.append(found[0])
                where[person] = found[1]
        return candidates, where

    def _compared(self, person: str) -> tuple[Candidate, list[tuple[int, TrackKey, float]]] | None:
        """Somebody as a whole; None where they were elsewhere while this one was here."""
        spans = self._of.times.spans(_tracklets(self._state, person))
        if any(span.meets(self._span) for span in spans.values()):
            return None
        before = {k: s.last_ns for k, s in spans.items() if s.last_ns < self._span.first_ns}
        if not before:
            return None
        score, rows = self._scored(before)
        gap_s = (self._span.first_ns - max(before.values())) / 1e9
        return (Candidate(person, score, gap_s), rows) if rows else None

    def _scored(
        self, last_ns: Mapping[TrackKey, int]
    ) -> tuple[float, list[tuple[int, TrackKey, float]]]:
        """As a whole; and how alike each of their tracklets is."""
        latest, rows = _latest(last_ns), []
        for number, look in enumerate(self._looks):
            for key in latest:
                if (place := self._of.looks.place(key, look.seen)) is not None:
                    segment, row = place
                    rows.append((number, key, float(look.seen.similarity[segment][row])))
        if self._own is None or self._model is None or not rows:
            return -math.inf, []
        return alike(self._own, self._of.looks.average(latest, self._model)) / self._unit, rows

    def _measure(self, cohort: Cohort) -> None:
        """Note how alike the most alike of those was who cannot be this one."""
        others: dict[str, dict[TrackKey, int]] = {}
        for key, span in self._of.times.beside(self._span).items():
            name = self._state.tracks.get(key)
            if name is None or name == self._name:
                continue
            at_once = any(
                own.camera == key.camera
                and min(span.last_ns, s.last_ns) - max(span.first_ns, s.first_ns) >= AT_ONCE_NS
                for own, s in self._spans.items()
            )
            if at_once:
                others.setdefault(name, {})[key] = span.last_ns
        others = {name: some for name, some in others.items() if not self._came_with(name)}
        scores = [score for some in others.values() for score, rows in [self._scored(some)] if rows]
        if scores and cohort.people >= COHORT_MIN:
            self._of.measured.note(cohort.beyond(max(scores)))

    def _came_with(self, name: str) -> bool:
        """Whether somebody came in company with this one."""
        spans = self._of.times.spans(self._state.identities[name].members)
        begin_ns = min((span.first_ns for span in spans.values()), default=0)
        return abs(begin_ns - self._span.first_ns) < COMPANY_NS


def _ahead(look: _Look) -> list[tuple[TrackKey, float]]:
    """The tracklets most alike of those it could be, and their cosines."""
    found: list[tuple[float, int, int]] = []
    for number, (scores, mask) in enumerate(zip(look.seen.similarity, look.could_be, strict=True)):
        rows = np.flatnonzero(mask)
        if len(rows) > AHEAD:
            rows = rows[np.argpartition(scores[rows], len(rows) - AHEAD)[-AHEAD:]]
        found += [(float(scores[row]), number, int(row)) for row in rows]
    found.sort(reverse=True)
    return [(look.seen.segments[n].key(row), cosine) for cosine, n, row in found[:AHEAD]]


def _latest(last_ns: Mapping[TrackKey, int]) -> list[TrackKey]:
    return sorted(last_ns, key=lambda key: (last_ns[key], key))[-TRACKLETS_MAX:]


def _tracklets(state: State, person: str) -> list[TrackKey]:
    """All that a person has, in every identity that accepted returns lead to it from."""
    names, keys = [person], list[TrackKey]()
    for name in names:
        identity = state.identities[name]
        keys += identity.members
        for link in identity.links:
            later = state.tracks[link.track]
            if link.state == "accepted" and link.other in identity.members and later not in names:
                names.append(later)
    return keys


def _decision(state: State, later: str, earlier: str, link: Return) -> Decision:
    return Decision("return", state.at_ns, later, (link.track,), earlier, link=link)
