"""Forgetting: carries out what is to be erased, in the fold, the journal and whatever keeps copies.

::

    request (a row) -> list of erased keys -> decision, rows, events (one transaction)
                    -> vectors -> copies of the journal -> checkpoint -> receipt

Each step may be done twice. A request that is not done is gone through again at the next start,
before anybody is served: from the moment in which it is written, no kill leaves somebody half
erased. See docs/decisions/forgetting.md.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from skyreid.contract.errors import InputError
from skyreid.contract.files import FileLock
from skyreid.contract.identity_event import TrackKey
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision, State
from skyreid.server.own_time import OwnTime
from skyreid.server.store import beside, drop, erasures
from skyreid.server.store.erasures import Asked, Target
from skyreid.server.store.gallery import Gallery, gallery_of
from skyreid.server.store.journal import EVENTS_KEPT, Journal
from skyreid.server.store.repair import open_sound
from skyreid.server.store.retention import Retention
from skyreid.server.store.retention_options import RetentionOptions
from skyreid.server.store.snapshots import Held

_log = logging.getLogger(__name__)

Also = Callable[[sqlite3.Connection], None]
"""What is done in the same transaction."""
Decide = Callable[[Decision, Also], None]
"""Fold a decision, and write it down in one transaction with what else is done in it, and with the
snapshot after it: the log before it is needed no more."""


RETRY_S = 1.0
SWEEP_S = 60.0
"""Retention looks for what is due so often; while more is due, at every turn."""
ERASE_WAIT_S = 60.0
"""A command waits so long for the server's receipt."""


class Keeper(Protocol):
    """Whatever keeps anything of tracklets."""

    def drop(self, keys: Collection[TrackKey]) -> int:
        """Keep nothing of them; how many of them there were in here."""


class Forgetting:
    """Erases whom it was asked to. Use from the thread that writes the journal."""

    def __init__(
        self,
        journal: Journal,
        state: Callable[[], State],
        decide: Decide,
        gallery: Gallery,
        others: tuple[Keeper, ...] = (),
        retention: RetentionOptions | None = None,
        *,
        window_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``others`` keep something for a moment, in memory only. No ``retention``: for ever."""
        self._journal, self._state, self._decide = journal, state, decide
        self._gallery, self._others = gallery, others
        self._retention = None
        if retention is not None:
            self._retention = Retention(retention, journal, gallery, decide, window_s=window_s)
        self.due_at_s = float("-inf")
        """When ``turn`` has something to do, in monotonic seconds."""
        self._tried_at_s = self._swept_at_s = float("-inf")
        self._own_time = OwnTime("retention")
        self.waiting = 0
        """Erasures that are not done: something still has to let go."""

    def turn(self, now_s: float, *, asked: bool) -> bool:
        """What is to be done now; whether rows went.

        Args:
            now_s: monotonic seconds.
            asked: somebody may have asked for an erasure.

        Raises:
            sqlite3.Error: the disk refuses; call again.
        """
        if asked or (self.waiting and now_s - self._tried_at_s > RETRY_S):
            self._tried_at_s = now_s
            self.erase_asked()
        if self._retention is not None and now_s - self._swept_at_s >= SWEEP_S:
            asked |= self._sweep(self._retention, now_s)
        self.due_at_s = min(
            self._tried_at_s + RETRY_S if self.waiting else float("inf"),
            float("inf") if self._retention is None else self._swept_at_s + SWEEP_S,
        )
        return asked

    def _sweep(self, retention: Retention, now_s: float) -> bool:
        try:
            more = retention.sweep(self._own_time.now_ns())
        except InputError as error:
            _log.error("retention: %s", error)
            more = False
        if not more:
            self._swept_at_s = now_s
        return True

    def erase_asked(self) -> None:
        """Carry out every request that is not done.

        Raises:
            sqlite3.Error: the disk refuses; call again.
        """
        asked = self._journal.reading(erasures.unfinished)
        self.waiting = len(asked)
        for one in asked:
            try:
                self.waiting -= self._carry_out(one)
            except (OSError, InputError) as error:
                _log.error("erasure %d: %s; it is tried again", one.id, error)

    def erase_listed(self) -> None:
        """Erase again whom the list names and an older copy of the journal still has."""
        listed = erasures.read_erased(self._journal.path)
        state = self._state()
        back = [key for key in listed if key not in state.erased_tracks]
        if not back:
            return
        with self._journal.writing() as db:
            for key in back:
                erasures.ask(db, key, "erased since this copy was made", time.time_ns())
        _log.warning("%d erased tracklets came back with an older journal: erasing", len(back))
        self.erase_asked()

    def _carry_out(self, asked: Asked) -> bool:
        if asked.state == "asked":
            decision = self._decision(asked)
            if decision is None:
                self._refuse(asked)
                return True
            self._list(decision)
            asked = self._decide_it(asked, decision)
        keys = [TrackKey.from_json(key) for key in asked.body["tracks"]]
        body = dict(asked.body)
        body["vectors"] = self._drop_vectors(keys)
        body["copies"] = self._remove_copies()
        if not self._overwrite():
            return False
        self._finish(asked, body, keys)
        return True

    def _decision(self, asked: Asked) -> Decision | None:
        """What is to be decided; None where nobody of that name is known."""
        state, target = self._state(), asked.target
        if isinstance(target, str):
            name = state.resolve(target)
            if name is None:
                return None
            return Decision("erase", state.at_ns, name, tuple(state.identities[name].members))
        name = state.tracks.get(target)
        if name is None and not self._journal.has(target):
            listed = target in erasures.read_erased(self._journal.path)
            if not listed or target in state.erased_tracks:
                return None
        return Decision("erase", state.at_ns, name or "", (target,))

    def _refuse(self, asked: Asked) -> None:
        with self._journal.writing() as db:
            erasures.settle(db, asked.id, "refused", {"why": "nobody of that name is known"})

    def _list(self, decision: Decision) -> None:
        erasures.note_erased(self._journal.path, _names(decision, self._state()), decision.tracks)

    def _decide_it(self, asked: Asked, decision: Decision) -> Asked:
        keys, names = decision.tracks, _names(decision, self._state())
        body: dict[str, Any] = {"tracks": [key.to_json() for key in keys]}

        def rows(db: sqlite3.Connection) -> None:
            gone = drop.drop_rows(db, keys)
            gone["events"], gone["decisions"] = drop.drop_log(db, keys, names)
            body["rows"] = dict(gone)
            erasures.settle(db, asked.id, "decided", body)

        for keeper in self._others:
            keeper.drop(frozenset(keys))
        self._decide(decision, rows)
        return replace(asked, state="decided", body=body)

    def _drop_vectors(self, keys: Collection[TrackKey]) -> int:
        return self._gallery.drop(keys)

    def _remove_copies(self) -> list[str]:
        return drop.remove_copies(self._journal.path)

    def _overwrite(self) -> bool:
        return self._journal.reading(drop.overwrite)

    def _finish(self, asked: Asked, body: dict[str, Any], keys: Collection[TrackKey]) -> None:
        done = receipt(asked, body, keys, time.time_ns(), self._journal.path)
        with self._journal.writing() as db:
            erasures.settle(db, asked.id, "done", done)
        self._journal.refresh()
        removed = ", ".join(f"{n} {what}" for what, n in done["removed"].items() if n)
        _log.info("erased request=%d tracklets=%d: %s", asked.id, len(keys), removed)


def erase(path: Path, target: Target, reason: str) -> Asked:
    """Erase somebody from a journal: by its server where that runs, else by itself.

    Returns:
        the request, done or refused; at another state where its server is slow

    Raises:
        InputError: the journal cannot be opened.
    """
    number = beside.ask_erasure(path, target, reason, time.time_ns())
    end_s = time.monotonic() + ERASE_WAIT_S
    while True:
        asked = beside.read_erasure(path, number)
        if asked is None:
            raise InputError(f"journal {path}: another was put in its place meanwhile")
        if asked.state in ("done", "refused") or time.monotonic() >= end_s:
            return asked
        try:
            FileLock(path.with_name(f"{path.name}.lock"), of=f"journal {path}").close()
        except InputError:  # its server has it
            time.sleep(0.05)
            continue
        # As a start opens it: what a kill cost is found and said before its mark goes.
        site = beside.site_of(path)
        journal, _ = open_sound(path, site, pictures_max_bytes=1 << 62, events_kept=EVENTS_KEPT)
        try:
            without_matcher(journal).erase_asked()
        finally:
            journal.close()
        time.sleep(0.05)  # what refuses now, a full disk say, is asked again until `end_s`


def without_matcher(journal: Journal) -> Forgetting:
    """For a journal whose server does not run."""
    gallery = Gallery(gallery_of(journal.path), last=journal.last[0])
    start = journal.start()
    held = start.held or Held((), (), 0.0, 0)  # of no window: the next start reads all of its own
    now = SimpleNamespace(state=start.state, held=held)

    def decide(decision: Decision, also: Callable[[sqlite3.Connection], None]) -> None:
        state, events = identity.apply(now.state, decision)
        window = [t for t in now.held.window if t.key not in state.erased_tracks]
        held = replace(now.held, window=window)
        journal.decide([Applied(decision, events)], time.time_ns(), also, (state, held))
        now.state, now.held = journal.brought(state, held), held

    return Forgetting(journal, lambda: now.state, decide, gallery)


def receipt(
    asked: Asked, body: dict[str, Any], keys: Collection[TrackKey], done_at_ns: int, journal: Path
) -> dict[str, Any]:
    """What was removed where, and what is still pending elsewhere; no biometrics."""
    devices = sorted({key.device for key in keys})
    return {
        "erasure": asked.id,
        "target": asked.target if isinstance(asked.target, str) else asked.target.to_json(),
        "reason": asked.reason,
        "asked_at_ns": asked.asked_at_ns,
        "done_at_ns": done_at_ns,
        "tracks": body["tracks"],
        "removed": {**body["rows"], "vectors": body["vectors"], "copies": len(body["copies"])},
        "pending": {
            "devices": {
                "names": devices,
                "what": "what their spools and recordings still hold; it is refused when it comes",
            },
            "broker": "what it has queued is refused when it comes; events that it passed on, an "
            "event `erased` follows them",
            "backups": "those made before; `skyreid-server restore` erases from them again whom "
            f"{erasures.list_of(journal).name} names: keep that file",
            "recordings": "directories of `skyreid-server record` and of devices from that time: "
            "`skyreid-server erase` with --recording DIR takes the erased out of them",
        },
    }


def _names(decision: Decision, state: State) -> tuple[str, ...]:
    """Ids by which the erased are known, and which go with them."""
    if not decision.identity:
        return ()
    identity = state.identities[decision.identity]
    if len(decision.tracks) < len(identity.members):
        return ()
    return (identity.id, *identity.aliases)
