"""The matcher: sightings in, decisions out. No I/O and no clock; time is capture time.

The core feeds it every stored sighting with ``add`` and says with ``advance`` up to which capture
time all devices have spoken; everything up to there is decided in micro-batches of capture time,
so that the order in which devices arrive does not matter.

A micro-batch: take in what was captured, put each camera's new tracklets where they fit best or
found somebody new, and now and then, once that is told, group again those who changed and their
neighbours, which may merge, split and move. When a block of time is over it is decided once more,
for good (``settling``). Only ``identity.apply`` changes who is who.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from skyreid.contract.identity_event import Event, TrackKey
from skyreid.contract.sighting import Kind, Sighting
from skyreid.server.matching import identity, regroup
from skyreid.server.matching.clustering import candidates
from skyreid.server.matching.final import OVERLAP_TOLERANCE_S
from skyreid.server.matching.identity import Applied, Decision, State
from skyreid.server.matching.odds import Scores
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals
from skyreid.server.matching.regroup import Course, Roster
from skyreid.server.matching.settling import BLOCK_S, Recall, Settling, block_of
from skyreid.server.matching.tracklets import Tracklet, Window

RECLUSTER_S = 2.0
"""How often those who changed are grouped again, in capture time; a multiple of batch_s."""
ENOUGH_CROPS = 5
LOOKED_FOR_NS = 2_000_000_000
"""Where nothing but looks speaks, a tracklet is told to be somebody once so many pictures say so,
it has ended, or so much time has passed. The first look is two pictures, and often wrong."""
REGROUPED = 256
"""Tracklets that are grouped again at a time; the others' turn comes next."""
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

        In the latter case ``add`` the stored sightings of the last ``shown_s`` before ``advance``.

        Args:
            options: how sure is sure enough.
            state: the replayed log.
            priors: where score calibration starts, by view pair as in a manifest
                (``aerial-ground``).
        """
        self._options, self._priors = options, priors or {}
        self.recall: Recall | None = None
        """Gives what was stored of a stretch of capture time that is not kept here any more, for
        what comes late; None = nobody kept it."""
        self.state: State = state or State()
        """The fold of every decision so far: read it; set it to an equal one at most."""
        self._batch_ns = round(options.batch_s * 1e9)
        self._every = max(1, round(RECLUSTER_S / options.batch_s))  # ticks
        self._window_ns = round(options.window_s * 1e9)
        self._tick = self.state.at_ns // self._batch_ns
        self._arrived: list[tuple[int, TrackKey, int, int, str, Sighting]] = []
        self._arrivals = 0
        self._window = Window(overlap_tolerance_s=OVERLAP_TOLERANCE_S)
        self.scores = Scores(self._window, self._priors)  # of the active window; read it
        self._roster = Roster()
        self._untold: dict[TrackKey, int] = {}  # in no identity; since when, of capture time passed
        self._due: dict[TrackKey, None] = {}  # changed since they were last grouped
        self._regroup_ns: int | None = None  # as of when, and it is to be done yet
        self._settling = Settling(self.state, options.window_s, self._priors)
        self._passed_ns = 0  # capture time gone by since the start, forwards only
        self._touched_ns: dict[TrackKey, int] = {}  # when, of that, each tracklet was last revised
        self._made: list[Applied] = []  # by the call of `advance` that is going on, not handed on
        self._tell: Callable[[list[Applied]], None] | None = None
        self._changed = False  # since the last call of `advance` without a horizon

    def afresh(self, state: State) -> Matcher:
        """One with the same options, empty, where ``state`` left off."""
        new = Matcher(self._options, state, self._priors)
        new.recall = self.recall
        return new

    @property
    def window_s(self) -> float:
        """How far back it looks, seconds of capture time."""
        return self._options.window_s

    @property
    def shown_s(self) -> float:
        """How far back it has to be shown what was stored, seconds of capture time."""
        return (self._settling.reach + 1) * BLOCK_S

    @property
    def undecided(self) -> int:
        """How many sightings were taken in and not decided."""
        return len(self._arrived)

    @property
    def decided_ns(self) -> int:
        """Capture time up to which everything that was there has been decided."""
        return self._tick * self._batch_ns

    @property
    def unsettled(self) -> int:
        """Blocks of time that are over and not yet decided for good."""
        return self._settling.waiting

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
            self._settling.hold(tracklet)
            self._put(tracklet)
            if tracklet.key not in self.state.tracks:
                self._untold[tracklet.key] = self._passed_ns
            self._changed = True

    def due(self, horizon_ns: int | None) -> bool:
        """Whether there is something to do up to ``horizon_ns`` (None = everything has come)."""
        self._set_back(horizon_ns)
        next_ns = self.next_ns
        within = next_ns is None or horizon_ns is None or next_ns <= horizon_ns
        return within or self._settling.waiting > 0 or bool(self._untold)

    def advance(
        self, horizon_ns: int | None, tell: Callable[[list[Applied]], None] | None = None
    ) -> list[Applied]:
        """Decide everything captured up to ``horizon_ns`` (None = everything there is).

        Time goes forward, but for a horizon that is ``_SET_BACK_NS`` behind what was decided (where
        there is none: the newest that waits): a clock was ahead and was put right.

        The decisions have been folded into ``state``, in this order and once each: write them to
        the log in this order too, and tell their events. Those of the micro-batches are handed to
        ``tell`` before what takes longer begins, and are not returned then.
        """
        self._tell = tell
        self._set_back(horizon_ns)
        while (next_ns := self.next_ns) is not None:
            if horizon_ns is not None and next_ns > horizon_ns:
                break
            tick = next_ns // self._batch_ns
            self._through(tick - 1)
            self._batch(tick)
        if horizon_ns is not None:
            self._through(horizon_ns // self._batch_ns)
            self._settle(everything=False)
        elif self._changed:
            self._changed = False
            self._settling.over(block_of(self.decided_ns))  # as if it were
            self._settle(everything=True)
        postponed = self._settling.postponed(block_of(self.decided_ns))
        if postponed != self.state.postponed:
            other = " ".join(map(str, postponed))
            self._decide(Decision("postpone", self.decided_ns, "", other=other))
        made, self._made = self._made, []
        return made

    def apply(self, decision: Decision) -> tuple[Event, ...]:
        """Take in a decision from elsewhere (an operator, an erasure); of the erased keep nothing.

        Raises:
            InputError: it does not fit the state.
        """
        before = self.state
        self.state, events = identity.apply(before, decision)
        if decision.kind == "return":  # who is grouped with whom stays
            return events
        self._roster.note(decision, self._window)
        if decision.kind in ("erase", "forget"):
            self.drop(decision.tracks or before.identities[decision.identity].members)
        self._settling.again()
        self._changed = True
        return events

    def drop(self, keys: Collection[TrackKey]) -> int:
        """Keep nothing of some tracklets; returns how many of them there were in here."""
        there = {entry[1] for entry in self._arrived if entry[1] in keys}
        self._arrived = [entry for entry in self._arrived if entry[1] not in there]
        heapq.heapify(self._arrived)
        for key in keys:
            if key in self._window:
                there.add(key)
                self._leave(key)
        return len(there | self._settling.drop(keys))

    # --- time ------------------------------------------------------------------------------------

    def _set_back(self, horizon_ns: int | None) -> None:
        """Let time go back to where it is now, if a clock had taken it far ahead."""
        now_ns = horizon_ns
        if now_ns is None:
            now_ns = max((entry[0] for entry in self._arrived), default=self.decided_ns)
        if not 0 < now_ns < self.decided_ns - _SET_BACK_NS:
            return
        waiting = [t for t, *_ in self._arrived if now_ns - self._window_ns <= t <= now_ns]
        self._tick = min([*waiting, now_ns]) // self._batch_ns - 1

    def _pass(self, tick: int) -> None:
        """It is ``tick`` now."""
        self._passed_ns, before = self._passed_by(tick), block_of(self.decided_ns)
        self._tick = tick
        now = block_of(self.decided_ns)
        # The block in which it was is over, and the one after it settles what began in it.
        for block in range(before, min(now, before + 2)):
            self._settling.over(block)
        if now > before:
            self._settling.forget(now)

    def _passed_by(self, tick: int) -> int:
        ahead_ns = (tick - self._tick) * self._batch_ns
        # Farther ahead, it is a clock that jumps.
        return self._passed_ns + min(max(0, ahead_ns), _SET_BACK_NS)

    def _through(self, tick: int) -> None:
        """Let time pass without sightings: one look covers any length of it."""
        while self._untold:
            wait_ns = next(iter(self._untold.values())) + LOOKED_FOR_NS - self._passed_ns
            overdue = self._tick + max(1, -(-wait_ns // self._batch_ns))
            if overdue > tick:
                break
            self._batch(overdue)
        self._regroup()
        due = tick // self._every * self._every
        if due > self._tick and self._due:
            self._regroup_ns = due * self._batch_ns
        self._pass(max(self._tick, tick))

    def _batch(self, tick: int) -> None:
        """One micro-batch: everything captured up to ``tick``."""
        self._regroup()
        at_ns, now = tick * self._batch_ns, block_of(tick * self._batch_ns)
        touched: dict[TrackKey, None] = {}
        while self._arrived and self._arrived[0][0] <= at_ns:
            _, key, _, _, model_key, sighting = heapq.heappop(self._arrived)
            if key in self.state.erased_tracks:
                continue
            self._changed = True
            tracklet = self._settling.take(key, model_key, sighting, now)
            if tracklet.last_ns >= at_ns - self._window_ns or key in self._window:
                self._put(tracklet)
                touched[key] = None
        self._forget(at_ns)
        touched = {key: None for key in sorted(touched) if key in self._window}
        self.scores.refresh(self._roster.owner)
        fresh = [key for key in touched if self._is_fresh(key, now)]
        ready = self._ready([key for key in fresh if key not in self.state.tracks], tick)
        self._compare(sorted({*fresh, *ready}))
        new = [key for key in ready if self._is_fresh(key, now)]
        regroup.place_new(self._course(at_ns), self.scores, self._roster, new, self._open(now))
        self._due.update(dict.fromkeys([*fresh, *ready]))
        self._pass(tick)
        if tick % self._every == 0:
            self._regroup_ns = at_ns

    def _put(self, tracklet: Tracklet) -> None:
        """A tracklet enters the window, or is replaced there by its newer self."""
        key, row = tracklet.key, self._window.put(tracklet)
        self.scores.touched(row)
        self._touched_ns.pop(key, None)  # the latest touched is the last
        self._touched_ns[key] = self._passed_ns
        if (name := self.state.tracks.get(key)) is not None:
            self._roster.own(row, name)

    def _is_fresh(self, key: TrackKey, now: int) -> bool:
        began = self._settling.blocks.began(key)
        return began is not None and began >= now - 1

    def _open(self, now: int) -> Callable[[int], bool]:
        """Whether the group of a row may still change."""
        return lambda row: self._is_fresh(self._window.at(row).key, now)

    def _forget(self, at_ns: int) -> None:
        facts, rows = self._window.facts, self._window.taken()
        late = set(rows[facts["last_ns"][rows] < at_ns - self._window_ns].tolist())
        old = [self._window.at(row).key for row in late]
        # By its own time, or, where a clock was ahead then, by how long nobody spoke of it.
        for key, touched_ns in self._touched_ns.items():
            if self._passed_ns - touched_ns <= self._window_ns:
                break  # in the order in which they were touched
            old.append(key)
        for key in old:
            if key in self.state.tracks or not self._is_fresh(key, block_of(at_ns)):
                self._leave(key)

    def _leave(self, key: TrackKey) -> None:
        """A tracklet leaves the window."""
        for noted in (self._touched_ns, self._untold, self._due):
            noted.pop(key, None)
        if (row := self._window.rows.get(key)) is not None:
            self._roster.partners.pop(row, None)
            self._roster.leave(row)
            self._window.drop(key)

    # --- live decisions --------------------------------------------------------------------------

    def _decide(self, decision: Decision) -> State:
        self.state, events = identity.apply(self.state, decision)
        self._roster.note(decision, self._window)
        self._made.append(Applied(decision, events))
        return self.state

    def _hand(self) -> None:
        if self._tell is not None and self._made:
            made, self._made = self._made, []
            self._tell(made)

    def _ready(self, new: Sequence[TrackKey], tick: int) -> list[TrackKey]:
        """Those in no identity of whom it is time to tell, in order of their keys."""
        passed_ns = self._passed_by(tick)
        for key in new:
            self._untold.setdefault(key, passed_ns)
        ready = []
        for key, since_ns in list(self._untold.items()):
            row = self._window.rows[key]
            latest, facts = self._window.at(row).sighting, self._window.facts[row]
            enough = latest.crops >= ENOUGH_CROPS or latest.kind is Kind.END
            enough = enough or passed_ns - since_ns >= LOOKED_FOR_NS
            if enough or facts["end"] > facts["start"]:
                ready.append(key)
                del self._untold[key]
        return sorted(key for key in ready if key not in self.state.tracks)

    def _compare(self, keys: Sequence[TrackKey]) -> None:
        """Look for those with whom tracklets are worth comparing."""
        if keys:
            rows = np.array([self._window.rows[key] for key in keys], np.int64)
            found = candidates(self.scores, rows, self._window.taken())
            self._roster.partners.update(zip(rows.tolist(), found, strict=True))

    def _regroup(self) -> None:
        """If it is time: group those who changed again, with their neighbours."""
        at_ns, self._regroup_ns = self._regroup_ns, None
        if at_ns is None:
            return
        self._hand()
        now = block_of(at_ns)
        first: list[int] = []
        while self._due and len(first) < REGROUPED:
            key = next(iter(self._due))
            del self._due[key]
            if key in self.state.tracks and self._is_fresh(key, now):
                first.append(self._window.rows[key])
        if not first:
            return
        found = regroup.likely(self.scores, self._roster, first)
        regroup.again(
            self._course(at_ns),
            self.scores,
            self._roster,
            first,
            [name for names in found for name in names],  # one hop further
            self._open(now),
            REGROUPED,
        )

    def _settle(self, *, everything: bool) -> None:
        """Go on with what is to be decided for good."""
        self._regroup()
        self._hand()
        self._settling.advance(self._course(self.decided_ns), self.recall, everything=everything)

    def _course(self, at_ns: int) -> Course:
        return Course(self.state, at_ns, self._options.fpir, self._decide)
