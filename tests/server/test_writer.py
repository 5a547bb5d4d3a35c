"""The writer's promises, step by step, with a broker that only remembers."""

import dataclasses
import itertools
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.receipt import decode_receipt
from skyreid.server import disk
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.ingest import Queue
from skyreid.server.matching import identity
from skyreid.server.web.health import summary


def test_nothing_is_acknowledged_or_receipted_before_it_is_stored(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life()
    store = one.journal.store
    failures = [sqlite3.OperationalError("database or disk is full")] * 3
    seen: list[int] = []

    def store_at_last(*rows: Any) -> Any:
        seen.append(len(one.broker.did))
        if failures:
            raise failures.pop()
        return store(*rows)

    monkeypatch.setattr(one.journal, "store", store_at_last)
    monkeypatch.setattr(disk, "RETRY_S", 0.001)
    one.arrive(make.payload([make.sighting(1), make.sighting(2)]))
    one.writer.step(1)
    assert seen == [0, 0, 0, 0]
    assert one.broker.did[0][1] == "skyreid/v1/plaza/cmd/uav1/receipt"
    assert one.broker.did[1] == ("ack", 1)
    (range_,) = decode_receipt(one.broker.did[0][2]).ranges
    assert (range_.first, range_.last, int(range_.status)) == (1, 2, 1)
    assert one.writer.storing
    assert 'skyreid_commit_failures_total{fault="full"} 3.0' in one.metrics.text()[0].decode()


def test_a_full_disk_does_not_keep_it_from_stopping(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life()

    def full(*_rows: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(one.journal, "store", full)
    one.arrive(make.payload([make.sighting(1)]))
    thread = threading.Thread(target=one.writer.run)
    thread.start()
    while one.writer.storing:
        pass
    assert summary(one.writer)["ready"] is False
    one.writer.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert one.broker.did == []


def seen_by_two(life: Any, make: Any, count: int) -> None:
    """Half as many people as sightings, each from either camera, all decided."""
    for n in range(count):
        camera = ("cam1", "cam6")[n % 2]
        sighting = make.sighting(n + 1, camera=camera, person=n // 2, at_s=n, first_seen_ns=5)
        life.arrive(make.payload([sighting], device=camera), device=camera)
    life.step_until(lambda: life.writer.settled and len(life.events()) >= count)


def test_the_same_log_gives_the_same_identities_after_a_restart(life: Any, make: Any) -> None:
    first = life()
    seen_by_two(first, make, 6)
    before = first.writer.state
    assert before.identities

    second = life()
    assert second.writer.state == before
    second.step_until(lambda: second.writer.settled)
    assert second.writer.state.tracks == before.tracks
    assert set(second.writer.state.identities) == set(before.identities)


def test_what_was_stored_and_not_decided_is_decided_in_the_next_life(life: Any, make: Any) -> None:
    first = life(stall_s=3600)
    first.arrive(make.payload([make.sighting(1)], watermark_ns=7))
    first.writer.step(1)
    assert first.writer.undecided == 1
    assert not first.writer.settled

    second = life()
    assert second.writer.undecided == 1
    second.step_until(lambda: second.writer.settled)
    assert len(second.writer.state.tracks) == 1


def test_a_latecomer_from_before_the_window_is_decided_in_the_next_life(
    life: Any, make: Any
) -> None:
    first = life()
    first.arrive(make.payload([make.sighting(1, at_s=10_000)]))
    first.step_until(lambda: first.writer.settled)
    first.settings = None
    second = life(stall_s=3600, window_s=60)
    second.arrive(make.payload([make.sighting(2, at_s=10)], watermark_ns=1, boot="2-abcd"))
    second.writer.step(1)
    assert len(second.writer.state.tracks) == 1

    third = life(window_s=60)
    third.step_until(lambda: third.writer.settled)
    assert len(third.writer.state.tracks) == 2


def test_an_event_is_sent_until_it_is_taken_with_the_same_id(life: Any, make: Any) -> None:
    first = life()
    first.arrive(make.payload([make.sighting(1)]))
    first.step_until(lambda: len(first.events()) == 1)
    assert first.journal.counts() == (1, 1)

    second = life()
    second.step_until(lambda: len(second.events()) == 1)
    assert "skyreid_outbox_events 1.0" in second.metrics.text()[0].decode()
    assert second.events() == first.events()
    mid = len(second.broker.did)
    second.outbox.confirm(mid)
    second.outbox.confirm(mid + 17)  # somebody else's message
    second.writer.step(0.001)
    assert second.journal.counts() == (1, 0)
    assert "skyreid_outbox_events 0.0" in second.metrics.text()[0].decode()
    second.writer.step(0.001)
    assert len(second.events()) == 1


def test_other_cameras_are_waited_for_before_anything_is_decided(life: Any, make: Any) -> None:
    one = life(stall_s=3600, hold_s=3600)
    one.arrive(make.payload([make.sighting(1)], watermark_ns=make.start_ns + 60 * 10**9))
    one.writer.step(1)
    assert (one.writer.undecided, len(one.writer.state.tracks)) == (1, 0)
    ground = make.payload(
        [make.sighting(1, camera="cam6")], device="street", watermark_ns=make.start_ns
    )
    one.arrive(ground, device="street")
    one.writer.step(1)
    assert one.writer.undecided == 2
    one.arrive(b"offline", "status", "street")
    one.writer.step(1)
    assert one.writer.undecided == 0
    assert len(one.writer.state.tracks) == 2


def test_a_micro_batch_of_which_everybody_has_spoken_does_not_wait_for_its_round(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life(stall_s=3600, hold_s=3600, period_s=3600)
    one.writer._round_at_s = float("-inf")
    asked, horizon_ns = [], one.writer.devices.horizon_ns
    monkeypatch.setattr(
        one.writer.devices, "horizon_ns", lambda now_s: asked.append(now_s) or horizon_ns(now_s)
    )

    def say(device: str, camera: str, second: int) -> tuple[int, int]:
        seen = [make.sighting(second, camera=camera, at_s=second)]
        mark_ns = make.start_ns + second * 10**9 + 10**8
        one.arrive(make.payload(seen, device=device, watermark_ns=mark_ns), device=device)
        asked.clear()
        one.writer.step(1)
        return one.writer.undecided, len(asked)

    assert say("uav1", "cam1", 1) == (1, 1)  # a round: the other camera is waited for
    assert say("street", "cam6", 1) == (0, 1)
    assert say("uav1", "cam1", 2) == (1, 1)  # it was the last one, and is not any more
    assert say("uav1", "cam1", 3) == (2, 0)
    assert say("street", "cam6", 2) == (1, 1)
    assert len(one.writer.state.tracks) == 4


def test_what_the_matcher_still_holds_counts_as_undecided(life: Any, make: Any) -> None:
    one = life(stall_s=3600, hold_s=3600)
    for device, camera in (("uav1", "cam1"), ("street", "cam6")):
        first = [make.sighting(1, camera=camera)]
        mark = make.start_ns + 60 * 10**9
        one.arrive(make.payload(first, device=device, watermark_ns=mark), device=device)
    one.writer.step(1)
    assert one.writer.undecided == 0
    again = {"boot": "2-abcd", "watermark_ns": make.start_ns + 10 * 10**9}
    one.arrive(make.payload([make.sighting(1, at_s=5)], **again))
    one.writer.step(1)  # the horizon is back at 10 s, the matcher has decided all up to 60 s
    assert (one.writer.undecided, len(one.writer.state.tracks)) == (1, 2)
    one.arrive(b"offline", "status")
    one.writer.step(1)
    assert (one.writer.undecided, len(one.writer.state.tracks)) == (0, 3)


def test_what_is_told_is_a_fresh_fold_over_the_log(life: Any, make: Any) -> None:
    one = life()
    seen_by_two(one, make, 8)
    state, told = identity.State(), []
    for decision in one.journal.decisions():
        state, events = identity.apply(state, decision)
        told += [json.loads(json.dumps(e.to_json())) for e in events]
    assert one.writer.state == state
    assert [e["data"] for e in one.events()] == told


def test_in_live_running_each_decision_is_folded_once(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[identity.Decision] = []
    step = identity._Draft.step

    def counted(draft: Any, decision: identity.Decision) -> Any:
        folded.append(decision)
        return step(draft, decision)

    monkeypatch.setattr(identity._Draft, "step", counted)
    one = life()
    seen_by_two(one, make, 8)
    assert folded == list(one.journal.decisions())
    assert len(folded) >= 8


def test_nothing_is_settled_while_a_message_is_in_hand(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life()
    seen: list[bool] = []
    feed = one.writer.feed
    monkeypatch.setattr(
        one.writer, "feed", lambda new: (seen.append(one.writer.settled), feed(new))
    )
    assert one.writer.settled
    one.arrive(make.payload([make.sighting(1)]))
    one.writer.step(1)
    assert seen == [False]
    one.step_until(lambda: one.writer.settled)


def test_what_comes_after_its_moment_was_decided_is_counted(life: Any, make: Any) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(1, at_s=5)]))
    one.step_until(lambda: one.writer.settled)
    one.arrive(make.payload([make.sighting(2, at_s=4), make.sighting(3, at_s=6)]))
    one.step_until(lambda: one.writer.settled)
    assert "skyreid_sightings_late_total 1.0" in one.metrics.text()[0].decode()
    assert len(one.writer.state.tracks) == 3


def test_nothing_is_settled_before_it_is_in_the_log(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life()
    seen: list[tuple[bool, int]] = []
    decide = one.journal.decide

    def watched(*rows: Any) -> None:
        seen.append((one.writer.settled, one.writer.undecided))
        decide(*rows)

    monkeypatch.setattr(one.journal, "decide", watched)
    one.arrive(make.payload([make.sighting(1)]))
    one.step_until(lambda: one.writer.settled)
    assert seen == [(False, 1)]


def test_the_queue_holds_its_writer_back_when_full_and_lets_go_when_closed() -> None:
    queue = Queue(2, 1000)
    message = Message("t", b"x" * 10, {}, 1)
    for _ in range(2):
        queue.put(message)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (queue.put(message), done.set()))
    thread.start()
    assert not done.wait(0.05)
    assert len(queue.take(2, first_s=1, more_s=0)) == 2
    assert done.wait(30)
    queue.put(dataclasses.replace(message, payload=b"x" * 2000))  # bytes count as well
    blocked = threading.Thread(target=queue.put, args=(message,))
    blocked.start()
    queue.close()
    blocked.join(30)
    thread.join(30)
    assert not blocked.is_alive()
    assert len(queue) == 4  # two wait, two were taken
    queue.done()
    assert len(queue) == 2


@pytest.mark.parametrize("damage", ["pages", "a sighting"])
def test_a_journal_whose_middle_is_damaged_is_named_at_the_start(
    damage: str, life: Any, make: Any, tmp_path: Path
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(n, track=n) for n in range(1, 30)]))
    one.writer.step(0.001)
    one.journal.close()
    path = tmp_path / "journal.sqlite"
    if damage == "pages":
        whole = path.read_bytes()
        db = sqlite3.connect(path)
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sighting'"
        ).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
        db.close()
        start = (page - 1) * size
        path.write_bytes(whole[:start] + b"\xff" * size + whole[start + size :])
    else:
        db = sqlite3.connect(path)
        with db:
            db.execute("UPDATE sighting SET body = x'0a' WHERE seq = 7")
        db.close()
    with pytest.raises(InputError, match=r"journal .*journal\.sqlite is damaged: .*; restore"):
        life()


def test_a_broker_that_is_lost_before_the_first_turn_leaves_the_server_ready(life: Any) -> None:
    one = life()
    one.broker.connected = False
    assert summary(one.writer)["ready"] is True
    assert summary(one.writer)["degraded"] == [
        "broker: not connected, devices keep their sightings"
    ]
    one.broker.was_connected = False  # it never was: what arrives cannot be known yet
    assert summary(one.writer)["ready"] is False


def test_a_site_where_looks_cannot_tell_says_so_to_whoever_asks(life: Any) -> None:
    one = life()
    assert summary(one.writer)["appearance_uninformative"] == []
    one.writer.uninformative = ("aerial-ground",)
    said = summary(one.writer)
    assert said["appearance_uninformative"] == ["aerial-ground"]
    assert said["ready"]
    (reason,) = said["degraded"]
    assert reason.startswith("matching: appearance_uninformative (aerial-ground): ")


def test_sightings_that_wait_for_their_decision_are_a_trouble_with_its_reason(
    life: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life(stall_s=1e6)
    one.arrive(make.payload([make.sighting(1, at_s=5)], watermark_ns=make.start_ns))
    one.writer.step(0.001)
    assert one.writer.undecided == 1
    assert summary(one.writer)["degraded"] == []
    later = itertools.count(int(time.monotonic()) + 62, 0.01)
    monkeypatch.setattr(time, "monotonic", lambda: next(later))
    (reason,) = summary(one.writer)["degraded"]
    assert "waits for its decision for " in reason
    assert summary(one.writer)["ready"] is True
    one.writer.step(0.001)
    assert "\nskyreid_oldest_undecided_seconds 6" in one.metrics.text()[0].decode()
    heartbeat = make.payload([], watermark_ns=make.start_ns + 20 * 10**9)
    one.arrive(heartbeat)
    street = make.sighting(2, camera="cam6", at_s=20)
    one.arrive(make.payload([street], device="street"), device="street")
    one.step_until(lambda: one.writer.undecided <= 1)
    assert summary(one.writer)["degraded"] == []
