"""What became of links: by how sure they were told, how many were looked at again and taken back.

A link is that a tracklet and the member of its identity that speaks most clearly for it
(``Match.other``) are one person. The stream looks at it again: when more has been seen the two are
found to be two people, and parted; or their block is decided for good, and they still are one. A
return is looked at by operators alone, who undo it or say nothing. So that a link is not taken back
is no proof that it is right: nobody knows more of it than the stream.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import Match, Return, TrackKey
from skyreid.server.matching.returns import Get, Linked

SURE_FROM = (0.5, 0.9, 0.99)
"""Links are counted together that were told with a probability between two of these."""
TOLD_LEAST = 30
"""Of fewer links it says little how many were taken back."""
_NONE = (0,) * (len(SURE_FROM) + 1)


@dataclass(frozen=True)
class Checked:
    """Numbers of links, by the place of their probability in ``SURE_FROM``."""

    told: tuple[int, ...] = _NONE
    """Those that were looked at again; of returns, all that were told."""
    wrong: tuple[int, ...] = _NONE
    """Those of them that were taken back."""
    block: int | None = None
    """The latest whose links were counted when they were settled: a step may be done twice."""

    @classmethod
    def read(cls, text: str) -> Checked:
        """Inverse of ``text``.

        Raises:
            InputError: it is none.
        """
        size, numbers = len(_NONE), text.split()
        if len(numbers) not in (2 * size, 2 * size + 1) or not all(n.isdecimal() for n in numbers):
            raise InputError(f"no counts of links, {2 * size} or one more are meant: {text!r:.60}")
        counts = tuple(int(n) for n in numbers)
        block = counts[-1] if len(counts) > 2 * size else None
        return cls(counts[:size], counts[size : 2 * size], block)

    @property
    def text(self) -> str:
        """The numbers of one after those of the other, and the block, if any."""
        block = () if self.block is None else (self.block,)
        return " ".join(map(str, (*self.told, *self.wrong, *block)))

    def __add__(self, more: Checked) -> Checked:
        """Both together."""
        told = tuple(a + b for a, b in zip(self.told, more.told, strict=True))
        wrong = tuple(a + b for a, b in zip(self.wrong, more.wrong, strict=True))
        return Checked(told, wrong, self.block if more.block is None else more.block)


NOTHING_CHECKED = Checked()


def count(told: Iterable[Match], wrong: Iterable[Match], block: int | None = None) -> Checked:
    """Links that were looked at again, and those of them that were taken back."""
    return Checked(_by_sureness(told), _by_sureness(wrong), block)


def told_anew(known: Iterable[Return], link: Return) -> Checked:
    """What a return adds to the counts: a pair counts once, as sure as it was told last.

    Args:
        known: returns between the same two identities, so far.
        link: the return; undone, it was wrong.
    """
    before = list(known)
    if any(k.state == "undone" for k in before):
        return NOTHING_CHECKED
    less = _by_sureness(before)
    told = tuple(a - b for a, b in zip(_by_sureness([link]), less, strict=True))
    return Checked(told, _by_sureness([link] if link.state == "undone" else []))


def within(identities: Get[str, Linked], names: Iterable[str]) -> dict[TrackKey, Match]:
    """The links within some identities, by the tracklet that each brought."""
    links: dict[TrackKey, Match] = {}
    for name in names:
        identity = identities.get(name)
        members = {} if identity is None else identity.members
        links.update((k, m) for k, m in members.items() if m is not None and m.other in members)
    return links


def parted(links: Mapping[TrackKey, Match], tracks: Get[TrackKey, str]) -> dict[TrackKey, Match]:
    """Those of some links whose two tracklets are in two identities now."""
    homes = ((key, tracks.get(key), tracks.get(match.other)) for key, match in links.items())
    return {key: links[key] for key, one, two in homes if one and two and one != two}


def _by_sureness(links: Iterable[Match | Return]) -> tuple[int, ...]:
    counts = list(_NONE)
    for link in links:
        counts[bisect_right(SURE_FROM, link.probability)] += 1
    return tuple(counts)
