"""Where returns lie: links between two identities that join nothing, and can be undone.

A return is between two tracklets, and lies with the identities of both. So it goes with them when
identities merge or part, and is gone with either of them when that is erased or forgotten. What
was undone stays with the identities as long as both are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from skyreid.contract.identity_event import Match, Return, TrackKey

K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)
Homes = tuple[str, str]
"""The identity that came, and the one that had left."""


class Linked(Protocol):
    """An identity, as far as it matters here."""

    @property
    def link(self) -> Return | None:
        """By which it may be somebody who had left."""

    @property
    def members(self) -> Mapping[TrackKey, Match | None]:
        """Its tracklets, the founder first."""

    @property
    def links(self) -> tuple[Return, ...]:
        """All that lie with it."""

    @property
    def founded_ns(self) -> int:
        """When it was founded."""


class Get(Protocol[K_contra, V_co]):
    """A map."""

    def get(self, key: K_contra, /) -> V_co | None: ...


def person_of(identities: Get[str, Linked], tracks: Get[TrackKey, str], name: str) -> str:
    """The id that a person is known by: of the first identity that accepted returns lead to."""
    way = [name]
    while (identity := identities.get(way[-1])) is not None:
        link = identity.link
        before = tracks.get(link.other) if link is not None and link.state == "accepted" else None
        if before is None:
            return way[-1]
        if before in way:  # merges have closed a ring: one of it, the same for all
            ring = way[way.index(before) :]
            return min(ring, key=lambda each: (_founded(identities, each), each))
        way.append(before)
    return way[-1]


def links_of(
    identities: Get[str, Linked], tracks: Get[TrackKey, str], names: Iterable[str]
) -> dict[Return, Homes]:
    """The returns of some identities, and where they lie."""
    found: dict[Return, Homes] = {}
    for name in dict.fromkeys(names):
        identity = identities.get(name)
        for link in () if identity is None else identity.links:
            later, earlier = tracks.get(link.track), tracks.get(link.other)
            assert later, "it had gone with its tracklets"
            assert earlier
            found[link] = later, earlier
    return found


def rehomed(
    links: Mapping[Return, Homes],
    identities: Get[str, Linked],
    tracks: Get[TrackKey, str],
) -> dict[Return, Homes]:
    """The links that are left after tracklets have moved or gone, and where they lie now.

    Args:
        links: those of all identities that changed, and where they lay before.
        identities: as they are now.
        tracks: which identity each tracklet is in now.
    """
    left: dict[Return, Homes] = {}
    for link, (later, earlier) in links.items():
        now = link
        if link.state == "undone":  # as long as both identities are there
            track, other = link.track, link.other
            if tracks.get(track) is None:
                track = _founder(identities, later) or track
            if tracks.get(other) is None:
                other = _founder(identities, earlier) or other
            if (track, other) != (link.track, link.other):
                now = replace(link, track=track, other=other, similarity=None)
        homes = tracks.get(now.track), tracks.get(now.other)
        if homes[0] is not None and homes[1] is not None and homes[0] != homes[1]:
            left[now] = homes[0], homes[1]
    never = {frozenset(homes) for link, homes in left.items() if link.state == "undone"}
    best: dict[str, Return] = {}
    for link, homes in left.items():
        if link.state != "undone" and frozenset(homes) not in never:
            best[homes[0]] = max(best.get(homes[0], link), link, key=_strength)
    return {
        link: homes
        for link, homes in left.items()
        if link.state == "undone" or best.get(homes[0]) == link
    }


def in_order(links: Iterable[Return]) -> tuple[Return, ...]:
    """The same links in the same order, however they came."""
    return tuple(sorted(links, key=lambda link: (link.track, link.other, link.state)))


def _strength(link: Return) -> tuple[bool, float, TrackKey, TrackKey]:
    return link.state == "accepted", link.probability, link.track, link.other


def _founder(identities: Get[str, Linked], name: str) -> TrackKey | None:
    identity = identities.get(name)
    return None if identity is None else next(iter(identity.members))


def _founded(identities: Get[str, Linked], name: str) -> int:
    identity = identities.get(name)
    return 0 if identity is None else identity.founded_ns
