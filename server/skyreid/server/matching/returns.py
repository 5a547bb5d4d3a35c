"""Where returns lie: links between two identities that join nothing, and can be undone.

A return is between two tracklets, and lies with the identities of both. So it goes with them when
identities merge or part, and is gone with either of them when that is erased or forgotten. What
was undone stays with the identities as long as both are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from skyreid.contract.identity_event import Return, TrackKey
from skyreid.server.matching.known import Identity

K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)
Homes = tuple[str, str]
"""The identity that came, and the one that had left."""


class Get(Protocol[K_contra, V_co]):
    """A map."""

    def get(self, key: K_contra, /) -> V_co | None: ...


def person_of(identities: Get[str, Identity], tracks: Get[TrackKey, str], name: str) -> str:
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


def rehomed(
    links: Mapping[Return, Homes],
    tracks: Get[TrackKey, str],
    founder: Callable[[str], TrackKey | None],
) -> dict[Return, Homes]:
    """The links that are left after tracklets have moved or gone, and where they lie now.

    Args:
        links: those of all identities that changed, and where they lay before.
        tracks: which identity each tracklet is in now.
        founder: of an identity; None where it is no more.
    """
    left: dict[Return, Homes] = {}
    for link, (later, earlier) in links.items():
        now = link
        if link.state == "undone":  # as long as both identities are there
            track, other = link.track, link.other
            if tracks.get(track) is None:
                track = founder(later) or track
            if tracks.get(other) is None:
                other = founder(earlier) or other
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


def _founded(identities: Get[str, Identity], name: str) -> int:
    identity = identities.get(name)
    return 0 if identity is None else identity.founded_ns
