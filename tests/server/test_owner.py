"""Root at work in a store that is the server's user's: whatever it does, that user can go on."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from one_life import Life

from skyreid.contract.errors import InputError
from skyreid.contract.traffic import Recorded, TrafficWriter
from skyreid.server.__main__ import main
from skyreid.server.owner import as_owner
from skyreid.server.store.journal import Journal
from skyreid.server.store.mark import mark_of
from skyreid.server.store.repair import open_sound

SOMEBODY = 54_321
TOPIC = "skyreid/v1/plaza/dev/uav1/sightings"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")


def folder_of(owner: int, home: Path, site: str) -> Path:
    """A store of a user's, which only that user can come into, with settings of root's beside."""
    data = home / "data"
    data.mkdir(mode=0o700)
    for folder in (home, data):
        (folder / "site.toml").write_text(site)
    for path in (data, data / "site.toml"):
        os.chown(path, owner, owner)
    (home / "server.toml").write_text(
        'site = "site.toml"\n[journal]\npath = "data/journal.sqlite"\n[http]\nport = 0\n'
    )
    return data


@pytest.fixture
def store(site_file: Path, make: Any) -> Iterator[Path]:
    """That of somebody, where that user can come to it."""
    # As root first: Python's own modules may be root's, and are all imported then.
    root = site_file.parent / "root"
    root.mkdir()
    handle(folder_of(0, root, site_file.read_text()), make)
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield folder_of(SOMEBODY, Path(made), site_file.read_text())


def live(store: Path, make: Any, first: int) -> int:
    """One life of the server, as its user; how many sightings it has."""
    with as_owner(store):
        one = Life(store)
        one.arrive(make.payload([make.sighting(n, person=n) for n in range(first, first + 3)]))
        one.step_until(lambda: one.writer.settled)
        one.writer._bring_snapshot(1)
        one.journal.close()
        return one.writer.stored


def handle(store: Path, make: Any) -> None:
    """All that root does to a journal, with a life of its server before and after."""
    owner = store.stat().st_uid
    assert live(store, make, 1) == 3
    settings, journal = str(store.parent / "server.toml"), store / "journal.sqlite"
    secret = store.parent / "secret"
    secret.mkdir(mode=0o700)
    recording = store / "recording"
    with as_owner(store), closing(TrafficWriter(recording)) as writer:
        payload = make.payload([make.sighting(1, person=1), make.sighting(2, person=2)])
        writer.add(TrafficWriter.encode(Recorded(5, TOPIC, payload)))
    for verb in (
        ["devices", "admit", settings, "guest"],
        ["devices", "forget", settings, "guest"],
        ["quarantine", "retry", settings, "--all"],
        ["erase", settings, "uav1/1-abcd/cam1/2", "--reason", "x", "--recording", str(recording)],
        ["backup", settings, str(secret / "backup.sqlite")],
        ["restore", settings, str(secret / "backup.sqlite")],
        ["rebuild", settings],
        ["journal", "verify", str(journal)],
        ["journal", "repair", str(journal), "-o", str(store / "repaired.sqlite")],
    ):
        assert main(verb) == 0, verb
        assert [path for path in store.rglob("*") if path.stat().st_uid != owner] == [], verb
        assert (os.geteuid(), os.getegid()) == (0, 0)
    assert live(store, make, 10) == 5


def test_what_root_does_to_a_journal_leaves_it_to_its_user(store: Path, make: Any) -> None:
    """A lock, a mark, a segment or a whole journal of root's kept the service from starting."""
    handle(store, make)


def test_a_server_of_roots_does_not_begin_in_the_store_of_another(store: Path, make: Any) -> None:
    live(store, make, 1)
    with pytest.raises(InputError, match=f"is user #{SOMEBODY}'s, .*: run it as that user"):
        open_sound(store / "journal.sqlite", "plaza", pictures_max_bytes=1, events_kept=1)
    assert {path.stat().st_uid for path in store.rglob("*")} == {SOMEBODY}


def test_a_mark_that_cannot_be_written_is_one_line(store: Path, make: Any) -> None:
    """Of a server that was once run as root and killed; it was a traceback."""
    live(store, make, 1)
    mark_of(store / "journal.sqlite").write_text("0 0\n")
    with as_owner(store), pytest.raises(InputError, match=r"journal\.sqlite\.open.*who may write"):
        Journal(store / "journal.sqlite", "plaza", pictures_max_bytes=1)
