"""A damaged journal: every good row is kept, what is lost is counted, and it is said."""

import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture
from skyreid.contract.sighting_wire import decode_sighting, encode_sighting
from skyreid.server.__main__ import main
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.store.beside import read_decisions, read_keys
from skyreid.server.store.faults import DamagedJournal, fault_of
from skyreid.server.store.journal import Journal
from skyreid.server.store.mark import mark_of
from skyreid.server.store.records import Arrived, ArrivedPicture, Heard
from skyreid.server.store.repair import open_sound, repair, verify

COUNT = 200
PAGE = 4096


@pytest.fixture
def whole(tmp_path: Path, make: Any) -> Path:
    """A journal of 200 sightings, decided, with pictures and events."""
    path = tmp_path / "journal.sqlite"
    fill(path, make)
    return path


def fill(path: Path, make: Any, first: int = 1, count: int = COUNT) -> None:
    journal = Journal(path, "plaza", pictures_max_bytes=1 << 20)
    for start in range(first, first + count, 50):
        made = [make.sighting(n, person=n, at_s=n) for n in range(start, start + 50)]
        rows = [decode_sighting(encode_sighting(sighting), 16) for sighting in made]
        stored = [Arrived("uav1", "1-a", 1, "key", 16, 5, s, encode_sighting(s)) for s in rows]
        jpeg = b"\xff\xd8" + b"x" * 9000 + b"\xff\xd9"  # over several pages
        picture = ArrivedPicture("uav1", 5, Picture("1-a", "cam1", start, start, 5, jpeg))
        assert len(journal.store(stored * 2, [Heard("uav1", 5)], [picture])) == 50
        log = []
        for n, sighting in enumerate(rows, start):
            key = TrackKey("uav1", "1-a", "cam1", sighting.track)
            decision = Decision("assign", n, key.identity_id(), (key,))
            log.append(Applied(decision, identity.apply(identity.State(), decision)[1]))
        journal.decide(log, 7)
    journal.taken(range(1, 31))
    journal.close()


def opened(path: Path) -> tuple[Journal, str]:
    return open_sound(path, "plaza", pictures_max_bytes=1 << 20, events_kept=10**6)


def flip(path: Path, places: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 0xFF
    path.write_bytes(data)


def test_a_whole_journal_has_nothing_wrong_and_is_repaired_to_the_same(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "verify", str(whole)]) == 0
    assert "200 sightings (0 from before checksums), 200 decisions, 4 pictures, 200 events" in (
        capsys.readouterr().out
    )
    new = tmp_path / "new.sqlite"
    report = repair(whole, new)
    assert (report.lost_sightings, report.lost_decisions, report.pictures) == (0, 0, 4)
    assert read_keys(new) == read_keys(whole)
    assert read_decisions(new) == read_decisions(whole)
    tables = ("sighting", "tracklet", "decision", "picture", "device", "event", "meta")
    with sqlite3.connect(whole) as one, sqlite3.connect(new) as two:
        for table in tables:
            query = f"SELECT * FROM {table} ORDER BY 1, 2" + ", 3, 4" * (
                table in ("tracklet", "picture")
            )
            assert one.execute(query).fetchall() == two.execute(query).fetchall(), table
    one.close()
    two.close()
    with pytest.raises(InputError, match="exists: choose another name"):
        repair(whole, new)


@pytest.mark.parametrize("seed", range(5))
def test_a_journal_with_flipped_bytes_starts_with_every_row_they_did_not_hit(
    whole: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(seed)
    size = whole.stat().st_size
    places = [draw.randrange(100 if seed else 0, size) for _ in range(20)]
    before = whole.read_bytes()
    flip(whole, places)
    journal, lost = opened(whole)
    try:
        kept = {a.sighting.seq for a in journal.sightings_since(0)}
        log = list(journal.decisions())
        assert verify(whole).trouble == []
    finally:
        journal.close()
    # Twenty bytes hit twenty rows at most, or a page's directory: its rows are found all the same.
    assert COUNT - len(kept) <= 20
    assert COUNT - len(log) <= 20
    if lost:
        assert "the journal was damaged and is repaired" in lost
        assert f"{COUNT - len(kept)} sightings" in lost or len(kept) == COUNT
        (damaged,) = whole.parent.glob("journal.sqlite.damaged-*")
        assert lost.endswith(str(damaged))
        flip(damaged, places)
        assert damaged.read_bytes() == before  # kept as it was found
        assert "is damaged" in caplog.text
    else:  # they hit what nothing lies in
        assert len(kept) == len(log) == COUNT


@pytest.mark.parametrize("page", [1, 3, 11])
def test_a_page_that_is_gone_costs_what_lay_in_it(whole: Path, page: int) -> None:
    data = bytearray(whole.read_bytes())
    data[(page - 1) * PAGE : page * PAGE] = b"\xff" * PAGE
    whole.write_bytes(data)
    journal, lost = opened(whole)
    kept = {a.sighting.seq for a in journal.sightings_since(0)}
    count = len(list(journal.decisions()))
    journal.close()
    assert lost
    assert COUNT - len(kept) <= PAGE // 200
    assert COUNT - count <= PAGE // 100


def test_what_was_lost_from_the_middle_of_the_log_is_counted_and_the_rest_replays(
    whole: Path, tmp_path: Path
) -> None:
    with sqlite3.connect(whole) as db:
        db.execute("UPDATE decision SET body = replace(body, 'uav1', 'uav2') WHERE id IN (7, 9)")
        db.execute("UPDATE sighting SET received_at_ns = 6 WHERE seq = 11")
        db.execute("UPDATE sighting SET body = x'00' WHERE seq = 12")
    db.close()
    report = verify(whole)
    assert report.trouble == [
        "2 sightings are not as they were written",
        "2 decisions are not as they were written",
    ]
    done = repair(whole, tmp_path / "new.sqlite")
    assert (done.lost_sightings, done.lost_decisions, done.unfit_decisions) == (2, 2, 0)
    assert len(read_decisions(tmp_path / "new.sqlite")) == COUNT - 2


def test_the_last_rows_of_a_journal_that_was_closed_are_missed_too(
    whole: Path, tmp_path: Path
) -> None:
    with sqlite3.connect(whole) as db:
        db.execute("UPDATE sighting SET body = x'00' WHERE id > ?", (COUNT - 2,))
        db.execute("UPDATE decision SET body = '' WHERE id = ?", (COUNT,))
    db.close()
    done = repair(whole, tmp_path / "new.sqlite")
    assert (done.lost_sightings, done.lost_decisions) == (2, 1)
    with sqlite3.connect(whole) as db:  # a number that was damaged itself: more than had room
        db.execute("UPDATE sqlite_sequence SET seq = 1 << 40")
    db.close()
    done = repair(whole, tmp_path / "newer.sqlite")
    assert (done.lost_sightings, done.lost_decisions) == (0, 0)


def test_a_missing_wal_after_a_kill_is_said_and_counted(
    whole: Path, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = whole.read_bytes()
    journal, lost = opened(whole)
    assert lost == ""
    rows = [make.sighting(n, person=n) for n in range(1001, 1008)]
    journal.store([Arrived("uav1", "1-a", 1, "key", 16, 5, s, encode_sighting(s)) for s in rows])
    mark = mark_of(whole).read_bytes()
    journal.close()  # and now as if it had been killed, and its WAL removed
    whole.write_bytes(before)
    mark_of(whole).write_bytes(mark)
    journal, lost = opened(whole)
    journal.close()
    assert "7 sightings and 0 decisions that had been stored are gone: its -wal file" in lost
    assert lost in caplog.text
    assert not mark_of(whole).exists()
    journal, lost = opened(whole)
    journal.close()
    assert lost == ""  # said once


def test_a_clean_end_and_a_kill_with_its_wal_are_not_called_a_loss(whole: Path, make: Any) -> None:
    left = whole.with_name("left.sqlite")
    journal, _ = opened(whole)
    journal.store([Arrived("u", "1-a", 1, "key", 16, 5, make.sighting(1), b"")][:0])
    for suffix in ("", "-wal", ".open"):
        shutil.copy(f"{whole}{suffix}", f"{left}{suffix}")
    journal.close()
    for path in (left, whole):
        again, lost = opened(path)
        again.close()
        assert lost == ""


def test_a_repair_that_was_killed_before_its_last_step_is_no_empty_journal(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(whole, list(range(20 * PAGE, 21 * PAGE)))
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name.endswith(".repaired"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        opened(whole)
    monkeypatch.undo()
    assert not whole.exists()
    journal, lost = opened(whole)
    assert "is repaired" in lost
    assert journal.counts()[0] > COUNT / 2
    journal.close()


def test_rows_of_a_wal_are_kept_too(whole: Path, make: Any, tmp_path: Path) -> None:
    journal, _ = opened(whole)
    rows = [make.sighting(n, person=n) for n in range(1001, 1008)]
    journal.store([Arrived("uav1", "1-a", 1, "key", 16, 5, s, encode_sighting(s)) for s in rows])
    damaged = tmp_path / "damaged.sqlite"
    shutil.copy(whole, damaged)
    shutil.copy(f"{whole}-wal", f"{damaged}-wal")
    journal.close()
    flip(damaged, list(range(16)))  # SQLite takes it for no database any more
    report = repair(damaged, tmp_path / "new.sqlite", "plaza")
    assert report.sightings == COUNT + 7


def test_another_programs_file_is_not_taken_for_a_damaged_journal(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(b"not a database, and long enough to be read as a page" * 100)
    with pytest.raises(DamagedJournal, match="nothing of a journal can be found"):
        opened(text)
    foreign = tmp_path / "foreign"
    sqlite3.connect(foreign).execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(InputError, match="foreign has tables t and is no journal"):
        opened(foreign)
    odd = tmp_path / "odd"
    fill_one = sqlite3.connect(odd)
    fill_one.executescript(
        "CREATE TABLE meta (a); CREATE TABLE sighting (a); "
        "CREATE TABLE decision (a); PRAGMA user_version = -1"
    )
    fill_one.close()
    with pytest.raises(InputError, match="version -1, which no release wrote"):
        opened(odd)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["foreign", "notes.txt", "odd"]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [("full", "full"), ("locked", "locked"), ("damaged", "damaged"), ("disk", "disk")],
)
def test_errors_of_sqlite_are_told_apart(tmp_path: Path, statement: str, fault: str) -> None:
    path = tmp_path / "any"
    db = sqlite3.connect(path, isolation_level=None, timeout=0)
    db.execute("CREATE TABLE t (x)")
    other = sqlite3.connect(path, isolation_level=None, timeout=0)

    def provoke() -> None:
        if statement == "full":
            db.execute("PRAGMA max_page_count = 3")
            db.execute("INSERT INTO t VALUES (zeroblob(100000))")
        elif statement == "locked":
            other.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO t VALUES (1)")
        elif statement == "damaged":
            path.write_bytes(b"x" * 8192)
            sqlite3.connect(path).execute("SELECT * FROM t")
        else:
            sqlite3.connect(tmp_path / "no" / "folder")

    with pytest.raises(sqlite3.Error) as caught:
        provoke()
    assert fault_of(caught.value) == fault
    by_words = type(caught.value)(str(caught.value))  # as Python 3.10 has it
    assert fault_of(by_words) == fault
    db.close()
    other.close()
