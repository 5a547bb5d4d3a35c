"""A start from a snapshot and the log after it is a start from the whole log."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_life import Life, plain

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import Evidence, Match, Return, ReturnState, TrackKey
from skyreid.server import isolation, writer
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision, State
from skyreid.server.store import beside, drop, snapshots
from skyreid.server.store.journal import Journal
from skyreid.server.store.repair import repair, verify
from skyreid.server.store.snapshots import Held

NOTHING = Held((), (), 600.0, 0)


def key(number: int) -> TrackKey:
    return TrackKey("dev", "1-a", "cam1", number)


def match(other: TrackKey) -> Match:
    return Match("accepted", 0.9, other, (Evidence("appearance", 2.1, 0.63), Evidence("prior", -3)))


def drawn(draw: random.Random, state: State, at: int) -> Decision:
    """Some decision that fits."""
    names = sorted(state.identities)
    big = [n for n in names if len(state.identities[n].members) > 1]
    kinds = ["join", "revise", "merge", "split", "erase", "forget", "return", "return", "check"]
    kind = draw.choice(["assign"] * 3 + kinds)
    if kind == "return" and len(names) > 1:
        later, earlier = draw.sample(names, 2)
        ends = [min(state.identities[name].members) for name in (later, earlier)]
        known = state.identities[later].links
        never = any(
            k.state == "undone" and earlier in (state.tracks[k.track], state.tracks[k.other])
            for k in known
        )
        said: ReturnState = "undone" if never else draw.choice(["accepted", "tentative", "undone"])
        link = Return(said, 0.9, ends[0], ends[1], 3600.0, 9, 0.5, ("ground", "aerial"))
        return Decision("return", at, later, (ends[0],), earlier, link=link)
    if kind == "check":
        counts = [draw.randrange(9) for _ in range(9)]
        return Decision("check", at, "", other=" ".join(map(str, counts)))
    if kind == "merge" and len(names) > 1:
        keep, gone = draw.sample(names, 2)
        return Decision("merge", at, keep, (), gone, match(key(0)))
    if kind == "split" and big:
        source = draw.choice(big)
        track = draw.choice(sorted(state.identities[source].members))
        return Decision("split", at, state.mint(track), (track,), source)
    if kind in ("join", "revise", "erase") and names:
        name = draw.choice(names)
        if kind == "join":
            return Decision("assign", at, name, (key(at),), match=match(key(at - 1)))
        track = draw.choice(sorted(state.identities[name].members))
        if kind == "erase":
            return Decision("erase", at, name, (track,))
        return Decision("revise", at, name, (track,), match=match(key(0)))
    if kind == "forget" and names:
        return Decision("forget", at, "", (draw.choice(sorted(state.tracks)),))
    return Decision("assign", at, state.mint(key(at)), (key(at),))


@pytest.mark.parametrize("seed", range(2))
def test_states_stay_what_they_were_while_the_snapshot_moves_on_and_a_start_gives_the_last(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "CACHED", 5)
    draw, path = random.Random(seed), tmp_path / "journal.sqlite"
    journal = Journal(path, "plaza", pictures_max_bytes=1)
    state, folded = journal.start().state, State()
    seen: list[tuple[State, State]] = []
    for at in range(1, 150):
        decision = drawn(draw, folded, at)
        folded, events = identity.apply(folded, decision)
        state, _ = identity.apply(state, decision)
        if draw.random() < 0.1:
            journal.decide([Applied(decision, events)], 9, None, (state, NOTHING))
            state = journal.brought(state, NOTHING)
            assert journal.since_snapshot == 0
        else:
            journal.decide([Applied(decision, events)], 9)
        if at % 20 == 0:
            seen.append((state, folded))
        if at % 60 == 0:
            journal.close()
            journal = Journal(path, "plaza", pictures_max_bytes=1)
            state = journal.start().state
            seen = []
    assert len(folded.identities) > 10
    for was, was_folded in [*seen, (state, folded)]:
        assert was == was_folded
        assert (len(was.tracks), len(was.identities)) == (
            len(was_folded.tracks),
            len(was_folded.identities),
        )
        assert [was.person(n) for n in was_folded.identities] == [
            was_folded.person(n) for n in was_folded.identities
        ]
        assert [was.resolve(n) for n in was_folded.aliases] == [
            was_folded.resolve(n) for n in was_folded.aliases
        ]
    assert state == identity.replay(journal.decisions())
    journal.close()
    assert verify(path).trouble == []
    with sqlite3.connect(path) as db:  # what the snapshot has is read from nowhere else
        at = (snapshots.read_head(db) or {})["decision"]
        assert 0 < at < 149
        drop.drop_decisions(db, "id <= ?", (at,))
    db.close()
    journal = Journal(path, "plaza", pictures_max_bytes=1)
    assert journal.start().state == folded
    assert journal.decision_count() == 149
    journal.close()
    report = repair(path, tmp_path / "new.sqlite")
    assert (report.lost_decisions, report.unfit_decisions, report.trouble) == (0, 0, [])
    assert verify(tmp_path / "new.sqlite").trouble == []
    with pytest.raises(InputError, match="its log is not whole"):
        beside.read_decisions(path)


def test_a_life_that_begins_from_a_snapshot_goes_on_as_one_that_reads_everything(
    life: Callable[..., Life], make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = life()
    for n in range(12):
        camera = ("cam1", "cam6")[n % 2]
        sighting = make.sighting(
            n + 1, track=n // 4, camera=camera, person=n // 4, at_s=n, revision=n
        )
        one.arrive(make.payload([sighting], device=camera), device=camera)
    one.step_until(lambda: one.writer.settled)
    late = make.sighting(90, track=90, person=9, at_s=400)
    one.arrive(make.payload([late], watermark_ns=make.start_ns + 399 * 10**9))
    one.writer.devices.horizon_ns = lambda now_s: make.start_ns + 399 * 10**9
    one.writer.step(0.001)
    assert one.writer.undecided == 1
    tracks = one.writer._matcher.held()
    one.writer._bring_snapshot(1)
    assert one.journal.since_snapshot == 0
    assert one.writer._matcher.held() == tracks
    after = make.sighting(91, track=91, person=1, at_s=398)
    one.arrive(make.payload([after]))
    one.writer.step(0.001)
    before = plain(one.writer.state)
    assert one.writer.undecided == 1

    def whole_window(*_values: Any) -> Any:
        raise AssertionError("the window was read from the sightings")

    monkeypatch.setattr(isolation, "shown_to", whole_window)
    second = life(stall_s=3600)
    held = second.writer._matcher.held()
    assert [t.key for t in held] == [t.key for t in tracks]
    for now, was in zip(held, tracks, strict=True):
        assert np.array_equal(now.path, was.path)
        assert (now.model_key, now.sighting.seq) == (was.model_key, was.sighting.seq)
        assert np.array_equal(now.sighting.embedding, was.sighting.embedding)
    assert (second.writer.state, second.writer.undecided) == (before, 2)
    monkeypatch.undo()
    third = life()
    third.step_until(lambda: third.writer.settled)
    assert len(third.writer.state.tracks) == len(before.tracks) + 1
    assert third.writer.state == identity.replay(third.journal.decisions())


def test_another_window_than_the_snapshots_is_read_from_the_sightings(
    life: Callable[..., Life], make: Any
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(1, at_s=1), make.sighting(2, at_s=500)]))
    one.step_until(lambda: one.writer.settled)
    one.writer._bring_snapshot(1)
    assert len(one.writer._matcher.held()) == 2
    second = life(window_s=100)
    second.step_until(lambda: second.writer.settled)
    assert len(second.writer.state.tracks) == 2


def test_a_server_that_ends_leaves_a_snapshot_and_one_that_is_killed_the_rows_after_it(
    life: Callable[..., Life], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SNAPSHOT_ROWS", 7)
    one = life()
    for n in range(1, 11):  # a sighting and a decision each
        one.arrive(make.payload([make.sighting(n, at_s=n * 30, person=n)]))
        one.step_until(lambda: one.writer.settled)
        assert one.journal.since_snapshot < 7
    assert one.journal.since_snapshot > 0
    one.writer.stop()
    one.writer.run()
    assert one.journal.since_snapshot == 0
    before = plain(one.writer.state)
    assert life().writer.state == before


def test_a_damaged_snapshot_is_found_and_repaired_from_the_log(
    life: Callable[..., Life], make: Any, tmp_path: Path
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(n, at_s=n, person=n) for n in range(1, 6)]))
    one.step_until(lambda: one.writer.settled)
    one.writer._bring_snapshot(1)
    state = plain(one.writer.state)
    path = one.journal.path
    one.journal.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE snapshot_identity SET body = replace(body, '1', '2')")
    db.close()
    (trouble,) = verify(path).trouble
    assert trouble == "a row of snapshot_identity is not as it was written"
    journal = Journal(path, "plaza", pictures_max_bytes=1)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        _ = [journal.start().state.identities[name] for name in state.identities]
    journal.close()
    repair(path, tmp_path / "new.sqlite")
    journal = Journal(tmp_path / "new.sqlite", "plaza", pictures_max_bytes=1)
    assert journal.start().state == state
    journal.close()
