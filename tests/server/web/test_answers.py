"""What an answer costs: rows read, not seconds."""

import dataclasses
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.identity_event import Match, TrackKey
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision, State
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


Counting = tuple[answers.Lookup, State, list[int]]


@pytest.fixture
def two_thousand(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """A journal of 2,000 people, two of them seen from both views; and SQLite's work in it."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, "plaza", pictures_max_bytes=10**6)
    log, kept = [], []
    for n in range(2000):
        key = TrackKey("uav1", "1-a", "cam1", n)
        log.append(Decision("assign", n, key.identity_id(), (key,)))
        kept.append(make.sighting(n, track=n, at_s=n))
        if n in (500, 1500):
            other = TrackKey("uav1", "1-a", "cam6", n)
            match = Match("accepted", 0.9, key, ())
            log.append(Decision("assign", n, key.identity_id(), (other,), match=match))
            kept.append(make.sighting(n + 10**6, camera="cam6", track=n, at_s=n + 100.5))
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
    state = dataclasses.replace(state, tracks=Counted(state.tracks))  # type: ignore[arg-type]
    return answers.Lookup(path, answers.ShownSite("never", {})), state, work


def test_the_newest_identities_are_found_without_reading_the_rest(two_thousand: Counting) -> None:
    lookup, state, work = two_thousand
    for after_ns in (-1, 0):
        work.clear()
        state.tracks.looked = 0  # type: ignore[attr-defined]
        got = lookup.identities(state, limit=3, after_ns=after_ns)
        assert [i["tracklets"][0]["track"] for i in got["identities"]] == [1999, 1998, 1997]
        assert got["total"] == 2000
        assert len(work) < 3
        assert state.tracks.looked < 20  # type: ignore[attr-defined]


def test_pages_hold_everybody_once_and_no_page_reads_everything(
    two_thousand: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup, state, work = two_thousand
    monkeypatch.setattr(answers, "SCANNED_MAX", 300)
    for view, people, pages in (("all", 2000, 20), ("cross", 2, 7)):
        found: list[str] = []
        cursor, asked = None, 0
        while True:
            work.clear()
            got = lookup.identities(state, limit=100, view=view, cursor=cursor)  # type: ignore[arg-type]
            found += [i["id"] for i in got["identities"]]
            seen = [i["last_seen_ns"] for i in got["identities"]]
            assert seen == sorted(seen, reverse=True)
            assert len(work) < 60  # all of it would be hundreds
            asked += 1
            if got["next"] is None:
                break
            cursor = answers.read_cursor(got["next"])
        assert len(found) == len(set(found)) == people
        assert pages <= asked <= pages + 1
