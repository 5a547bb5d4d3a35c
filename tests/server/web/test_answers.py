"""What an answer costs: rows read, not seconds."""

import dataclasses
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived
from skyreid.server.web import answers


class Counted(Mapping[TrackKey, str]):
    """A mapping that counts what is looked up, and is never walked through."""

    def __init__(self, inner: Mapping[TrackKey, str]) -> None:
        self.inner, self.looked = inner, 0

    def __getitem__(self, key: TrackKey) -> str:
        self.looked += 1
        return self.inner[key]

    def __iter__(self) -> Iterator[TrackKey]:
        raise AssertionError("walked through")

    def __len__(self) -> int:
        return len(self.inner)


def test_the_newest_identities_are_found_without_reading_the_rest(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, "plaza", pictures_max_bytes=10**6)
    log = []
    for n in range(2000):
        key = TrackKey("uav1", "1-a", "cam1", n)
        log.append(Decision("assign", n, key.identity_id(), (key,)))
    kept = [make.sighting(n, track=n, at_s=n) for n in range(2000)]
    journal.store([Arrived("uav1", "1-a", 1, "key", 16, 9, s, encode_sighting(s)) for s in kept])
    journal.close()
    work: list[int] = []

    @contextmanager
    def counted(at: Path) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(at)
        db.set_progress_handler(lambda: work.append(1), 1000)  # each 1000 instructions of SQLite
        yield db
        db.close()

    monkeypatch.setattr(answers, "open_to_read", counted)
    state = identity.replay(log)
    tracks = Counted(state.tracks)
    state = dataclasses.replace(state, tracks=tracks)  # type: ignore[arg-type]
    got = answers.Lookup(path, "never").identities(state, limit=3, view="all", after_ns=-1)
    assert [i["tracklets"][0]["track"] for i in got["identities"]] == [1999, 1998, 1997]
    assert got["total"] == 2000
    assert tracks.looked < 20
    assert len(work) < 3
