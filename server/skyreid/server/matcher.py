"""The matcher: sightings in, decisions out. No I/O and no clock; time is capture time.

The core feeds it every stored sighting with ``add`` and says with ``advance`` up to which capture
time all devices have spoken; everything up to there is decided in micro-batches of capture time,
so that the order in which devices arrive does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyreid.contract.sighting import Sighting
from skyreid.server import identity
from skyreid.server.identity import Decision, State
from skyreid.server.likelihood import Normals
from skyreid.server.tracklets import TrackKey


@dataclass(frozen=True)
class MatchingOptions:
    """How sure is sure enough. Defaults are measured (docs/LOG.md)."""

    fpir: float = 0.01
    """Accepted rate of strangers taken for somebody known (false-positive identification)."""
    batch_s: float = 0.5
    """Length of a micro-batch in capture time."""
    window_s: float = 600.0
    """Tracklets last seen longer ago than this take no part in matching any more."""
    priors: Mapping[str, Normals] = field(default_factory=dict)
    """Where score calibration starts, by view pair as in a manifest: ``aerial-ground`` etc."""


class Matcher:
    """Holds the active window. One writer; rebuildable from stored sightings and the state."""

    def __init__(self, options: MatchingOptions, state: State | None = None) -> None:
        """Start empty, or where ``state`` (the replayed log) left off.

        In the latter case ``add`` the stored sightings of the active window before ``advance``.
        """
        self._options = options
        self.state: State = state or State()
        """The fold of every decision so far: read it, never set it."""
        self._waiting: dict[TrackKey, Sighting] = {}

    def add(self, device: str, boot: str, model_key: str, sighting: Sighting) -> None:
        """Take a sighting in. Any order, repeats and late ones are fine; nothing is decided yet."""
        key = TrackKey(device, boot, sighting.camera, sighting.track)
        if key not in self.state.tracks and key not in self.state.erased_tracks:
            self._waiting.setdefault(key, sighting)

    def advance(self, horizon_ns: int | None) -> list[Decision]:
        """Decide everything captured up to ``horizon_ns`` (None = everything there is).

        The decisions have been applied to ``state`` already, in this order: write them to the log
        in this order too.
        """
        made = []
        for key in sorted(self._waiting):
            sighting = self._waiting[key]
            if horizon_ns is None or sighting.captured_at_ns <= horizon_ns:
                at_ns = sighting.captured_at_ns
                made.append(Decision("assign", at_ns, self.state.mint(key), (key,)))
                self.state, _ = identity.apply(self.state, made[-1])
                del self._waiting[key]
        return made

    def apply(self, decision: Decision) -> tuple[identity.Event, ...]:
        """Take in a decision from elsewhere (an operator, an erasure).

        Raises:
            InputError: it does not fit the state.
        """
        self.state, events = identity.apply(self.state, decision)
        return events
