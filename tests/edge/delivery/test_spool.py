import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.errors import InputError
from skyreid.contract.picture import Picture, PictureRequest
from skyreid.contract.receipt import Range, Status
from skyreid.contract.sighting import ModelRef
from skyreid.contract.topics import IDENTIFIER
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.delivery.spool_file import SpoolFile, check_place, read_stats

MODEL = ModelRef("k" * 16, 4, "b" * 64, "test")


def make_row(seq: int, size: int = 100) -> Row:
    return Row(seq, seq, bytes([seq % 256]) * size)


def seqs(spool: Spool) -> list[int]:
    return [stored.seq for stored in spool.after(0, 10_000)]


def picture(track: int, seq: int, jpeg: bytes = b"jpeg", boot: str = "b") -> Picture:
    return Picture(boot, "cam1", track, seq, 5, jpeg)


def test_what_was_appended_is_there_after_a_reopen(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db") as spool:
        spool.append([make_row(1), make_row(2)], MODEL)
        boot = spool.boot
    with Spool(tmp_path / "s.db") as spool:
        held = spool.after(0, 10)
    assert [(h.boot, h.seq, h.model, h.data, h.watermark_ns) for h in held] == [
        (boot, 1, MODEL, make_row(1).data, 1),
        (boot, 2, MODEL, make_row(2).data, 2),
    ]


def test_a_boot_counts_up_and_none_is_ever_repeated(tmp_path: Path) -> None:
    boots = []
    for name in ("a.db", "a.db", "a.db", "b.db"):
        with Spool(tmp_path / name) as spool:
            boots.append(spool.boot)
    assert all(IDENTIFIER.fullmatch(boot) for boot in boots)
    assert [boot.split("-")[0] for boot in boots] == ["1", "2", "3", "1"]
    assert len({boot.split("-")[1] for boot in boots}) == 4


def test_sightings_leave_only_by_the_ranges_of_their_boot(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db") as spool:
        spool.append([make_row(n) for n in range(1, 11)], MODEL)
        spool.append((), MODEL, settled=[("1-other", Range(1, 10, Status.STORED))])
        assert seqs(spool) == list(range(1, 11))
        dropped = spool.append(
            (),
            MODEL,
            settled=[
                (spool.boot, Range(2, 4, Status.STORED)),
                (spool.boot, Range(9, 2**64 - 1, Status.REJECTED)),
                (spool.boot, Range(2**64 - 1, 2**64 - 1, Status.STORED)),
            ],
        )
        assert seqs(spool) == [1, 5, 6, 7, 8]
        assert dropped == {"rejected": 2}


@settings(max_examples=15)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5)),
            st.tuples(st.just("settle"), st.tuples(st.integers(1, 30), st.integers(0, 10))),
            st.tuples(st.just("reopen"), st.none()),
        ),
        max_size=15,
    )
)
def test_a_spool_holds_what_was_appended_and_not_settled(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "s.db"
    spool = Spool(path)
    expected: list[tuple[str, int]] = []
    seq = 0
    for kind, value in steps:
        if kind == "append":
            assert isinstance(value, int)
            rows = [make_row(seq + k) for k in range(1, value + 1)]
            seq += value
            spool.append(rows, MODEL)
            expected += [(spool.boot, r.seq) for r in rows]
        elif kind == "settle":
            assert isinstance(value, tuple)
            first, length = value
            spool.append(
                (), MODEL, settled=[(spool.boot, Range(first, first + length, Status.STORED))]
            )
            expected = [
                (boot, s)
                for boot, s in expected
                if boot != spool.boot or not first <= s <= first + length
            ]
        else:
            spool.close()
            spool, seq = Spool(path), 0
    assert [(h.boot, h.seq) for h in spool.after(0, 1000)] == expected
    assert spool.count() == spool.stats().sightings == len(expected)
    spool.close()


def test_the_byte_cap_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db", max_bytes=1000) as spool:
        assert spool.append([make_row(n) for n in range(1, 11)], MODEL) == {}
        assert spool.append([make_row(11), make_row(12)], MODEL) == {"spool_full": 2}
        assert seqs(spool) == list(range(3, 13))
        assert spool.stats().bytes == 1000


def test_pictures_are_dropped_before_sightings(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db", max_bytes=1000) as spool:
        spool.append([make_row(1)], MODEL, [(picture(1, 1, b"j" * 800), True)])
        dropped = spool.append([make_row(n) for n in range(2, 6)], MODEL)
        assert dropped == {"spool_full_picture": 1}
        assert seqs(spool) == [1, 2, 3, 4, 5]
        assert spool.next_picture() is None


def test_the_age_cap_drops_what_is_too_old_and_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"ns": 10**18}
    monkeypatch.setattr("skyreid.edge.delivery.spool_file.running_ns", lambda: clock["ns"])
    with Spool(tmp_path / "s.db", max_age_h=1) as spool:
        spool.append([make_row(1)], MODEL)
        clock["ns"] += 1_800 * 10**9
        spool.append([make_row(2)], MODEL)
        clock["ns"] += 1_801 * 10**9
        assert spool.append([make_row(3)], MODEL) == {"spool_old": 1}
        assert seqs(spool) == [2, 3]
        assert spool.stats().oldest_age_s == pytest.approx(1801)


def test_a_picture_is_replaced_by_a_better_one_and_a_request_is_not_forgotten(
    tmp_path: Path,
) -> None:
    with Spool(tmp_path / "s.db") as spool:
        spool.append((), MODEL, [(picture(1, 1), False)])
        assert spool.next_picture() is None
        assert spool.want_picture(PictureRequest(boot="b", camera="cam1", track=1))
        assert not spool.want_picture(PictureRequest(boot="b", camera="cam1", track=2))
        spool.append((), MODEL, [(picture(1, 4, b"better"), False)])
        found = spool.next_picture()
        assert found is not None
        assert (found.seq, found.jpeg) == (4, b"better")
        spool.picture_sent(picture(1, 1), keep=False)  # an older one arrived: nothing changes
        assert spool.next_picture() == found
        spool.picture_sent(found, keep=True)
        assert spool.next_picture() is None
        assert spool.want_picture(PictureRequest(boot="b", camera="cam1", track=1))


def test_two_processes_cannot_have_one_spool(tmp_path: Path) -> None:
    with Spool(tmp_path / "s.db"):
        with pytest.raises(InputError, match=r"s\.db is in use by process \d+ \(.*\): give each"):
            Spool(tmp_path / "s.db")
        assert read_stats(tmp_path / "s.db").sightings == 0  # looking is allowed
    Spool(tmp_path / "s.db").close()


def test_a_damaged_spool_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"this is not a database, " * 100)
    with pytest.raises(InputError, match=r"s\.db cannot be used .* move it away"):
        Spool(tmp_path / "s.db")


def test_a_spool_on_a_full_disk_is_not_to_be_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: SpoolFile) -> str:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SpoolFile, "_begin", full)
    with pytest.raises(
        InputError, match=r"s\.db cannot be used \(.* is full\): make room on its disk$"
    ):
        Spool(tmp_path / "s.db")


def test_a_spool_whose_folder_may_not_be_written_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_place(tmp_path / "new" / "s.db")
    asked: list[Path] = []

    def access(path: Path, mode: int) -> bool:
        asked.append(path)
        return False

    monkeypatch.setattr("skyreid.edge.delivery.spool_file.os.access", access)
    with pytest.raises(InputError, match=rf"s\.db cannot be made: {tmp_path} is not to be written"):
        check_place(tmp_path / "new" / "s.db")
    assert asked == [tmp_path]


KILLED = """
import os, signal, sys
from pathlib import Path
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
spool = Spool(Path(sys.argv[1]))
for seq in range(1, 51):
    spool.append([Row(seq, 1, b"x" * 100)], ModelRef("k" * 16, 4, "b" * 64, "test"))
    print(seq, flush=True)
    if seq == 37:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_append_returned_for_survives_kill_9(
    tmp_path: Path, environment: dict[str, str], row: Callable[[int], Row]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "s.db")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split()[-1] == "37"
    with Spool(tmp_path / "s.db") as spool:
        assert seqs(spool) == list(range(1, 38))
        assert spool.boot.startswith("2-")
        spool.append([row(1)], MODEL)  # the same seq in a new boot is another key
    assert os.path.exists(tmp_path / "s.db")
