"""What is too old goes, kind by kind, nothing sooner; journal, state and gallery level off."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from one_life import ARRIVED_NS, Life

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture
from skyreid.contract.sighting_wire import decode_sighting, encode_sighting
from skyreid.server.__main__ import main
from skyreid.server.broker.decoding import Message
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.store.gallery import Gallery, gallery_of
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived, ArrivedPicture
from skyreid.server.store.repair import verify
from skyreid.server.store.retention import DAY_NS, HOUR_NS, ROWS, Retention
from skyreid.server.store.retention_options import RetentionOptions
from skyreid.server.store.snapshots import Held

A_DAY = 6
START_NS = 1_790_000_000_000_000_000


class Site:
    """A journal and a gallery on a clock of their own; everybody is somebody new."""

    def __init__(self, folder: Path, make: Any, **options: float) -> None:
        self.make, self.path = make, folder / "journal.sqlite"
        self.journal = Journal(self.path, "plaza", pictures_max_bytes=1 << 30)
        self.journal._db.execute("PRAGMA synchronous = OFF")
        self.gallery = Gallery(gallery_of(self.path))
        self.now = SimpleNamespace(ns=START_NS, state=self.journal.start().state)
        self.retention = Retention(
            RetentionOptions(**options),
            self.journal,
            self.gallery,
            self.decide,
            window_s=lambda: 600,
        )

    def decide(self, decision: Decision, also: Any = None) -> None:
        self.now.state, events = identity.apply(self.now.state, decision)
        self.journal.decide([Applied(decision, events)], self.now.ns, also)

    def see(self, number: int) -> None:
        """A sighting and a picture of somebody new."""
        s = self.make.sighting(number, track=number, person=number)
        item = Arrived("uav1", "1-a", 1, "key", 16, self.now.ns, s, encode_sighting(s))
        jpeg = b"\xff\xd8" + b"x" * 500 + b"\xff\xd9"
        picture = Picture("1-a", "cam1", number, number, 5, jpeg)
        self.journal.store([item], [], [ArrivedPicture("uav1", self.now.ns, picture)])
        self.gallery.take([item])
        self.decide(Decision("assign", 5, item.key.identity_id(), (item.key,)))
        self.journal.taken([row.id for row in self.journal.outbox(0, 99)])

    def end_of_day(self) -> None:
        while self.retention.sweep(self.now.ns):
            pass
        held = Held((), (), 600.0, self.journal.last[0])
        self.journal.decide((), self.now.ns, None, (self.now.state, held))
        self.now.state = self.journal.brought(self.now.state, held)
        self.gallery.flush(self.journal.last[0])

    def kept(self, what: str) -> list[int]:
        return [row[0] for row in self.journal._db.execute(f"SELECT {what} ORDER BY 1")]

    def size(self) -> int:
        self.journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return sum(p.stat().st_size for p in self.path.parent.rglob("*") if p.is_file())


def test_a_hundred_days_level_off_and_nothing_that_is_kept_is_gone(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyreid.contract.files._sync", lambda path: None)  # no power cut here
    site = Site(tmp_path, make, events_d=40)
    sizes, number = [], 0
    came: dict[int, int] = {}
    for day in range(100):
        for turn in range(A_DAY):
            site.now.ns = START_NS + day * DAY_NS + turn * DAY_NS // A_DAY
            number += 1
            came[number] = site.now.ns
            site.see(number)
        site.end_of_day()
        sizes.append((site.size(), len(site.gallery), len(site.now.state.tracks)))

    def younger(than_ns: int) -> list[int]:
        return [n for n, at_ns in came.items() if at_ns >= site.now.ns - than_ns]

    assert site.kept("seq FROM sighting") == younger(30 * DAY_NS)
    assert site.kept("seq FROM sighting WHERE dim > 0") == younger(72 * HOUR_NS)
    assert site.kept("seq FROM picture") == younger(24 * HOUR_NS)
    assert site.kept("track FROM tracklet") == younger(30 * DAY_NS)
    assert sorted(key.track for key in site.now.state.tracks) == younger(30 * DAY_NS)
    told = [json.loads(str(body)) for body in site.kept("body FROM event")]
    events = {each["data"]["tracks"][0]["track"] for each in told}
    assert events == set(younger(40 * DAY_NS))
    for n in younger(72 * HOUR_NS):
        assert TrackKey("uav1", "1-a", "cam1", n) in site.gallery
    assert len(site.gallery) <= len(younger(72 * HOUR_NS + 3 * HOUR_NS)) + 2
    level = sizes[45]
    assert max(size for size, _, _ in sizes[45:]) <= level[0] * 1.1
    assert {tracks for _, _, tracks in sizes[45:]} == {30 * A_DAY + 1}
    assert max(vectors for _, vectors, _ in sizes[45:]) <= 3 * A_DAY + 2
    for body in site.kept("body FROM sighting WHERE dim = 0"):
        assert len(decode_sighting(body, 0).embedding) == 0  # type: ignore[arg-type]
    site.journal.close()
    assert verify(site.path).trouble == []
    journal = Journal(site.path, "plaza", pictures_max_bytes=1)
    assert len(journal.start().state.tracks) == len(younger(30 * DAY_NS))
    assert journal.last[0] == number
    journal.close()


def test_zero_keeps_nothing_longer_than_matching_needs_it(tmp_path: Path, make: Any) -> None:
    kinds = ("embeddings_h", "pictures_h", "sightings_d", "identities_d", "events_d")
    site = Site(tmp_path, make, **dict.fromkeys(kinds, 0.0))
    site.see(1)
    site.now.ns += 599 * 10**9
    site.end_of_day()
    assert (site.kept("seq FROM sighting WHERE dim > 0"), len(site.now.state.tracks)) == ([1], 1)
    assert site.kept("seq FROM picture") == []
    site.now.ns += 2 * 10**9
    site.end_of_day()
    for table in ("sighting", "tracklet", "picture"):
        assert site.kept(f"* FROM {table}") == []
    assert len(site.now.state.tracks) == 0
    site.now.ns += 1
    site.end_of_day()
    assert site.kept("id FROM event") == []
    site.see(2)  # numbers go on
    assert site.kept("id FROM sighting") == [2]
    assert site.journal.decision_count() > 2
    site.journal.close()


def test_no_file_keeps_an_embedding_that_is_too_old_once_no_reader_holds_its_pages(
    tmp_path: Path, make: Any
) -> None:
    site = Site(tmp_path, make, embeddings_h=1)
    site.see(1)
    vector = np.asarray(make.sighting(1, track=1, person=1).embedding, np.float16).tobytes()[:16]

    def holders() -> set[str]:
        files = (p for p in tmp_path.rglob("*") if p.is_file())
        return {p.name for p in files if vector in p.read_bytes()}

    assert "journal.sqlite-wal" in holders()
    reader = sqlite3.connect(site.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sighting").fetchone()
    site.now.ns += 2 * HOUR_NS
    site.end_of_day()  # no longer than without a reader: the writer has more to do than to wait
    assert "journal.sqlite-wal" in holders()
    reader.close()
    site.retention.sweep(site.now.ns)
    assert holders() == set()
    site.journal.close()


def test_a_clock_that_was_ahead_keeps_rows_longer_and_loses_none(tmp_path: Path, make: Any) -> None:
    site = Site(tmp_path, make, sightings_d=1)
    site.see(1)
    site.now.ns += 400 * DAY_NS  # wrong, for a moment
    site.see(2)
    site.now.ns -= 400 * DAY_NS
    site.see(3)
    site.now.ns += 2 * DAY_NS
    site.see(4)
    site.end_of_day()
    assert site.kept("seq FROM sighting") == [2, 3, 4]
    site.journal.close()


def test_a_server_sweeps_by_itself_and_a_repeat_of_what_has_no_embedding_is_no_clash(
    life: Callable[..., Life], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyreid.server.forget.SWEEP_S", 0.0)
    now = SimpleNamespace(ns=ARRIVED_NS)
    monkeypatch.setattr("time.time_ns", lambda: now.ns)
    monkeypatch.setattr("skyreid.server.own_time.up_ns", lambda: now.ns)
    one = life(retention={"embeddings_h": 1, "sightings_d": 2, "identities_d": 2})
    first = make.payload([make.sighting(1)])
    one.arrive(first)
    one.step_until(lambda: one.writer.settled)
    now.ns += 3 * HOUR_NS
    one.writer.step(0.001)
    assert one.journal._db.execute("SELECT dim FROM sighting").fetchall() == [(0,)]
    assert len(one.writer.gallery) == 0
    assert len(one.writer.state.tracks) == 1
    one.arrive(first)
    one.writer.step(0.001)
    assert 'rejected_total{reason="clash"}' not in one.metrics.text()[0].decode()
    again = life(retention={"embeddings_h": 1, "sightings_d": 2, "identities_d": 2})
    assert (len(again.writer.gallery), again.writer.stored) == (0, 1)
    now.ns += 3 * DAY_NS
    again.writer.step(0.001)
    assert (again.writer.stored, len(again.writer.state.tracks)) == (0, 0)


def test_a_clock_that_is_set_years_ahead_does_not_empty_the_journal(
    life: Callable[..., Life],
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("skyreid.server.forget.SWEEP_S", 0.0)
    wrong = SimpleNamespace(ns=ARRIVED_NS)
    monkeypatch.setattr("time.time_ns", lambda: wrong.ns)
    one = life(retention={"embeddings_h": 2, "sightings_d": 2, "identities_d": 2, "pictures_h": 2})
    one.arrive(make.payload([make.sighting(1)]))
    one.step_until(lambda: one.writer.settled)
    wrong.ns += 4000 * DAY_NS
    for _ in range(3):
        one.writer.step(0.001)
    assert one.journal._db.execute("SELECT dim > 0 FROM sighting").fetchall() == [(1,)]
    assert len(one.writer.gallery) == 1
    said = [r.getMessage() for r in caplog.records if "ahead: retention" in r.getMessage()]
    assert len(said) == 1
    assert "set 96000.0 hours ahead" in said[0]


def test_more_than_one_turn_takes_is_taken_in_several(tmp_path: Path, make: Any) -> None:
    site = Site(tmp_path, make, sightings_d=1)
    s = make.sighting(1)
    rows = [
        Arrived("uav1", "1-a", 1, "key", 16, START_NS, make.sighting(n), encode_sighting(s))
        for n in range(1, ROWS + 9)
    ]
    site.journal.store(rows)
    assert site.retention.sweep(START_NS + 2 * DAY_NS)
    assert len(site.kept("id FROM sighting")) == 8
    assert not site.retention.sweep(START_NS + 2 * DAY_NS)
    assert site.kept("id FROM sighting") == []
    site.journal.close()
    with sqlite3.connect(site.path) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'forgotten'").fetchone() == (
            str(ROWS + 8),
        )
    db.close()


def test_check_says_for_how_long_each_kind_is_kept(
    tmp_path: Path, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "server.toml"
    settings.write_text(
        'site = "site.toml"\n[journal]\npath = "journal.sqlite"\n[http]\nport = 0\n'
        "[retention]\npictures_h = 0\nidentities_d = 7\n"
    )
    assert main(["check", str(settings)]) == 0
    assert (
        "kept: embeddings 72 h, pictures 0 h, sightings 30 d, identities 7 d, events 90 d"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(("minutes", "kept"), [(12, 1), (14, 0)])
def test_a_block_that_is_settled_finds_the_looks_of_all_that_it_looks_at(
    life: Any, make: Any, minutes: int, kept: int
) -> None:
    """It looks back for 13 minutes, where the window has 10."""
    one = life(retention={"embeddings_h": 0})
    came_ns = time.time_ns() - minutes * 60 * 10**9
    payload = make.payload([make.sighting(1)])
    one.queue.put(Message("skyreid/v1/plaza/dev/uav1/sightings", payload, {}, came_ns, 1, 1))
    one.step_until(lambda: one.writer.settled)
    whole = one.journal._db.execute("SELECT count(*) FROM sighting WHERE dim > 0").fetchone()[0]
    assert (one.writer.stored, whole) == (1, kept)
