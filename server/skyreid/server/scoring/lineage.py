"""Which identity each tracklet had, and when: the log of decisions, read as a history.

The state after the last decision is what the server believes in the end. What it told the world
while things happened is in the steps that led there: a correction that came later does not change
what was said before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from skyreid.contract.identity_event import Match, Return, TrackKey
from skyreid.server.matching.identity import Decision, Identity, State, apply

Steps = tuple[tuple[int, "str | None"], ...]


@dataclass(frozen=True)
class Statement:
    """One thing that the server says: these tracklets are of the person whom those others show.

    ``match`` says how sure it is, None for who founds an identity; ``others`` are the rest of the
    identity at that moment, ``doubtful`` those of them whose own link is tentative.
    """

    tracks: tuple[TrackKey, ...]
    match: Match | None
    others: tuple[TrackKey, ...]
    doubtful: frozenset[TrackKey] = frozenset()


@dataclass(frozen=True)
class Lineage:
    """What a log of decisions says of each tracklet.

    ``steps`` holds, in the order of the log, the capture time up to which the server looked and
    the identity that the tracklet had from there on (None = erased). ``told`` is what events said,
    in their order, ``held`` what is believed of each tracklet after the last decision.
    """

    steps: Mapping[TrackKey, Steps]
    told: tuple[Statement, ...] = ()
    held: tuple[Statement, ...] = ()
    person: Mapping[str, str] = field(default_factory=dict)
    """Of each identity in the end, the id of the person that accepted returns make it."""
    returns: tuple[Return, ...] = ()
    """Those that hold in the end."""

    def final(self, key: TrackKey) -> str | None:
        """The tracklet's identity after the last decision; None if it has none."""
        steps = self.steps.get(key)
        return steps[-1][1] if steps else None

    def at_emission(self, key: TrackKey, captured_at_ns: int) -> str | None:
        """The identity that the tracklet had when the server's view reached this moment.

        Frames before the first decision about the tracklet are told under that first decision.
        """
        steps = self.steps.get(key)
        if not steps:
            return None
        index = bisect_right([at for at, _ in steps], captured_at_ns) - 1
        return steps[max(index, 0)][1]


def lineage_of(decisions: Iterable[Decision]) -> Lineage:
    """Fold a log of decisions.

    Raises:
        InputError: a decision does not fit the ones before it.
    """
    state = State()
    steps: dict[TrackKey, list[tuple[int, str | None]]] = {}
    told: list[Statement] = []
    for decision in decisions:
        state, events = apply(state, decision)
        for event in events:
            if event.type in ("assigned", "tentative", "merged"):
                told.append(_statement(state.identities[event.identity], event.tracks, event.match))
        for track in dict.fromkeys(t for event in events for t in event.tracks):
            history = steps.setdefault(track, [])
            now = state.tracks.get(track)
            if not history or history[-1][1] != now:
                history.append((state.at_ns, now))  # of the log so far: never goes back
    held = [
        _statement(identity, (track,), match)
        for identity in state.identities.values()
        for track, match in identity.members.items()
    ]
    links = [identity.link for identity in state.identities.values()]
    return Lineage(
        {track: tuple(history) for track, history in steps.items()},
        tuple(told),
        tuple(held),
        {name: state.person(name) for name in state.identities},
        tuple(link for link in links if link is not None),
    )


def _statement(identity: Identity, tracks: tuple[TrackKey, ...], match: Match | None) -> Statement:
    others = {t: m for t, m in identity.members.items() if t not in tracks}
    doubtful = frozenset(t for t, m in others.items() if m is not None and m.state == "tentative")
    return Statement(tracks, match, tuple(others), doubtful)
