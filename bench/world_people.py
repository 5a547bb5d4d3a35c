"""Who came back, asked as a server asks, of a day that was made up: no journal, the same rest."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Sighting
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.priors import Normals
from skyreid.server.people.asking import People
from skyreid.server.people.options import PeopleOptions
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.records import Arrived
from skyreid.server.store.spans import Span


class Asked:
    """Takes a day's sightings, and asks after each step of the matcher."""

    def __init__(
        self, matcher: Matcher, options: PeopleOptions, priors: Mapping[str, Normals]
    ) -> None:
        self._matcher, self._gallery = matcher, Gallery()
        self._made: list[Decision] = []
        self._spans: dict[TrackKey, Span] = {}
        self._people = People(
            self._gallery, lambda: matcher.state, self._decide, self, options, priors
        )
        self._spent_s = 0.0

    def take(self, device: str, boot: str, model: str, sighting: Sighting) -> None:
        """One sighting, as it is stored."""
        dim, at_ns = len(sighting.embedding), sighting.captured_at_ns
        self._gallery.take([Arrived(device, boot, 0, model, dim, at_ns, sighting, b"")])
        key = TrackKey(device, boot, sighting.camera, sighting.track)
        self._spans[key] = Span(sighting.first_seen_ns, at_ns)

    def after(self, made: Sequence[Applied], *, end: bool) -> list[Decision]:
        """What the matcher decided, and the returns that follow."""
        decided = [applied.decision for applied in made]
        begin_s = time.process_time()
        self._people.note(decided)
        self._people.turn(self._matcher.decided_ns, everything=end, live=False)
        self._spent_s += time.process_time() - begin_s
        out, self._made = [*decided, *self._made], []
        return out

    def rate(self, fpir: float) -> float:
        """The measured rate."""
        return round(self._people.measured.rate(fpir), 4)

    @property
    def measured(self) -> int:
        """On how many it was measured."""
        return len(self._people.measured)

    @property
    def cpu_ms(self) -> float:
        """Of one question."""
        return round(1e3 * self._spent_s / max(self._people.asked_for, 1), 2)

    def spans(self, keys: Collection[TrackKey]) -> Mapping[TrackKey, Span]:
        """See `Spans`."""
        return {key: self._spans[key] for key in keys if key in self._spans}

    def beside(self, span: Span) -> Mapping[TrackKey, Span]:
        """See `Spans`."""
        return {key: each for key, each in self._spans.items() if each.meets(span)}

    def _decide(self, decision: Decision) -> None:
        self._matcher.apply(decision)
        self._made.append(decision)
