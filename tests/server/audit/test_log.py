"""The audit log: what was changed, dropped or cut is found and named; a kill's rest is not that."""

import json
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.errors import InputError
from skyreid.server.audit.line import TEXT_MAX, Entry, Head, read_line, write_line
from skyreid.server.audit.log import DAY_NS, AuditLog, segments
from skyreid.server.audit.verify import Anchor, lines, too_early, verify
from skyreid.server.own_time import OwnTime

DAY_S = 86_400


def filled(folder: Path, count: int = 12) -> list[Head]:
    """A log of so many lines; the head after each."""
    log = AuditLog(folder)
    heads = [log.append(Entry("search", "ana", "operator", f"track {n}")) for n in range(count)]
    log.close()
    return heads


def edit(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    (path,) = segments(folder)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def rewritten(rows: list[bytes], first: int) -> list[bytes]:
    """All lines from one on as somebody would write them who knows how."""
    out, head = rows[:first], Head(first, read_line(rows[first - 1].rstrip()).hash)
    for _ in rows[first:]:
        raw, head = write_line(Entry("search", "eve", "viewer", "nothing"), head, 10**18)
        out.append(raw)
    return out


def test_a_log_that_nobody_touched_is_good(tmp_path: Path) -> None:
    heads = filled(tmp_path / "a")
    anchors = [Anchor(h.n, h.hash, h.n, "then") for h in heads[::3]]
    got = verify(tmp_path / "a", anchors)
    assert (got.wrong, got.notes, got.first, got.head) == ([], [], 1, heads[-1])
    assert got.anchors == 4
    again = AuditLog(tmp_path / "a")
    assert again.append(Entry("stop", "server")).n == 13
    again.close()
    assert verify(tmp_path / "a", anchors).wrong == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: [*r[:4], r[4].replace(b"track 4", b"track 7"), *r[5:]], "line 5 .* was changed"),
        (lambda r: r[:4] + r[5:], "line 5 is missing"),
        (lambda r: r[:4] + r[7:], "lines 5 to 7 are missing"),
        (lambda r: [*r[:4], r[5], r[4], *r[6:]], "line 5 is missing"),
        (lambda r: [*r[:5], r[4], *r[5:]], "line 5 .* stands after line 5"),
        (lambda r: r[2:], "lines 1 to 2 are missing"),
        (lambda r: [*r[:4], b"{}\n", *r[4:]], ":5 is no line"),
        (lambda r: [*r[:4], r[4][:30] + b"\n", *r[5:]], ":5 is no line"),
        (lambda r: [*r[:3], rewritten(r[:4], 3)[3], *r[4:]], "line 4 was exchanged"),
        (lambda r: r[:-3], "lines 10 to 12 were cut off the end"),
        (lambda r: [*r[:-1], r[-1][:40]], "line 12 was cut off"),
        (lambda r: rewritten(r, 6), "between 7 and 8 was changed"),
        (lambda r: [*r[:-1], rewritten(r[-2:], 1)[1]], "."),
    ],
)
def test_what_was_done_to_it_is_found_and_said(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    folder = tmp_path / "a"
    heads = filled(folder)
    edit(folder, change)
    anchors = [Anchor(h.n, h.hash, h.n, "then") for h in heads if h.n % 2 == 0]
    wrong = verify(folder, anchors).wrong
    assert wrong
    assert any(re.search(said, each) for each in wrong), wrong


def test_every_byte_counts(tmp_path: Path) -> None:
    """A byte changed anywhere, or an end cut off anywhere: found, whatever it was."""
    folder = tmp_path / "a"
    heads = filled(folder, 6)
    (path,) = segments(folder)
    whole, last = path.read_bytes(), heads[-1]
    anchor = [Anchor(*last, 0, "then")]
    chance = random.Random(25)
    for _ in range(150):
        place = chance.randrange(len(whole))
        other = bytes([whole[place] ^ (1 << chance.randrange(8))])
        path.write_bytes(whole[:place] + other + whole[place + 1 :])
        assert verify(folder, anchor).wrong, place
    for place in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:place])
        try:
            assert verify(folder, anchor).wrong, place
        except InputError:
            assert place == 0
    path.write_bytes(whole)
    assert verify(folder, anchor).wrong == []


def test_a_line_without_its_end_alone_is_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    heads = filled(folder, 4)
    (path,) = segments(folder)
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(folder).head == heads[-1]
    log = AuditLog(folder)
    assert log.append(Entry("start", "server")).n == 5
    log.close()
    got = verify(folder, [Anchor(*heads[-1], 0, "")])
    assert (got.wrong, got.notes) == ([], [])


@pytest.mark.parametrize("left", [1, 30, 200])
def test_a_line_that_a_kill_cut_off_is_told_from_tampering(tmp_path: Path, left: int) -> None:
    folder = tmp_path / "a"
    heads = filled(folder, 4)
    (path,) = segments(folder)
    raw, _ = write_line(Entry("search", "ana"), heads[-1], time.time_ns())
    with open(path, "ab") as file:
        file.write(raw[:left])
    before = verify(folder, [Anchor(*heads[-1], 0, "")])
    assert before.wrong == []
    assert "kill cut off" in before.notes[0]
    log = AuditLog(folder)
    log.append(Entry("start", "server"))
    log.close()
    after = verify(folder, [Anchor(*heads[-1], 0, "")])
    assert after.wrong == []
    assert "closed by 5" in after.notes[0]
    assert after.head.n == 6
    # An unfinished line that had left as a head was no kill's.
    assert verify(folder, [Anchor(5, "ab" * 32, 0, "")]).wrong


def _append(folder: Path, who: str, count: int) -> None:
    log = AuditLog(folder, segment_bytes=20_000)
    for n in range(count):
        log.append(Entry("search", who, what=str(n)))
    os._exit(0)


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    many = multiprocessing.get_context("fork")
    started = [many.Process(target=_append, args=(folder, who, 300)) for who in ("ana", "bo")]
    for process in started:
        process.start()
    for process in started:
        process.join(200)
    got = verify(folder)
    assert (got.wrong, got.head.n) == ([], 600)
    assert len(segments(folder)) > 3


def _append_until_killed(folder: Path, told: Any) -> None:
    log = AuditLog(folder, segment_bytes=5_000)
    while True:
        head = log.append(Entry("picture", "ana", what="x" * 200))
        os.write(told, b"%d\n" % head.n)


def test_kill_9_loses_no_line_that_was_answered(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    many = multiprocessing.get_context("fork")
    chance, known = random.Random(4), 0
    for _ in range(5):
        read, write = os.pipe()
        process = many.Process(target=_append_until_killed, args=(folder, write))
        process.start()
        os.close(write)
        got = os.read(read, 64)
        time.sleep(chance.random() * 0.05)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(200)
        while more := os.read(read, 1 << 16):
            got += more
        os.close(read)
        known = int(got.rpartition(b"\n")[0].rpartition(b"\n")[2])
        verdict = verify(folder)
        assert verdict.wrong == []
        assert verdict.head.n >= known
    assert known > 5


def test_retention_lets_whole_files_go_and_says_so(tmp_path: Path) -> None:
    folder, now_ns = tmp_path / "a", [100 * DAY_NS]
    log = AuditLog(folder, keep_d=3, now_ns=lambda: now_ns[0], age_ns=lambda: now_ns[0])
    heads = []
    for _day in range(8):
        heads += [log.append(Entry("search", "ana")) for _ in range(3)]
        now_ns[0] += DAY_NS
    log.close()
    got = verify(folder)
    assert got.wrong == []
    assert got.first > 1
    assert "by retention" in got.notes[0]
    assert len(segments(folder)) <= 5
    kept = [Anchor(h.n, h.hash, (100 + i // 3) * DAY_NS, "d") for i, h in enumerate(heads)]
    assert verify(folder, kept).wrong == []
    assert too_early(kept, folder, 3, 1 << 30) == ([], [])
    young = [Anchor(1, heads[0].hash, 107 * DAY_NS, "then")]
    assert "sooner than audit.keep_d, for audit.max_mb" in too_early(young, folder, 3, 0)[0][0]
    segments(folder)[0].unlink()  # what somebody else takes is not retention's
    assert "no line says that retention took them" in verify(folder).wrong[0]


def test_a_clock_that_is_years_ahead_for_a_while_takes_nothing(tmp_path: Path) -> None:
    folder, now_ns = tmp_path / "a", [100 * DAY_NS]
    log = AuditLog(folder, keep_d=3, now_ns=lambda: now_ns[0], age_ns=lambda: now_ns[0])
    for day in (100, 101, 4_000, 4_000, 102, 103):
        now_ns[0] = day * DAY_NS
        log.append(Entry("search", "ana"))
    log.close()
    got = verify(folder)
    assert (got.first, got.wrong) == (1, [])


def test_it_does_not_grow_without_bound(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    log = AuditLog(folder, segment_bytes=4_000, max_bytes=20_000, age_ns=time.time_ns)
    for _ in range(500):
        log.append(Entry("picture", "ana", what="x" * 100))
        assert sum(path.stat().st_size for path in segments(folder)) < 26_000
    log.close()
    assert verify(folder).wrong == []


def test_a_full_disk_writes_nothing_and_leaves_the_chain_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    log = AuditLog(folder)
    log.append(Entry("start", "server"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, raw: write(handle, raw[:20]))
    with pytest.raises(OSError, match="No space"):
        log.append(Entry("search", "ana"))
    monkeypatch.undo()
    assert log.append(Entry("search", "bo")).n == 2
    log.close()
    got = verify(folder)
    assert (got.wrong, got.notes, got.head.n) == ([], [], 2)


def test_a_clock_that_is_set_years_ahead_does_not_empty_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wrong_ns = tmp_path / "a", [time.time_ns()]
    monkeypatch.setattr("time.time_ns", lambda: wrong_ns[0])
    now_ns = lambda: wrong_ns[0]  # noqa: E731
    log = AuditLog(folder, keep_d=30, now_ns=now_ns, age_ns=OwnTime("the audit log").now_ns)
    for _ in range(3):
        log.append(Entry("search", "ana"))
    wrong_ns[0] += 4000 * DAY_NS
    log.append(Entry("search", "ana"))
    log.close()
    command = AuditLog(folder, keep_d=30, now_ns=now_ns)  # one that begins while the clock is wrong
    wrong_ns[0] += DAY_NS
    command.append(Entry("token", "local:root"))
    command.close()
    got = verify(folder)
    assert (got.wrong, got.first, got.head.n) == ([], 1, 5)


def test_retention_goes_on_where_a_command_begins_each_day(tmp_path: Path) -> None:
    folder, now_ns = tmp_path / "a", [100 * DAY_NS]
    log = AuditLog(folder, keep_d=3, now_ns=lambda: now_ns[0], age_ns=lambda: now_ns[0])
    command = AuditLog(folder, keep_d=3, now_ns=lambda: now_ns[0])
    for _day in range(8):
        command.append(Entry("export", "local:backup"))
        log.append(Entry("search", "ana"))
        now_ns[0] += DAY_NS
    command.close()
    log.close()
    assert verify(folder).wrong == []
    assert len(segments(folder)) <= 5


def test_a_file_that_cannot_be_begun_costs_no_other_file_its_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk at midnight: the number of a closed file would be the journal's soon."""
    folder, now_ns = tmp_path / "a", [100 * DAY_NS]
    log = AuditLog(folder, now_ns=lambda: now_ns[0])
    log.append(Entry("search", "ana"))
    now_ns[0] += DAY_NS
    real = os.open

    def full(path: Any, flags: int, *more: int) -> int:
        if str(path).endswith("2.jsonl"):
            raise OSError(28, "No space left on device")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space"):
        log.append(Entry("search", "bo"))
    others = [real(tmp_path, os.O_RDONLY) for _ in range(3)]  # where the journal is opened
    monkeypatch.undo()
    assert log.append(Entry("search", "bo")).n == 2
    log.close()
    for each in others:
        os.close(each)  # and is still there
    assert verify(folder).wrong == []


@pytest.mark.parametrize("left", [3, 3.5, 0])
def test_a_log_that_is_cut_or_put_back_under_a_running_server_is_missed(
    tmp_path: Path, left: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It knows what it has written, and does not go on from where somebody put it back to."""
    folder = tmp_path / "a"
    log = AuditLog(folder)
    for _ in range(3):
        log.append(Entry("search", "ana"))
    (path,) = segments(folder)
    older = path.read_bytes()
    for _ in range(3):
        log.append(Entry("search", "ana"))
    if left:
        middle = b"".join(path.read_bytes().splitlines(keepends=True)[:4])
        whole = len(older)
        os.truncate(path, whole if left == 3 else (whole + len(middle)) // 2)
    else:
        other = folder / "other"
        other.write_bytes(older)
        other.replace(path)
    log.append(Entry("search", "bo"))
    log.close()
    assert any("missing" in each for each in verify(folder).wrong)
    assert "somebody changed the log" in caplog.text


def test_files_that_vanish_under_a_running_log_are_missed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    log = AuditLog(folder)
    for _ in range(3):
        log.append(Entry("search", "ana"))
    segments(folder)[0].unlink()
    assert log.append(Entry("search", "ana")).n == 4
    log.close()
    assert "lines 1 to 3 are missing" in verify(folder).wrong[0]


def test_what_is_free_text_is_one_bounded_line_without_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    log = AuditLog(folder)
    log.append(Entry("search", "ana", purpose="a\nb sk~0123~secret\x00é" + "x" * 1000))
    log.close()
    ((_, raw),) = lines(folder)
    said = json.loads(raw)
    assert said["purpose"].startswith("a b sk~... é"[:9])
    assert "secret" not in said["purpose"]
    assert len(said["purpose"]) <= TEXT_MAX
