"""What a spool goes through in years: full disks, damage, clocks that are put right, copies."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.picture import Picture
from skyreid.contract.receipt import Range, Status
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery import spool_file
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.delivery.spool_file import read_stats

MODEL = ModelRef("k" * 16, 4, "b" * 64, "test")
HOUR_NS = 3_600 * 10**9


def rows(first: int, last: int, size: int = 200) -> list[Row]:
    return [Row(n, n, bytes([n % 256]) * size) for n in range(first, last + 1)]


class Clocks:
    """The wall clock, the machine's uptime, and which start of it this is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.running = 60 * 10**9, 5 * 10**9  # 1970: no battery, no network yet
        monkeypatch.setattr("skyreid.edge.delivery.spool.time.time_ns", lambda: self.wall)
        monkeypatch.setattr(spool_file, "running_ns", lambda: self.running)
        self._patch = monkeypatch
        self.machine("first")

    def machine(self, name: str) -> None:
        self._patch.setattr(spool_file, "MACHINE", name)

    def wait(self, hours: float) -> None:
        self.wall += int(hours * HOUR_NS)
        self.running += int(hours * HOUR_NS)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.mark.parametrize("step_h", [56 * 8766, 72, 25, -25, -8766])
def test_a_clock_that_is_put_right_deletes_nothing_and_is_said(
    tmp_path: Path, clocks: Clocks, caplog: pytest.LogCaptureFixture, step_h: int
) -> None:
    """300 sightings of a device that thought it was 1970 were dropped as too old."""
    clocks.wall = 10**18
    with Spool(tmp_path / "s.db") as spool:
        assert spool.append(rows(1, 300), MODEL) == {}
        clocks.wall += step_h * HOUR_NS
        assert spool.append(rows(301, 301), MODEL) == {}
        assert spool.count() == 301
        assert spool.clock_steps == 1
        assert spool.stats().oldest_age_s == 0
        (said,) = [r.getMessage() for r in caplog.records]
        assert f"clock put right by {step_h * 3600:+.0f} s" in said


def test_age_goes_on_over_a_restart_of_the_process_and_not_while_the_machine_is_off(
    tmp_path: Path, clocks: Clocks
) -> None:
    path = tmp_path / "s.db"
    with Spool(path, max_age_h=24) as spool:
        spool.append(rows(1, 3), MODEL)
    clocks.wait(20)
    with Spool(path, max_age_h=24) as spool:
        assert spool.stats().oldest_age_s == 20 * 3600
        spool.append(rows(4, 4), MODEL)
    clocks.wall, clocks.running = 10**18, 7 * 10**9  # off for nobody knows how long
    clocks.machine("second")
    with Spool(path, max_age_h=24) as spool:
        assert spool.stats().oldest_age_s == 20 * 3600
        assert read_stats(path).oldest_age_s == 20 * 3600
        assert spool.append((), MODEL) == {}
        clocks.wait(3.9)
        assert spool.append((), MODEL) == {}
        clocks.wait(0.2)
        assert spool.append((), MODEL) == {"spool_old": 3}


def test_a_spool_that_was_copied_or_restored_never_uses_a_key_again(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db") as spool:
        spool.append(rows(1, 2), MODEL)
    shutil.copy(tmp_path / "s.db", tmp_path / "copy.db")
    boots = []
    for name in ("s.db", "copy.db"):
        with Spool(tmp_path / name) as spool:
            boots.append(spool.boot)
            assert spool.count() == 2
    shutil.copy(tmp_path / "copy.db", tmp_path / "s.db")
    with Spool(tmp_path / "s.db") as spool:
        boots.append(spool.boot)
    assert len(set(boots)) == 3


def test_watching_goes_on_where_the_disk_is_full(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """The run ended, and the receipt that would have made room could not be taken."""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        able = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        able = False
    if not able:
        pytest.skip("no mount namespace may be made here (unshare --user --mount)")
    script = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        [*alone, sys.executable, str(script), str(tmp_path / "disk")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    said = "spool s.db cannot be used (database or disk is full): make room on its disk"
    assert seen["first_start"] == said
    assert seen["reserved"]
    assert seen["newest_kept"]
    assert seen["dropped"] == {"spool_full": seen["said"] - seen["held"]}
    assert seen["in_order"]
    assert seen["after_receipt"]
    assert seen["again"] == 2
    assert seen["room_again"]
    assert seen["whole"] == "ok"


def test_where_a_full_disk_takes_nothing_at_all_it_is_counted_and_the_old_ones_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path / "s.db") as spool:
        spool.append(rows(1, 3), MODEL)

        def full(*_: object, **__: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(spool, "_write", full)
        settled = [(spool.boot, Range(1, 1, Status.STORED))]
        picture = Picture(spool.boot, "cam1", 1, 1, 5, b"jpeg")
        dropped = spool.append(rows(4, 5), MODEL, [(picture, True)], settled)
        assert dropped == {"spool_unwritten": 2, "spool_full_picture": 1}
        assert [row.seq for row in spool.after(0, 10)] == [1, 2, 3]
        monkeypatch.undo()
        assert spool.append(rows(6, 6), MODEL) == {}
        assert [row.seq for row in spool.after(0, 10)] == [1, 2, 3, 6]


def aside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("s.db.damaged-*Z"))


def break_page(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    db = sqlite3.connect(path)
    (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    db.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(data)


def test_a_damaged_spool_is_set_aside_by_name_and_a_new_one_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.append(rows(1, 50), MODEL)
    damaged = b"SQLite format 3\0" + random.Random(2).randbytes(8192)
    path.write_bytes(damaged)
    with Spool(path) as spool:
        (old,) = aside(tmp_path)
        assert old.read_bytes() == damaged
        assert spool.append(rows(1, 3), MODEL) == {"spool_damaged": 1}
        assert spool.append(rows(4, 4), MODEL) == {}
        assert spool.count() == 4
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert old.name in said


@pytest.mark.parametrize("table", ["sighting", "model"])
def test_damage_that_shows_in_the_middle_of_a_run_ends_nothing(tmp_path: Path, table: str) -> None:
    """One bad page was a traceback, and the end."""
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.append(rows(1, 400), MODEL)
    break_page(path, table)
    with Spool(path) as spool:
        earlier = spool.last_id() if table == "model" else 0
        boot = spool.boot
        while batch := spool.after(earlier, 100):
            earlier = batch[-1].id
        dropped = spool.append(rows(1, 3), MODEL)
        spool.append(rows(4, 4), MODEL)
        assert len(aside(tmp_path)) == 1
        assert dropped["spool_damaged"] == 1
        held = spool.after(earlier, 10)  # whoever goes on from where he was finds the new ones
        assert [(row.boot, row.seq) for row in held] == [(boot, n) for n in (1, 2, 3, 4)]


def test_sixty_damaged_spools_are_read_or_set_aside_and_go_on(tmp_path: Path) -> None:
    first = tmp_path / "whole.db"
    with Spool(first) as spool:
        spool.append(rows(1, 100, 400), MODEL)
    whole = first.read_bytes()
    for seed in range(60):
        luck = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        data = bytearray(whole)
        for _ in range(3):
            at = luck.randrange(100, len(data) - 64)
            data[at : at + 64] = luck.randbytes(64)
        (folder / "s.db").write_bytes(data)
        try:
            spool = Spool(folder / "s.db")
        except InputError:  # a version or tables that are not ours: left alone
            assert not aside(folder)
            continue
        with spool:
            last, count = 0, 0
            while batch := spool.after(last, 32):
                last, count = batch[-1].id, count + len(batch)
            spool.append(rows(1, 2), MODEL, settled=[("1-x", Range(1, 5, Status.STORED))])
            assert spool.after(last, 10)
            spool.stats()


@pytest.mark.parametrize(
    "kept",
    ["[]", "null", "garbage", "[" * 100_000]
    + [json.dumps({"machine": "m", "at_ns": at, "running_ns": 1}) for at in (1e999, 10**40, -1)],
)
def test_a_spool_whose_time_is_none_ends_nothing(tmp_path: Path, kept: str) -> None:
    """An infinite or deeply nested one was a traceback, of ``run`` and of ``spool``."""
    path = tmp_path / "s.db"
    Spool(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT OR REPLACE INTO spool VALUES ('time', ?)", (kept,))
    db.close()
    with pytest.raises(InputError, match="cannot be read: its time is"):
        read_stats(path)
    with Spool(path) as spool:
        assert spool.append(rows(1, 2), MODEL) == {"spool_damaged": 1}
        assert spool.count() == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE spool SET value = x'ff00' WHERE name = 'counter'",
        "UPDATE sighting SET stored_at_ns = 'tomorrow'",
        "UPDATE sighting SET watermark_ns = 'never'",
    ],
)
def test_a_row_of_another_type_ends_nothing(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s.db"
    with Spool(path) as spool:
        spool.append(rows(1, 2), MODEL)
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    assert read_stats(path).sightings == 2
    with Spool(path) as spool:
        assert spool.stats().sightings == 2
        spool.after(0, 10)
        spool.append(rows(3, 3), MODEL)
        assert spool.after(spool.last_id() - 1, 10)


def test_a_spool_overwritten_from_its_first_byte_is_known_by_its_reserve(tmp_path: Path) -> None:
    """It was refused for good as another program's: the device stayed blind until somebody came."""
    path = tmp_path / "s.db"
    Spool(path).close()
    path.write_bytes(random.Random(3).randbytes(9000))
    with Spool(path) as spool:
        assert spool.append(rows(1, 1), MODEL) == {"spool_damaged": 1}
    assert len(aside(tmp_path)) == 1


def test_a_file_that_is_no_spool_is_not_renamed(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"a video that somebody named by mistake")
    with pytest.raises(InputError, match="move it away"):
        Spool(tmp_path / "s.db")
    assert not aside(tmp_path)
