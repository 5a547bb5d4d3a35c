"""A spool whose records are sealed: what lay in it in clear, and how it is delivered."""

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from skyreid.contract.errors import InputError
from skyreid.contract.picture import Picture
from skyreid.contract.receipt import Range, Status
from skyreid.contract.sealed import MAGIC, Opener, Sealer, about_picture, about_sighting, key_name
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery import spool_file
from skyreid.edge.delivery.renewal import Keeper, Renewal
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.sealing import seal_file
from skyreid.edge.delivery.spool import Spool

MODEL = ModelRef("k" * 16, 4, "b" * 64, "test")
KEY = X25519PrivateKey.generate()
SECRET = bytes(range(100, 164))


def sealer() -> Sealer:
    return Sealer(KEY.public_key(), site="plaza", device="uav1")


def opener() -> Opener:
    return Opener("plaza", {key_name(KEY.public_key()): KEY}.get)


def row(seq: int) -> Row:
    return Row(seq, seq, SECRET + seq.to_bytes(8, "big"))


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_what_an_earlier_release_left_in_clear_is_sealed_and_nothing_of_it_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        boot = spool.boot
        picture = Picture(boot, "cam1", 1, 1, 5, b"\xff\xd8\xff" + SECRET)
        spool.append([row(n) for n in range(1, 40)], MODEL, [(picture, True)])
        spool.append([], MODEL, settled=[(boot, Range(10, 30, Status.STORED))])  # its pages stay
    assert SECRET in files(tmp_path)
    with Spool(path, sealer=sealer()) as spool:
        assert SECRET not in files(tmp_path)
        kept = spool.after(0, 100)
        assert [s.seq for s in kept] == [*range(1, 10), *range(31, 40)]
        for s in kept:
            plain = opener().open(s.data, "uav1", about_sighting(boot), numbered=True)
            assert plain == row(s.seq).data
        waits = spool.next_picture()
        assert waits is not None
        key = (boot, "cam1", 1, 1, 5)
        assert opener().open(waits.jpeg, "uav1", about_picture(*key)) == picture.jpeg
        assert not spool.append([Row(1, 1, b"sealed")], MODEL)  # it can be written as before
    before = path.stat().st_mtime_ns
    changes = path.read_bytes()
    with Spool(path, sealer=sealer()) as spool:  # once is enough
        assert [s.data for s in spool.after(0, 18)] == [s.data for s in kept]
    assert path.stat().st_mtime_ns >= before
    assert len(path.read_bytes()) <= 2 * len(changes)


def test_a_device_that_goes_back_to_no_key_seals_what_it_wrote_then(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    Spool(path, sealer=sealer()).close()
    with Spool(path) as spool:
        spool._db.execute("PRAGMA secure_delete = OFF").fetchall()  # as SQLite is built elsewhere
        spool.append([row(n) for n in range(1, 400)], MODEL)
        spool.append([], MODEL, settled=[(spool.boot, Range(1, 400, Status.STORED))])
    assert SECRET in files(tmp_path)  # deleted, and still to be read
    with Spool(path, sealer=sealer()) as spool:
        assert spool.count() == 0
        assert SECRET not in files(tmp_path)


def test_a_full_disk_leaves_in_clear_what_was_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        spool.append([row(1), row(2)], MODEL)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("skyreid.edge.delivery.spool_file.seal_file", full)
    with Spool(path, sealer=sealer()) as spool:
        assert [s.data for s in spool.after(0, 9)] == [row(1).data, row(2).data]
        assert not spool.sealed
    assert "is not sealed" in caplog.text


def test_what_a_full_disk_left_in_clear_is_sealed_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was at the next start only, which may be in months."""
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        spool.append([row(1), row(2)], MODEL)
    whole = seal_file

    def full(*_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(spool_file, "seal_file", full)
    monkeypatch.setattr(spool_file, "AGAIN_S", 0.0)
    with Spool(path, sealer=sealer()) as spool:
        monkeypatch.setattr(spool_file, "seal_file", whole)
        usage = SimpleNamespace(free=0)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        spool.append([Row(3, 3, MAGIC)], MODEL)
        assert not spool.sealed  # to write it anew takes room
        usage.free = 1 << 40
        spool.append([Row(4, 4, MAGIC)], MODEL)
        assert spool.sealed
        assert SECRET not in files(tmp_path)
        assert [s.data.startswith(MAGIC) for s in spool.after(0, 9)] == [True] * 4
        monkeypatch.setattr(spool_file, "seal_file", full)
        spool.append([Row(5, 5, MAGIC)], MODEL)  # once is enough
        assert spool.sealed


def test_what_a_reader_kept_in_the_log_is_sealed_when_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        spool.append([row(1), row(2)], MODEL)
    monkeypatch.setattr(spool_file, "AGAIN_S", 0.0)
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM sighting").fetchone()
    with Spool(path, sealer=sealer()) as spool:
        assert not spool.sealed
        reader.close()
        spool.append([], MODEL, settled=[(spool.boot, Range(9, 9, Status.STORED))])
        assert spool.sealed
        assert SECRET not in files(tmp_path)


def test_a_boot_is_sealed_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sightings travel in one message, which is sealed or is not."""
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        spool.append([row(n) for n in range(1, 6)], MODEL)
    with Spool(path) as spool:
        spool.append([row(n) for n in range(1, 6)], MODEL)
    one, left = sealer(), iter(range(7))
    whole = one.seal

    def runs_out(plain: bytes, about: bytes, seq: int) -> bytes:
        if next(left, None) is None:
            raise sqlite3.OperationalError("database or disk is full")
        return whole(plain, about, seq)

    monkeypatch.setattr(one, "seal", runs_out)
    with Spool(path, sealer=one) as spool:
        kinds = [(s.boot, s.data.startswith(MAGIC)) for s in spool.after(0, 100)]
    assert len(kinds) == 10
    assert {len({sealed for boot, sealed in kinds if boot == each}) for each, _ in kinds} == {1}
    assert {sealed for _, sealed in kinds} == {True, False}


def test_a_process_that_seals_leaves_no_file_of_its_memory() -> None:
    code = (
        "from skyreid.edge.delivery.sealing import keep_no_core as k; import resource; k();"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "(0, 0)"
    assert resource.RLIMIT_CORE >= 0


def test_what_was_sealed_as_another_device_is_not_sent_to_be_refused_for_good(
    tmp_path: Path,
) -> None:
    """A server opens it as the other's alone: its answer would have it deleted, unread."""
    path = tmp_path / "spool.db"
    mine = sealer()
    with Spool(path, sealer=mine) as spool:
        boot = spool.boot
        spool.append([Row(1, 1, mine.seal(b"a", about_sighting(boot, 1), 1))], MODEL)
        spool._renew(sqlite3.DatabaseError("damaged"))  # a new file knows as whom, too
        spool.append([Row(2, 2, mine.seal(b"a", about_sighting(boot, 2), 2))], MODEL)
    for site, device in (("plaza", "uav2"), ("other", "uav1")):
        other = Sealer(KEY.public_key(), site=site, device=device)
        with pytest.raises(InputError, match="1 sightings and pictures that were sealed as device"):
            Spool(path, sealer=other)
    with Spool(path, sealer=mine) as spool:
        assert spool.count() == 1
        spool.append([], MODEL, settled=[(boot, Range(2, 2, Status.STORED))])
    Spool(path, sealer=other).close()  # nothing waits: the name may be another one
    Spool(path, sealer=other).close()


def test_a_spool_that_somebody_reads_meanwhile_is_sealed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        spool.append([row(n) for n in range(1, 40)], MODEL)
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sighting").fetchone()
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda p, **more: connect(p, **{**more, "timeout": 0.1})
    )
    with Spool(path, sealer=sealer()) as spool:
        assert not spool.sealed
        assert SECRET in files(tmp_path)  # in the pages that the reader is shown
    assert "somebody reads it" in caplog.text
    reader.close()
    with Spool(path, sealer=sealer()) as spool:
        assert spool.sealed
        assert SECRET not in files(tmp_path)


def test_what_was_set_aside_before_there_was_a_key_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.db"
    with Spool(path) as spool:
        spool.append([row(1)], MODEL)
        spool._renew(sqlite3.DatabaseError("damaged"))
    (aside,) = tmp_path.glob("spool.db.damaged-*Z")
    for _ in range(2):  # until somebody has done so
        caplog.clear()
        with Spool(path, sealer=sealer()) as spool:
            assert not spool.sealed
        assert f"delete them: {aside.name}\n" in caplog.text
    aside.unlink()
    caplog.clear()
    with Spool(path, sealer=sealer()) as spool:
        assert spool.sealed
        spool._renew(sqlite3.DatabaseError("damaged"))  # what is set aside now is sealed
    with Spool(path, sealer=sealer()) as spool:
        assert spool.sealed
    assert "delete them" not in caplog.text


def test_a_file_that_cannot_be_written_does_not_keep_a_device_at_a_key_that_was_replaced(
    tmp_path: Path,
) -> None:
    """Its private key is deleted one day, and what is sealed to it is lost then."""
    (tmp_path / "file").write_text("no folder")
    one, new = sealer(), X25519PrivateKey.generate().public_key()
    keeper = Keeper(
        Renewal(("localhost", 1), tmp_path, tmp_path, tmp_path),
        tmp_path,
        on_renewed=lambda: None,
        sealed_to=tmp_path / "file" / "seal.pub",
        sealer=one,
    )
    pem = new.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(InputError, match="cannot write"):
        keeper._take(pem)
    assert one.key == key_name(new)


def test_a_process_that_seals_is_not_handed_to_a_program_that_takes_cores() -> None:
    """The limit of a core's size is not asked there."""
    code = (
        "from skyreid.edge.delivery.sealing import keep_no_core; import ctypes;"
        "c = ctypes.CDLL(None); print(c.prctl(3, 0, 0, 0, 0)); keep_no_core();"
        "print(c.prctl(3, 0, 0, 0, 0)); print(len(open('/proc/self/statm').read()) > 0)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "0", "True"]
