"""A backup is whole as of one moment; restored, it does not bring back who was erased since."""

import errno
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from one_life import Life, plain

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.server.__main__ import main
from skyreid.server.store import backup as module
from skyreid.server.store import beside
from skyreid.server.store.repair import verify


@pytest.fixture
def settings(tmp_path: Path) -> str:
    path = tmp_path / "server.toml"
    path.write_text('site = "site.toml"\n[journal]\npath = "journal.sqlite"\n')
    return str(path)


def test_a_backup_is_its_owner_s_alone(
    life: Callable[..., Life], make: Any, tmp_path: Path, settings: str
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(1)]))
    one.step_until(lambda: one.writer.settled)
    copy = tmp_path / "backup.sqlite"
    command = [sys.executable, "-m", "skyreid.server", "backup", settings, str(copy)]
    subprocess.run(["sh", "-c", 'umask 022; exec "$@"', "sh", *command], check=True)
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_backup_of_before_an_erasure_does_not_bring_the_person_back(
    life: Callable[..., Life],
    make: Any,
    tmp_path: Path,
    settings: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(n, person=n) for n in (1, 2, 3)]))
    one.step_until(lambda: one.writer.settled)
    one.writer._bring_snapshot(1)
    copy = tmp_path / "elsewhere" / "backup.sqlite"
    assert main(["backup", settings, str(copy)]) == 2  # a disk that is not mounted
    assert f"there is no folder {copy.parent}" in capsys.readouterr().err
    copy.parent.mkdir()
    assert main(["backup", settings, str(copy)]) == 0  # while the server runs
    assert main(["backup", settings, str(copy)]) == 2
    assert "exists: choose another name" in capsys.readouterr().err
    before = plain(one.writer.state)
    gone = TrackKey("uav1", "1-abcd", "cam1", 2)
    number = beside.ask_erasure(one.journal.path, gone, "asked", 5)
    one.step_until(lambda: one.writer.state.tracks.get(gone) is None)
    assert beside.read_erasure(one.journal.path, number)
    assert main(["restore", settings, str(copy)]) == 2
    assert "is in use by" in capsys.readouterr().err
    one.journal.close()
    assert verify(copy).trouble == []
    assert main(["restore", settings, str(copy)]) == 0
    assert "1 tracklets on journal.sqlite.erased" in capsys.readouterr().out
    assert list(tmp_path.glob("journal.sqlite.before-restore-*"))
    again = life()
    assert set(before.tracks) - set(again.writer.state.tracks) == {gone}
    assert gone in again.writer.state.erased_tracks
    assert again.writer.gallery.similar(gone, 5) is None
    assert len(again.writer.gallery) == 2
    assert again.writer.stored == 2
    assert not list(tmp_path.glob("journal.sqlite.before-restore-*"))  # the person is in it too


def test_a_damaged_backup_changes_nothing(
    life: Callable[..., Life], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(n, person=n) for n in range(1, 30)]))
    one.step_until(lambda: one.writer.settled)
    path, copy = one.journal.path, tmp_path / "backup.sqlite"
    monkeypatch.setattr(module, "PAGES", 1)
    module.backup(path, copy)
    one.journal.close()
    whole = path.read_bytes()
    data = bytearray(copy.read_bytes())
    for place in range(5000, len(data), 4096):
        data[place] ^= 0xFF
    copy.write_bytes(data)
    with pytest.raises(InputError, match=r"is damaged: .*; nothing was changed"):
        module.restore(copy, path)
    assert path.read_bytes() == whole


@pytest.fixture
def backed_up(life: Callable[..., Life], make: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A closed journal of two sightings, and a backup from when there was one."""
    one, copy = life(), tmp_path / "backup.sqlite"
    for n in (1, 2):
        one.arrive(make.payload([make.sighting(n, person=n)]))
        one.step_until(lambda: one.writer.settled)
        if n == 1:
            module.backup(one.journal.path, copy)
    one.journal.close()
    return one.journal.path, copy


@pytest.mark.parametrize("step", ["copyfileobj", "rmtree"])
def test_a_restore_that_is_cut_off_leaves_the_journal_in_its_place(
    backed_up: tuple[Path, Path], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = backed_up

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, step, full)
        with pytest.raises(InputError, match="No space left on device; nothing was changed"):
            module.restore(copy, path)
    assert len(beside.read_keys(path)) == 2
    assert module.restore(copy, path) is not None
    assert len(beside.read_keys(path)) == 1


def test_a_journal_that_is_read_or_damaged_is_kept_whole_beside_what_is_restored(
    backed_up: tuple[Path, Path],
) -> None:
    path, copy = backed_up
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sighting").fetchone()
        with closing(sqlite3.connect(path)) as db:
            db.execute("INSERT INTO admitted VALUES ('uav9', 1)")
            db.commit()
            with pytest.raises(InputError, match="is being read: end what reads it"):
                module.restore(copy, path)
    assert len(beside.read_keys(path)) == 2
    damaged = b"nothing" + path.read_bytes()[7:]
    path.write_bytes(damaged)
    kept = module.restore(copy, path)
    assert kept is not None
    assert kept.read_bytes() == damaged
    assert len(beside.read_keys(path)) == 1
