"""One identity as far as it is known: its tracklets, why each is in it, and its returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skyreid.contract.identity_event import Match, Return, TrackKey


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

    def to_json(self) -> str:
        """One line, for a snapshot; equal identities give equal text."""
        members = [[k.to_json(), m and m.to_json()] for k, m in self.members.items()]
        whole = [self.id, self.founded_ns, members, self.aliases]
        whole += [[link.to_json() for link in self.links]] if self.links else []
        return json.dumps(whole, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Identity:
        """Inverse of ``to_json``."""
        name, founded_ns, members, aliases, *links = json.loads(text)
        return cls(
            name,
            founded_ns,
            {TrackKey.from_json(k): Match.from_json(m) if m else None for k, m in members},
            tuple(aliases),
            tuple(Return.from_json(link) for link in (links[0] if links else ())),
        )

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
