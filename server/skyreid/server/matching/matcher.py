"""The matcher: sightings in, decisions out. No I/O and no clock; time is capture time.

The core feeds it every stored sighting with ``add`` and says with ``advance`` up to which capture
time all devices have spoken; everything up to there is decided in micro-batches of capture time,
so that the order in which devices arrive does not matter.

A micro-batch: take in what was captured, put each camera's new tracklets where they fit best or
found somebody new, and now and then look at the whole active window again, which may merge, split
and move. Only ``identity.apply`` changes who is who.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
from scipy.optimize import linear_sum_assignment

from skyreid.contract.identity_event import Event, TrackKey
from skyreid.contract.sighting import Sighting
from skyreid.server.matching import identity, regroup
from skyreid.server.matching.clustering import cluster
from skyreid.server.matching.identity import Applied, Decision, State
from skyreid.server.matching.likelihood import Float64, Normals
from skyreid.server.matching.odds import Scores, score_window
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.pairs import Window
from skyreid.server.matching.tracklets import Tracklet, begin, revised

RECLUSTER_S = 2.0
"""How often the whole window is looked at again, in capture time; a multiple of batch_s."""
OVERLAP_TOLERANCE_S = 0.3
"""Two tracklets of one camera may overlap by this much and still be one person (the tracker held on
to a ghost after it had begun anew)."""
HYSTERESIS = 0.5
"""What present company counts for when the window is looked at again, as a log-odds."""
_SET_BACK_NS = 60_000_000_000
"""Capture time that is ahead by more than this is a wrong clock's, and is set back."""


class Matcher:
    """Holds the active window. One writer; rebuildable from stored sightings and the state."""

    def __init__(
        self,
        options: MatchingOptions,
        state: State | None = None,
        priors: Mapping[str, Normals] | None = None,
    ) -> None:
        """Start empty, or where ``state`` (the replayed log) left off.

        In the latter case ``add`` the stored sightings of the active window before ``advance``.

        Args:
            options: how sure is sure enough.
            state: the replayed log.
            priors: where score calibration starts, by view pair as in a manifest
                (``aerial-ground``).
        """
        self._options, self._priors = options, priors or {}
        self.state: State = state or State()
        """The fold of every decision so far: read it; set it to an equal one at most."""
        self._batch_ns = round(options.batch_s * 1e9)
        self._tick = self.state.at_ns // self._batch_ns
        self._arrived: list[tuple[int, TrackKey, int, int, str, Sighting]] = []
        self._arrivals = 0
        self._window = Window(overlap_tolerance_s=OVERLAP_TOLERANCE_S)
        self._passed_ns = 0  # capture time gone by since the start, forwards only
        self._touched_ns: dict[TrackKey, int] = {}  # when, of that, each tracklet was last revised
        self._made: list[Applied] = []  # by the call of `advance` that is going on
        self._changed = False  # since the window was last looked at as a whole

    def afresh(self, state: State) -> Matcher:
        """One with the same options, empty, where ``state`` left off."""
        return Matcher(self._options, state, self._priors)

    @property
    def window_s(self) -> float:
        """How far back it looks, seconds of capture time."""
        return self._options.window_s

    @property
    def undecided(self) -> int:
        """How many sightings were taken in and not decided."""
        return len(self._arrived)

    @property
    def decided_ns(self) -> int:
        """Capture time up to which everything that was there has been decided."""
        return self._tick * self._batch_ns

    @property
    def next_ns(self) -> int | None:
        """The horizon at which ``advance`` decides something next; None = nothing waits."""
        if not self._arrived:
            return None
        # A latecomer's own moment has passed: it belongs to the latest micro-batch.
        return max(self.decided_ns, -(-self._arrived[0][0] // self._batch_ns) * self._batch_ns)

    def add(self, device: str, boot: str, model_key: str, sighting: Sighting) -> None:
        """Take a sighting in. Any order, repeats and late ones are fine; nothing is decided yet."""
        key = TrackKey(device, boot, sighting.camera, sighting.track)
        if key in self.state.erased_tracks:
            return
        self._arrivals += 1
        entry = (sighting.captured_at_ns, key, sighting.revision, self._arrivals)
        heapq.heappush(self._arrived, (*entry, model_key, sighting))

    def held(self) -> list[Tracklet]:
        """The tracklets of the active window."""
        return self._window.tracklets()

    def waiting(self) -> list[tuple[str, str, int]]:
        """The sightings that were taken in and not decided, as (device, boot, seq)."""
        return [(key.device, key.boot, sighting.seq) for _, key, _, _, _, sighting in self._arrived]

    def restore(self, held: Iterable[Tracklet]) -> None:
        """Begin with the active window of an earlier life; ``add`` what it had waiting, too."""
        for tracklet in held:
            self._window.put(tracklet)
            self._touched_ns[tracklet.key] = self._passed_ns
            self._changed = True

    def due(self, horizon_ns: int | None) -> bool:
        """Whether what waits has come within ``horizon_ns`` (None = everything has)."""
        self._set_back(horizon_ns)
        next_ns = self.next_ns
        return next_ns is None or horizon_ns is None or next_ns <= horizon_ns

    def advance(self, horizon_ns: int | None) -> list[Applied]:
        """Decide everything captured up to ``horizon_ns`` (None = everything there is).

        Time goes forward, but for a horizon that is ``_SET_BACK_NS`` behind what was decided (where
        there is none: the newest that waits): a clock was ahead and was put right. What was seen
        meanwhile stays in the window as long as anything else.

        The decisions have been folded into ``state``, in this order and once each: write them to
        the log in this order too, and tell their events.
        """
        self._set_back(horizon_ns)
        while (next_ns := self.next_ns) is not None:
            if horizon_ns is not None and next_ns > horizon_ns:
                break
            tick = next_ns // self._batch_ns
            self._through(tick - 1)
            self._batch(tick)
        if horizon_ns is not None:
            self._through(horizon_ns // self._batch_ns)
        elif self._changed:
            self._regroup(self._tick * self._batch_ns)
        made, self._made = self._made, []
        return made

    def apply(self, decision: Decision) -> tuple[Event, ...]:
        """Take in a decision from elsewhere (an operator, an erasure).

        Of an erasure or of what is forgotten it keeps nothing: see `drop`.

        Raises:
            InputError: it does not fit the state.
        """
        before = self.state
        self.state, events = identity.apply(before, decision)
        if decision.kind in ("erase", "forget"):
            self.drop(decision.tracks or before.identities[decision.identity].members)
        self._changed = True
        return events

    def drop(self, keys: Collection[TrackKey]) -> int:
        """Keep nothing of some tracklets; returns how many of them there were in here."""
        there = {entry[1] for entry in self._arrived if entry[1] in keys}
        if there:
            self._arrived = [entry for entry in self._arrived if entry[1] not in there]
            heapq.heapify(self._arrived)
        for key in keys:
            if key in self._window:
                there.add(key)
                self._window.drop(key)
            self._touched_ns.pop(key, None)
        return len(there)

    def _decide(self, decision: Decision) -> State:
        self.state, events = identity.apply(self.state, decision)
        self._made.append(Applied(decision, events))
        return self.state

    def _set_back(self, horizon_ns: int | None) -> None:
        """Let time go back to where it is now, if a clock had taken it far ahead."""
        now_ns = horizon_ns
        if now_ns is None:
            now_ns = max((entry[0] for entry in self._arrived), default=self.decided_ns)
        if not 0 < now_ns < self.decided_ns - _SET_BACK_NS:
            return
        oldest_ns = now_ns - round(self._options.window_s * 1e9)
        waiting = [entry[0] for entry in self._arrived if oldest_ns <= entry[0] <= now_ns]
        self._tick = min([*waiting, now_ns]) // self._batch_ns - 1

    def _pass(self, tick: int) -> None:
        """It is ``tick`` now."""
        ahead_ns = (tick - self._tick) * self._batch_ns
        self._passed_ns += min(max(0, ahead_ns), _SET_BACK_NS)  # beyond, it is a clock that jumps
        self._tick = tick

    def _through(self, tick: int) -> None:
        """Let time pass without sightings: one look at the window covers any length of it."""
        every = max(1, round(RECLUSTER_S / self._options.batch_s))
        due = tick // every * every
        if due <= self._tick or not self._changed:
            self._pass(max(self._tick, tick))
            return
        self._pass(tick)
        self._regroup(due * self._batch_ns)

    def _batch(self, tick: int) -> None:
        """One micro-batch: everything captured up to ``tick``."""
        at_ns = tick * self._batch_ns
        touched: dict[TrackKey, None] = {}
        while self._arrived and self._arrived[0][0] <= at_ns:
            _, key, _, _, model_key, sighting = heapq.heappop(self._arrived)
            if key in self.state.erased_tracks:
                continue
            if key in self._window:
                self._window.put(revised(self._window.tracklet(key), model_key, sighting))
            else:
                self._window.put(begin(key, model_key, sighting))
            touched[key] = None
            self._touched_ns[key] = self._passed_ns
        self._changed = self._changed or bool(touched)
        self._forget(at_ns)
        fresh = [key for key in sorted(touched) if key not in self.state.tracks]
        if fresh:
            self._place_new(fresh, at_ns)
        every = max(1, round(RECLUSTER_S / self._options.batch_s))
        self._pass(tick)
        if tick % every == 0:
            self._regroup(at_ns)

    def _forget(self, at_ns: int) -> None:
        window_ns = round(self._options.window_s * 1e9)
        for tracklet in self._window.tracklets():
            key = tracklet.key
            # By its own time, or, where a clock was ahead then, by how long nobody spoke of it.
            idle_ns = self._passed_ns - self._touched_ns[key]
            old = tracklet.last_ns < at_ns - window_ns or idle_ns > window_ns
            if old and key in self.state.tracks:
                self._window.drop(key)
                del self._touched_ns[key]

    def _place_new(self, fresh: Sequence[TrackKey], at_ns: int) -> None:
        """Assign tracklets that are in no identity yet, one camera after the other."""
        scores = self._scores()
        for _, group in groupby(fresh, lambda k: (k.device, k.boot, k.camera)):
            keys = list(group)
            known = scores.groups(self.state)
            odds = np.array([[scores.link(k, known[name]) for name in known] for k in keys])
            names = list(known)
            for key, column in zip(keys, assign(odds.reshape(len(keys), len(names))), strict=True):
                if column is None:
                    self._decide(Decision("assign", at_ns, self.state.mint(key), (key,)))
                else:
                    name = names[column]
                    match = scores.match(key, known[name], self._options.fpir)
                    self._decide(Decision("assign", at_ns, name, (key,), match=match))

    def _regroup(self, at_ns: int) -> None:
        """Look at the whole window: decide what would explain it better."""
        self._changed = False
        scores = self._scores()
        label = cluster(
            scores.evidence,
            scores.prior + HYSTERESIS * scores.company(self.state),
            scores.weight,
            scores.forbidden,
        )
        fpir = self._options.fpir
        regroup.agree(self.state, scores, label, at_ns, fpir, self._decide)
        regroup.revise(self.state, scores, at_ns, fpir, self._decide)

    def _scores(self) -> Scores:
        tracklets: list[Tracklet] = self._window.tracklets()
        tables = self._window.tables([t.key for t in tracklets])
        return score_window(tracklets, tables, self._priors)


def assign(score: Float64) -> list[int | None]:
    """Which identity each tracklet of one camera joins (Hungarian); None = somebody new.

    Tracklets of one camera at one time are different people, so each identity is given at most
    once; the sum of the scores is the greatest possible, with 0 for "new".

    Args:
        score: [tracklets, identities] log posterior odds against "new"; -inf = impossible.
    """
    tracklets, identities = score.shape
    if not tracklets:
        return []
    new = np.zeros((tracklets, tracklets))
    finite = np.where(np.isfinite(score), score, -1e6)
    rows, columns = linear_sum_assignment(np.concatenate([finite, new], 1), maximize=True)
    chosen: list[int | None] = [None] * tracklets
    for row, column in zip(rows, columns, strict=True):
        if column < identities and finite[row, column] > 0:
            chosen[row] = int(column)
    return chosen
