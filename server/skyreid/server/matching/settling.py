"""What is final: a fold over blocks of capture time, each decided once more when it is over.

Live decisions depend on what had come by then. Final ones must not: a block of capture time is
decided anew from everything captured in it, whenever and in whatever order that came. What began
two blocks ago or earlier is settled by then and only joined; what began since is grouped afresh.
So the final identities are a fold over blocks, each step a function of its sightings and of the
settled identities before it, and a latecomer costs the steps that can see it, not more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Sighting
from skyreid.server.matching.final import Actor, conclude, settle
from skyreid.server.matching.identity import State
from skyreid.server.matching.priors import Normals
from skyreid.server.matching.regroup import Course
from skyreid.server.matching.tracklets import Tracklet, begin, revised

BLOCK_S = 60.0
"""What was told in a block of capture time is decided for good when it is over."""
PIECES = 2
"""Pieces of the steps that are done in one go; a block has a hundred or two, and a minute twice as
many goes. Where several blocks wait, twice as many."""
_RECALLED_AT_ONCE_S = 10.0
QUIET_ROUNDS = 20
"""A block that something came late for waits until nothing more has for so many rounds: what was
kept for hours comes in many portions."""

Recall = Callable[[int, int], Iterable[tuple[str, str, str, Sighting]]]
"""Device, boot, model key and sighting of what was captured from a moment until before another."""


def block_of(captured_at_ns: int) -> int:
    """Number of the block that a moment lies in."""
    return captured_at_ns // round(BLOCK_S * 1e9)


def begin_of(block: int) -> int:
    """Capture time at which a block begins."""
    return block * round(BLOCK_S * 1e9)


class Blocks:
    """Tracklets as they were known at the end of each block in which they were told of."""

    def __init__(self) -> None:
        self._versions: dict[int, dict[TrackKey, Tracklet]] = {}
        self._told: dict[TrackKey, list[int]] = {}  # in which blocks, ascending
        self._began: dict[TrackKey, int] = {}
        self._guessed: set[TrackKey] = set()  # as long as what came before is not recalled

    def __contains__(self, block: int) -> bool:
        return block in self._versions

    def take(self, key: TrackKey, model_key: str, sighting: Sighting) -> Tracklet:
        """Take a sighting in, in any order; the tracklet at its latest."""
        block = block_of(sighting.captured_at_ns)
        told = self._told.setdefault(key, [])
        at = bisect_left(told, block)
        if at == len(told) or told[at] != block:
            of_block = self._versions.setdefault(block, {})
            if at:
                before = self._versions[told[at - 1]][key]
                of_block[key] = revised(before, model_key, sighting)
            else:
                of_block[key] = begin(key, model_key, sighting)
            told.insert(at, block)
            self._began[key] = min(block, self._began.get(key, block))
            at += 1
        for later in told[at:]:
            self._versions[later][key] = revised(self._versions[later][key], model_key, sighting)
        return self._versions[told[-1]][key]

    def hold(self, tracklet: Tracklet) -> None:
        """Take a tracklet as it was at its latest."""
        block = block_of(tracklet.last_ns)
        self._versions.setdefault(block, {})[tracklet.key] = tracklet
        self._told[tracklet.key] = [block]
        self._began[tracklet.key] = block_of(tracklet.first_ns)
        self._guessed.add(tracklet.key)

    def complete(self) -> None:
        """Whatever was told before what is held here has been taken in again."""
        for key in self._guessed & self._told.keys():
            self._began[key] = self._told[key][0]
        self._guessed.clear()

    def began(self, key: TrackKey) -> int | None:
        """The block in which a tracklet was first told of; None if it is not here."""
        return self._began.get(key)

    def forget_before(self, block: int) -> None:
        """Drop the blocks before one."""
        for old in [number for number in self._versions if number < block]:
            for key in self._versions.pop(old):
                self._told[key].remove(old)
                if not self._told[key]:
                    del self._told[key], self._began[key]

    def drop(self, key: TrackKey) -> None:
        """Forget a tracklet; no error if it is not here."""
        for block in self._told.pop(key, ()):
            del self._versions[block][key]
        self._began.pop(key, None)

    def scene(self, block: int, reach: int) -> Iterator[Actor]:
        """Tracklets of ``reach`` blocks up to one, as known at its end, in order of their keys."""
        known: dict[TrackKey, tuple[Tracklet, int]] = {}
        for number in range(block, block - reach, -1):
            for key, tracklet in self._versions.get(number, {}).items():
                known.setdefault(key, (tracklet, number))
        for key in sorted(known):
            yield Actor(*known[key], self._began[key], self._began[key] < block - 1)

    def latest(self, keys: Iterable[TrackKey]) -> int | None:
        """The last block in which one of some tracklets was told of; None if none is here."""
        return max((self._told[key][-1] for key in keys if key in self._told), default=None)

    @property
    def last(self) -> int | None:
        """The last block of all."""
        return max((b for b, of_block in self._versions.items() if of_block), default=None)


class Settling:
    """Blocks that are over, and the step of each that is due: see the top of this file."""

    def __init__(self, state: State, window_s: float, priors: Mapping[str, Normals]) -> None:
        self._priors = priors
        self.reach = max(3, 2 + -(-round(window_s) // round(BLOCK_S)))
        """How many blocks a step looks at."""
        self.blocks = Blocks()
        self._round = 0
        self._due = {block: -QUIET_ROUNDS for block in state.postponed}
        """Blocks whose step is due, and the round in which something last came late for each."""
        self._work: tuple[int, Generator[None, None, None]] | None = None
        self._course: Course  # of the latest `advance`; what goes on in pieces goes by the latest
        now = block_of(state.at_ns)
        self._kept_from = now - self.reach
        self._recalled: set[int] = set()  # blocks before that, read again
        # A life before may have ended before it did the steps of its last blocks.
        self._again_from: int | None = now - 2 if state.at_ns else None

    @property
    def waiting(self) -> int:
        """Blocks that are over and whose step is not done."""
        return len(self._due) + (self._work is not None)

    def postponed(self, now: int) -> tuple[int, ...]:
        """The blocks that wait, but for the latest two, which are looked at at every start."""
        working = () if self._work is None else (self._work[0],)
        return tuple(block for block in sorted({*self._due, *working}) if block < now - 1)

    def take(self, key: TrackKey, model_key: str, sighting: Sighting, now: int) -> Tracklet:
        """Take a sighting in, captured at any time; the tracklet at its latest.

        Args:
            key: of the tracklet.
            model_key: what made the embedding.
            sighting: captured at any time.
            now: the block that it is.
        """
        block = block_of(sighting.captured_at_ns)
        for late in range(block, min(block + self.reach, now)):
            self._due[late] = self._round
        return self.blocks.take(key, model_key, sighting)

    def hold(self, tracklet: Tracklet) -> None:
        """Begin with a tracklet as it was held in an earlier life; the rest is recalled."""
        self.blocks.hold(tracklet)
        self._kept_from = max(self._kept_from, block_of(tracklet.last_ns) + 1)

    def over(self, block: int) -> None:
        """A block is over: it is settled who is who in the one before it."""
        if block in self.blocks or block - 1 in self.blocks:
            self._due.setdefault(block, -QUIET_ROUNDS)

    def forget(self, now: int) -> None:
        """Keep what a step may yet look at."""
        busy = self._due.keys() | ({self._work[0]} if self._work is not None else set())
        keep = min([now, *busy]) - 2 * self.reach
        self._kept_from = max(self._kept_from, keep)
        self._recalled = {block for block in self._recalled if block >= keep}
        self.blocks.forget_before(keep)

    def drop(self, keys: Collection[TrackKey]) -> set[TrackKey]:
        """Keep nothing of some tracklets; those of them that were here."""
        there = {key for key in keys if self.blocks.began(key) is not None}
        for key in there:
            self.blocks.drop(key)
        if there:
            self.again()
        return there

    def again(self) -> None:
        """Begin the step that is going on again: what it builds on has changed."""
        if self._work is not None:
            self._due.setdefault(self._work[0], -QUIET_ROUNDS)
            self._work = None

    def advance(self, course: Course, recall: Recall | None, *, everything: bool) -> None:
        """Do the steps that are due, the oldest first, or some pieces of them.

        Args:
            course: what it goes by.
            recall: see `Recall`.
            everything: all that is due; else ``PIECES`` or so.
        """
        self._course = course
        pieces = None if everything else PIECES if self.waiting <= 2 else 2 * PIECES
        self._round += 1
        self._look_again(block_of(course.at_ns))
        while self._work is not None or self._due:
            if self._work is None:
                block = self._next(patient=pieces is not None)
                if block is None:
                    return
                del self._due[block]
                self._work = block, self._step(block, recall)
            _, work = self._work
            while pieces is None or pieces > 0:
                pieces = None if pieces is None else pieces - 1
                try:
                    next(work)
                except StopIteration:
                    self._work = None
                    break
            else:
                return

    def _build_on(self, changed: set[str], block: int) -> None:
        """After a step changed who some identities are: those who build on them look again."""
        state, now = self._course.state, block_of(self._course.at_ns)
        members = (key for name in changed for key in state.identities[name].members)
        last = self.blocks.latest(members)
        if last is not None:
            for later in range(block + 1, min(last + self.reach, now)):
                if later in self.blocks:
                    self._due.setdefault(later, -QUIET_ROUNDS)

    def _next(self, *, patient: bool) -> int | None:
        """The oldest of the blocks that are due and, if ``patient``, have been left alone."""
        if not patient:
            return min(self._due)
        quiet = [b for b, late in self._due.items() if self._round - late >= QUIET_ROUNDS]
        return min(quiet, default=None)

    def _look_again(self, now: int) -> None:
        if self._again_from is None:
            return
        last = self.blocks.last
        if last is not None:
            for block in range(max(self._again_from, last - self.reach), min(last + 2, now)):
                self._due.setdefault(block, -QUIET_ROUNDS)
        self._again_from = None

    def _step(self, block: int, recall: Recall | None) -> Generator[None, None, None]:
        """The step of a block; before it, those that it looks at and that are not kept any more."""
        if recall is not None:
            for number in range(block - 2 * self.reach + 1, min(block + 1, self._kept_from)):
                if number not in self._recalled:
                    self._recalled.add(number)
                    yield from self._recall(number, recall)
            self.blocks.complete()
        scene = list(self.blocks.scene(block, self.reach))
        tracks = self._course.state.tracks
        found = yield from settle(scene, self.reach, tracks, self._priors)
        if found is not None:
            last = [actor.tracklet.key for actor in scene if actor.began == block - 1]
            counted = self._course.state.checked.block or 0
            if block <= counted <= block_of(self._course.at_ns):  # beyond: a clock was ahead
                last = []
            changed = yield from conclude(lambda: self._course, found, block, set(last))
            self._build_on(changed, block)

    def _recall(self, block: int, recall: Recall) -> Generator[None, None, None]:
        since_ns, end_ns = begin_of(block), begin_of(block + 1)
        while since_ns < end_ns:
            until_ns = min(since_ns + round(_RECALLED_AT_ONCE_S * 1e9), end_ns)
            for device, boot, model_key, sighting in recall(since_ns, until_ns):
                key = TrackKey(device, boot, sighting.camera, sighting.track)
                if key not in self._course.state.erased_tracks:
                    self.blocks.take(key, model_key, sighting)
            since_ns = until_ns
            yield
