"""Today's code opens what earlier releases wrote, and loses nothing of it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import start
from skyreid.contract.errors import InputError
from skyreid.contract.migration import version
from skyreid.contract.recording import read_mot, read_run, read_sightings
from skyreid.contract.sighting import ModelRef
from skyreid.contract.sighting_wire import decode_batch
from skyreid.edge.delivery import migrations as spool_migrations
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.delivery.spool_file import read_stats
from skyreid.server.matching import identity
from skyreid.server.store import migrations as journal_migrations
from skyreid.server.store.beside import read_decisions, read_keys
from skyreid.server.store.journal import Journal

HERE = Path(__file__).parent
RELEASES = sorted(path for path in HERE.iterdir() if (path / "spool.db").is_file())


@pytest.fixture(params=RELEASES, ids=[path.name for path in RELEASES])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one release's folder."""
    return Path(shutil.copytree(request.param, tmp_path / "release"))


def version_of(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return version(db)
    finally:
        db.close()


def test_a_spool_of_it_is_delivered_and_its_boots_go_on(release: Path) -> None:
    with Spool(release / "spool.db") as spool:
        assert spool.append((), ModelRef("k" * 16, 8, "b" * 64, "test")) == {}  # none is too old
        held = spool.after(0, 10)
        assert [(s.boot.split("-")[0], s.seq, s.model.dim) for s in held] == [
            ("1", 1, 8),
            ("1", 2, 8),
            ("2", 3, 8),
        ]
        assert spool.boot.startswith("3-")
        assert spool.boot[2:] not in {s.boot[2:] for s in held}
        picture = spool.next_picture()
        assert picture is not None
        assert picture.jpeg.startswith(b"\xff\xd8")
    assert version_of(release / "spool.db") == len(spool_migrations.STEPS)
    assert read_stats(release / "spool.db").sightings == 3


def test_a_journal_of_it_is_read_whole(release: Path) -> None:
    path = release / "journal.sqlite"
    journal = Journal(path, "plaza", pictures_max_bytes=1 << 20)
    try:
        assert [a.sighting.seq for a in journal.sightings_since(0)] == [1, 2, 3]
        assert journal.counts() == (3, 1)
        assert [d.device for d in journal.devices()] == ["uav-1"]
        state = identity.replay(journal.decisions())
        assert sorted(len(i.members) for i in state.identities.values()) == [1, 1]
    finally:
        journal.close()
    assert version_of(path) == len(journal_migrations.STEPS)
    assert len(read_decisions(path)) == 2
    assert read_keys(path) == {("uav-1", "3-ab12cd34", n) for n in (1, 2, 3)}


WHOLE = [path for path in RELEASES if (path / "bundle").is_dir()]


@pytest.mark.parametrize("folder", WHOLE, ids=[path.name for path in WHOLE])
def test_a_bundle_of_it_runs_and_gives_its_golden_outputs(folder: Path) -> None:
    bundle = open_bundle(folder / "bundle")
    with start(bundle) as runner:  # held against the golden pictures, or it does not start
        assert runner.run(bundle.golden()[0])["embedding"].shape == (8, 3)


@pytest.mark.parametrize("folder", WHOLE, ids=[path.name for path in WHOLE])
def test_a_recording_of_it_is_read_whole(folder: Path) -> None:
    info = read_run(folder / "recording")
    assert (info.ended, info.frames, info.dropped) == (True, 1, {"frame_overtaken": 3})
    (said,) = read_sightings(folder / "recording")
    assert [s.seq for s in said.sightings] == [1]
    assert len(read_mot(folder / "recording" / "tracks" / "cam1.txt").frame) == 1


@pytest.mark.parametrize("folder", WHOLE, ids=[path.name for path in WHOLE])
def test_a_message_of_it_is_understood(folder: Path) -> None:
    said = decode_batch((folder / "sightings.bin").read_bytes(), site="plaza", device="uav-1")
    assert [(s.seq, s.camera, s.modality.word) for s in said.sightings] == [
        (1, "cam1", "grey"),
        (2, "cam1", "grey"),
    ]


@pytest.mark.parametrize("look", [read_decisions, read_keys])
def test_an_older_journal_is_not_changed_by_who_only_looks(
    look: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes((HERE / "unversioned" / "journal.sqlite").read_bytes())
    with pytest.raises(InputError, match=r"has version 0.*run skyreid-server run on it once"):
        look(path)
    assert path.read_bytes() == (HERE / "unversioned" / "journal.sqlite").read_bytes()


OPENERS = pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("spool.db", Spool),
        ("spool.db", read_stats),
        ("journal.sqlite", lambda path: Journal(path, "plaza", pictures_max_bytes=1)),
        ("journal.sqlite", read_decisions),
    ],
    ids=["spool", "spool, looked at", "journal", "journal, looked at"],
)


@OPENERS
def test_a_file_of_a_later_release_is_left_alone(
    name: str, opened: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes((HERE / "unversioned" / name).read_bytes())
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InputError, match=r"has version 99, this release knows up to \d+"):
        opened(path)
    assert version_of(path) == 99


@OPENERS
@pytest.mark.parametrize("tables", [["t"], ["spool"], ["meta"], []])
def test_a_file_of_another_program_is_left_as_it_is_whatever_its_version(
    name: str, opened: Callable[[Path], object], tables: list[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    db = sqlite3.connect(path)
    for table in tables:
        db.execute(f"CREATE TABLE {table} (x)")
    db.execute("PRAGMA user_version = 1")
    db.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"{name} has .*{''.join(tables)}.* and is no "):
        opened(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a?mode=memory", "a%41", "a#b", "a b"])
def test_the_name_of_a_file_is_not_part_of_how_it_is_opened(name: str, tmp_path: Path) -> None:
    with Spool(tmp_path / name):
        assert read_stats(tmp_path / name).sightings == 0


def test_a_link_to_a_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with Spool(tmp_path / "file"), pytest.raises(InputError, match="is in use by"):
        Spool(tmp_path / "link")
    (tmp_path / "other").symlink_to(tmp_path / "journal")
    first = Journal(tmp_path / "journal", "plaza", pictures_max_bytes=1)
    with pytest.raises(InputError, match="is in use by"):
        Journal(tmp_path / "other", "plaza", pictures_max_bytes=1)
    first.close()
