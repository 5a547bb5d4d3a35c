"""When matching fails: find the sightings on which it does, and go on without them.

Not on the main path: everything is built anew from the log and the stored sightings, as at a start,
once for each look. That is slow, and it proves that the next start will not fail on them either.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skyreid.contract.sighting import Sighting
from skyreid.server.matching.identity import Applied, State
from skyreid.server.matching.matcher import Matcher
from skyreid.server.store.journal import Journal
from skyreid.server.store.quarantine import culprit
from skyreid.server.store.records import Arrived
from skyreid.server.store.snapshots import Start

_log = logging.getLogger(__name__)

PATIENCE = 8
"""After so many were found one by one, twice as many are taken at once, and so on."""


@dataclass(frozen=True)
class Isolated:
    """Matching that goes on: with whom, what it decided, and without which sightings and why."""

    matcher: Matcher
    made: list[Applied]
    culprits: list[tuple[list[Arrived], str]]


def shown_to(state: State, journal: Journal, shown_s: float) -> list[Arrived]:
    """The stored sightings that a matcher with ``state`` has to be given before it goes on.

    Those of the last ``shown_s`` of capture time, and whatever has no identity yet.
    """
    since_ns = state.at_ns - int(shown_s * 1e9)
    shown = list(journal.sightings_since(since_ns))
    # What came late, from before that, stored in the last moment of the last life.
    for key in journal.tracklets_before(since_ns) - state.erased_tracks:
        if key not in state.tracks:
            shown += journal.sightings_of(key)
    return shown


def resumed(start: Start, journal: Journal, matcher: Matcher) -> list[Arrived]:
    """Give matching what it held at the snapshot; the stored sightings it has to be given beside.

    Where there is no snapshot, or of another window, it is all of what it looks back to.
    """
    held = start.held
    if held is None or held.window_s != matcher.window_s:
        return shown_to(start.state, journal, matcher.shown_s)
    matcher.restore(held.window)
    return list(journal.sightings_after(held.sighting, held.waiting))


def told(
    journal: Journal, since_ns: int, until_ns: int
) -> Iterator[tuple[str, str, str, Sighting]]:
    """What was stored of a stretch of capture time, as a matcher is given it again."""
    for item in journal.sightings_since(since_ns, until_ns):
        yield item.device, item.boot, item.model_key, item.sighting


def isolate(failed: Matcher, state: State, journal: Journal, horizon_ns: int | None) -> Isolated:
    """Advance a matcher made anew; leave out what it fails on. Call where the exception is.

    Args:
        failed: gives the options; nothing of what it holds is used.
        state: the log.
        journal: what was stored.
        horizon_ns: up to where it is to decide.

    Raises:
        Exception: it fails without any sighting too.
    """
    _log.exception("matching failed; looking for the sightings on which it does")
    left = shown_to(state, journal, failed.shown_s)
    culprits: list[tuple[list[Arrived], str]] = []
    width = 1
    while True:
        try:
            isolated = Isolated(*_advance(failed, state, left, horizon_ns), culprits)
        except MemoryError:
            raise
        except Exception:
            if not left:
                raise
            why = traceback.format_exc()
        else:
            if not culprits:
                _log.error("matching did not fail again, made anew from the journal; it goes on")
            return isolated
        end = culprit(left, lambda some: _fails(failed, state, some, horizon_ns)) + 1
        start = max(0, end - width)
        culprits.append((left[start:end], why))
        for item in left[start:end]:
            s = item.sighting
            _log.error(
                "sighting set aside device=%s boot=%s seq=%d camera=%s track=%d: matching fails on "
                "it; skyreid-server quarantine shows and retries it",
                *(item.device, item.boot, s.seq, s.camera, s.track),
            )
        del left[start:end]
        if len(culprits) % PATIENCE == 0:
            width *= 2


def _advance(
    failed: Matcher, state: State, shown: Sequence[Arrived], horizon_ns: int | None
) -> tuple[Matcher, list[Applied]]:
    matcher = failed.afresh(state)
    for item in shown:
        matcher.add(item.device, item.boot, item.model_key, item.sighting)
    return matcher, matcher.advance(horizon_ns)


def _fails(failed: Matcher, state: State, shown: Sequence[Arrived], horizon_ns: int | None) -> bool:
    try:
        _advance(failed, state, shown, horizon_ns)
    except MemoryError:
        raise
    except Exception:
        return True
    return False
