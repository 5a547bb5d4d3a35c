"""Who is who: event sourcing, a pure fold over an ordered log of decisions.

``apply(state, decision)`` is the only way identities change. Matching, operators and erasure
propose decisions; replaying the log gives the same identities with the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from immutables import Map

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import Event, EventType, Match, Return, TrackKey
from skyreid.server.matching import checked, members, returns
from skyreid.server.matching.checked import NOTHING_CHECKED, Checked
from skyreid.server.matching.returns import Homes
from skyreid.server.matching.shelf import PersistentMap

DecisionKind = Literal[
    "assign", "revise", "merge", "move", "split", "return", "erase", "forget", "postpone", "check"
]
_MOVES = ("merge", "move", "split", "erase", "forget")


@dataclass(frozen=True)
class Decision:
    """One entry of the log.

    ==========  ===================================================================================
    kind        meaning
    ==========  ===================================================================================
    ``assign``  ``tracks[0]`` is new; it joins ``identity`` (``match``), or founds it (no ``match``)
    ``revise``  ``tracks[0]`` stays in ``identity``; ``match`` is what is now known of the link
    ``merge``   ``identity`` takes in ``other``, whose id resolves to it for ever
    ``move``    ``tracks[0]`` leaves ``other`` for ``identity``, because of ``match``
    ``split``   ``tracks`` leave ``other`` and found ``identity``
    ``return``  ``identity`` may be ``other``, who had left, or is not, for ever: ``link`` says it
    ``erase``   ``tracks`` of ``identity`` (all where none are named; of nobody where it is "") are
                forgotten, and refused if they come again
    ``forget``  ``tracks`` are forgotten because their time is up, whoever they belong to
    ``postpone``  who is who changes nowhere; ``other`` are the blocks of time, by number, that
                something came late for and that are decided again when there is time (all of them)
    ``check``   who is who changes nowhere; ``other`` counts links that were looked at again, and
                those of them that were taken back (``Checked.text``)
    ==========  ===================================================================================
    """

    kind: DecisionKind
    at_ns: int
    """Capture time up to which the decision looked."""
    identity: str
    tracks: tuple[TrackKey, ...] = ()
    other: str | None = None
    match: Match | None = None
    link: Return | None = None

    def to_json(self) -> str:
        """One canonical line: equal decisions give equal text."""
        data: dict[str, Any] = {"kind": self.kind, "at_ns": self.at_ns, "identity": self.identity}
        if self.tracks:
            data["tracks"] = [t.to_json() for t in self.tracks]
        if self.other is not None:
            data["other"] = self.other
        if self.match is not None:
            data["match"] = self.match.to_json()
        if self.link is not None:
            data["link"] = self.link.to_json()
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Decision:
        """Inverse of ``to_json``.

        Raises:
            InputError: the text is not a decision.
        """
        try:
            data = json.loads(text)
            return cls(
                data["kind"],
                int(data["at_ns"]),
                data["identity"],
                tuple(TrackKey.from_json(t) for t in data.get("tracks", ())),
                data.get("other"),
                None if "match" not in data else Match.from_json(data["match"]),
                None if "link" not in data else Return.from_json(data["link"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"decision {text!r:.120}: {error!r}") from error


@dataclass(frozen=True)
class Applied:
    """A decision that was folded into a state, with what that gave rise to."""

    decision: Decision
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Identity:
    """One person, as far as is known: tracklets, each with the reason why it is here."""

    id: str
    founded_ns: int
    """``at_ns`` of the founding decision: of two that merge, the older one keeps its id."""
    members: Mapping[TrackKey, Match | None]
    """Tracklets in the order they joined; None for a founder. Treat as frozen."""
    aliases: tuple[str, ...] = ()
    """Ids of the identities that were merged into this one."""
    links: tuple[Return, ...] = ()
    """Returns, of this one and to this one, and those that were undone."""

    @property
    def link(self) -> Return | None:
        """By which this may be somebody who had left; None where nobody says so."""
        own = (k for k in self.links if k.state != "undone" and k.track in self.members)
        return next(own, None)

    @property
    def state(self) -> Literal["confirmed", "tentative"]:
        """``tentative`` while any link waits for better evidence."""
        waiting = any(m is not None and m.state == "tentative" for m in self.members.values())
        return "tentative" if waiting else "confirmed"

    @property
    def confidence(self) -> float | None:
        """Posterior of the weakest accepted link; None where there is no such link."""
        links = [m.probability for m in self.members.values() if m and m.state == "accepted"]
        return min(links, default=None)


@dataclass(frozen=True)
class State:
    """Everything the log says. It never changes: ``apply`` makes a new one.

    Its maps share with the state before all but the path to the change, so that a decision costs
    the same however long the log is. They are in no order: sort before you decide by it.
    """

    identities: PersistentMap[str, Identity] = field(default_factory=Map)
    tracks: PersistentMap[TrackKey, str] = field(default_factory=Map)
    """Which identity each tracklet is in."""
    aliases: PersistentMap[str, str] = field(default_factory=Map)
    """Absorbed id -> the id that took it in (which may itself have been absorbed since)."""
    erased: frozenset[str] = frozenset()
    """Ids that were erased, and those merged into them: never given again."""
    erased_tracks: frozenset[TrackKey] = frozenset()
    """Tracklets that were erased: later revisions of them are refused."""
    at_ns: int = 0
    """``at_ns`` of the latest decision: it goes back only where a clock was put right."""
    postponed: tuple[int, ...] = ()
    """Blocks of time that are to be decided again (``settling``), ascending."""
    checked: Checked = NOTHING_CHECKED
    """What became of links within identities."""
    checked_returns: Checked = NOTHING_CHECKED

    def resolve(self, identity: str) -> str | None:
        """The id under which ``identity`` lives now; None if it is unknown or erased."""
        while identity in self.aliases:
            identity = self.aliases[identity]
        return identity if identity in self.identities else None

    def person(self, identity: str) -> str:
        """The id that a person is known by: of the earliest identity that is linked to this one."""
        alone = self.identities[identity].link is None
        return identity if alone else returns.person_of(self.identities, self.tracks, identity)

    def mint(self, founder: TrackKey) -> str:
        """A fresh id for an identity founded by ``founder``; the same state gives the same id."""
        generation = 0
        while (
            (fresh := founder.identity_id(generation)) in self.identities
            or fresh in self.aliases
            or fresh in self.erased
        ):
            generation += 1
        return fresh


def apply(state: State, decision: Decision) -> tuple[State, tuple[Event, ...]]:
    """The state after one decision, and what to tell the world. Neither argument changes.

    Raises:
        InputError: the decision does not fit the state (the log was cut or edited).
    """
    draft = _Draft(state)
    events = draft.step(decision)
    return draft.frozen(), events


def replay(decisions: Iterable[Decision], state: State | None = None) -> State:
    """Apply a whole log. The same as ``apply`` in a loop."""
    draft = _Draft(state or State())
    for decision in decisions:
        draft.step(decision)
    return draft.frozen()


class _Draft:
    """A state under change: owned by one call of ``apply`` or ``replay``, seen by nobody else."""

    def __init__(self, state: State) -> None:
        self.identities, self.tracks, self.aliases = state.identities, state.tracks, state.aliases
        self.erased, self.erased_tracks = state.erased, state.erased_tracks
        self.postponed, self.at_ns = state.postponed, state.at_ns
        self.checked, self.checked_returns = state.checked, state.checked_returns

    def frozen(self) -> State:
        kept = (self.identities, self.tracks, self.aliases, self.erased, self.erased_tracks)
        return State(*kept, self.at_ns, self.postponed, self.checked, self.checked_returns)

    def step(self, d: Decision) -> tuple[Event, ...]:
        changes = {
            "assign": self._assign, "revise": self._revise, "merge": self._merge,
            "move": self._move, "split": self._split, "return": self._return,
            "erase": self._erase, "forget": self._forget, "postpone": self._postpone,
            "check": self._check,
        }  # fmt: skip
        if d.kind not in changes:
            raise InputError(f"decision kind {d.kind!r} is unknown")
        if d.kind != "forget":  # which looked at no capture time
            self.at_ns = d.at_ns
        before = self._links(d) if d.kind in _MOVES else {}
        events = changes[d.kind](d)
        if before:
            self._relink(before, returns.rehomed(before, self.identities, self.tracks))
        return events

    def _assign(self, d: Decision) -> tuple[Event, ...]:
        track = self._one(d)
        _fits(track not in self.tracks, d, f"{track} is in an identity already")
        _fits(track not in self.erased_tracks, d, f"{track} was erased")
        if d.match is None:
            self._found(d, (track,))
        else:
            self._put(self._identity(d, d.identity), track, d.match)
        return (_told(d, (track,)),)

    def _revise(self, d: Decision) -> tuple[Event, ...]:
        track = self._one(d)
        identity = self._identity(d, d.identity)
        _fits(track in identity.members, d, f"{track} is not in {d.identity}")
        before = identity.members[track]
        self._put(identity, track, d.match)
        same = before is not None and d.match is not None and before.state == d.match.state
        return () if same or d.match is None else (_told(d, (track,)),)

    def _merge(self, d: Decision) -> tuple[Event, ...]:
        keep = self._identity(d, d.identity)
        gone = self._identity(d, d.other)
        _fits(keep.id != gone.id, d, "an identity cannot take in itself")
        moved = dict(gone.members)
        for track, match in moved.items():
            if match is None:  # its founder is no founder any more: the merge is why it is here
                moved[track] = d.match
            self.tracks = self.tracks.set(track, keep.id)
        self.identities = self.identities.delete(gone.id)
        self.aliases = self.aliases.set(gone.id, keep.id)
        aliases = (*keep.aliases, gone.id, *gone.aliases)
        self._keep(replace(keep, members={**keep.members, **moved}, aliases=aliases))
        return (Event("merged", keep.id, d.at_ns, tuple(moved), gone.id, d.match),)

    def _move(self, d: Decision) -> tuple[Event, ...]:
        track = self._one(d)
        source, target = self._identity(d, d.other), self._identity(d, d.identity)
        _fits(source.id != target.id, d, "source and target are the same")
        _fits(track in source.members, d, f"{track} is not in {source.id}")
        _fits(len(source.members) > 1, d, "the last tracklet moves by a merge")
        self._take(source, (track,))
        self._put(target, track, d.match)
        lost = Event("split", source.id, d.at_ns, (track,), target.id)
        return lost, _told(d, (track,))

    def _split(self, d: Decision) -> tuple[Event, ...]:
        source = self._identity(d, d.other)
        _fits(bool(d.tracks), d, "no tracklets")
        _fits(all(t in source.members for t in d.tracks), d, f"not all of them in {source.id}")
        _fits(len(d.tracks) < len(source.members), d, "nothing would be left")
        self._take(source, d.tracks)
        self._found(d, d.tracks)
        return (
            Event("split", source.id, d.at_ns, d.tracks, d.identity),
            _told(d, d.tracks),
        )

    def _return(self, d: Decision) -> tuple[Event, ...]:
        later, earlier = self._identity(d, d.identity), self._identity(d, d.other)
        link, homes, why = d.link, (later.id, earlier.id), "it links no two identities"
        _fits(link is not None and later.id != earlier.id, d, why)
        assert link is not None
        _fits(link.track in later.members and link.other in earlier.members, d, why)
        before = later.link if link.state != "undone" else None
        old = {k: h for k, h in self._links(d).items() if before == k or {*h} == {*homes}}
        if link.state != "undone":
            _fits(all(k.state != "undone" for k in old), d, "it was undone")
        known = [k for k, h in old.items() if {*h} == {*homes}]
        self.checked_returns += checked.told_anew(known, link)
        self._relink(old, {link: homes})
        person = returns.person_of(self.identities, self.tracks, later.id)
        of = later.id, d.at_ns, (link.track,), earlier.id
        return (Event("returned", *of, link=link, person=person),)

    def _links(self, d: Decision) -> dict[Return, Homes]:
        names = [d.identity, d.other or "", *(self.tracks.get(t) or "" for t in d.tracks)]
        return returns.links_of(self.identities, self.tracks, names)

    def _relink(self, old: Mapping[Return, Homes], new: Mapping[Return, Homes]) -> None:
        for name in sorted({name for homes in (*old.values(), *new.values()) for name in homes}):
            if (identity := self.identities.get(name)) is not None:
                links = {*identity.links} - old.keys() | {k for k, h in new.items() if name in h}
                self._keep(replace(identity, links=returns.in_order(links)))

    def _erase(self, d: Decision) -> tuple[Event, ...]:
        tracks = d.tracks
        if d.identity:
            identity = self._identity(d, d.identity)
            tracks = tracks or tuple(identity.members)
            _fits(all(t in identity.members for t in tracks), d, f"not all of them in {d.identity}")
            if len(tracks) == len(identity.members):
                self.erased |= {identity.id, *identity.aliases}
            self._lose(identity, tracks)
        else:
            _fits(bool(tracks), d, "no tracklets")
            _fits(not any(t in self.tracks for t in tracks), d, "some are in an identity")
        self.erased_tracks |= frozenset(tracks)  # a copy of both, at an operator's pace
        return (Event("erased", d.identity, d.at_ns, tracks),) if d.identity else ()

    def _forget(self, d: Decision) -> tuple[Event, ...]:
        """No event: whoever follows identities knows for how long they are kept."""
        of: dict[str, list[TrackKey]] = {}
        for track in d.tracks:
            if (name := self.tracks.get(track)) is not None:
                of.setdefault(name, []).append(track)
        for name, tracks in of.items():
            self._lose(self.identities[name], tuple(tracks))
        return ()

    def _postpone(self, d: Decision) -> tuple[Event, ...]:
        numbers = (d.other or "").split()
        _fits(all(n.isdecimal() for n in numbers), d, f"no numbers of blocks: {d.other!r:.60}")
        self.postponed = tuple(sorted(int(n) for n in numbers))
        return ()

    def _check(self, d: Decision) -> tuple[Event, ...]:
        self.checked += Checked.read(d.other or "")
        return ()

    def _lose(self, identity: Identity, gone: tuple[TrackKey, ...]) -> None:
        """Tracklets leave an identity and are in none; one without tracklets is no more."""
        for track in gone:
            self.tracks = self.tracks.delete(track)
        if len(gone) == len(identity.members):
            self.identities = self.identities.delete(identity.id)
            for alias in identity.aliases:
                self.aliases = self.aliases.delete(alias)
            return
        self._keep(replace(identity, members=members.after_forgetting(identity.members, gone)))

    def _one(self, d: Decision) -> TrackKey:
        _fits(len(d.tracks) == 1, d, f"{len(d.tracks)} tracklets, exactly one is meant")
        return d.tracks[0]

    def _identity(self, d: Decision, name: str | None) -> Identity:
        _fits(name in self.identities, d, f"identity {name!r} does not exist")
        return self.identities[str(name)]

    def _found(self, d: Decision, tracks: tuple[TrackKey, ...]) -> None:
        taken = d.identity in self.identities or d.identity in self.aliases
        _fits(not taken and d.identity not in self.erased, d, f"id {d.identity!r} is taken")
        first, *rest = tracks
        of = {first: None, **dict.fromkeys(rest, d.match)}
        self._keep(Identity(d.identity, d.at_ns, of))
        for track in tracks:
            self.tracks = self.tracks.set(track, d.identity)

    def _put(self, identity: Identity, track: TrackKey, match: Match | None) -> None:
        self._keep(replace(identity, members={**identity.members, track: match}))
        self.tracks = self.tracks.set(track, identity.id)

    def _take(self, identity: Identity, tracks: tuple[TrackKey, ...]) -> None:
        self._keep(replace(identity, members=members.left(identity.members, tracks)))

    def _keep(self, identity: Identity) -> None:
        self.identities = self.identities.set(identity.id, identity)


def _told(d: Decision, tracks: tuple[TrackKey, ...]) -> Event:
    tentative = d.match is not None and d.match.state == "tentative"
    kind: EventType = "tentative" if tentative else "assigned"
    return Event(kind, d.identity, d.at_ns, tracks, match=d.match)


def _fits(condition: bool, decision: Decision, why: str) -> None:
    if not condition:
        raise InputError(f"decision {decision.kind} of {decision.identity} does not fit: {why}")
