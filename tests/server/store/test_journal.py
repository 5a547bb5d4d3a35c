"""The journal: exactly once, all or nothing, and the same again after a restart."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.store.beside import read_decisions, read_keys
from skyreid.server.store.journal import Journal, open_to_read
from skyreid.server.store.records import Arrived, ArrivedPicture, Heard


def arrived(sighting: Any, device: str = "uav1", boot: str = "1-abcd") -> Arrived:
    dim = len(sighting.embedding)
    return Arrived(device, boot, 1, "key", dim, 5, sighting, encode_sighting(sighting))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    made = Journal(path, "plaza", pictures_max_bytes=1000)
    yield made
    made.close()


def test_a_sighting_is_new_once_and_kept_as_it_came(journal: Journal, make: Any) -> None:
    first = arrived(make.sighting(1))
    assert journal.store([first, first]) == [first]
    assert (
        journal.store([arrived(make.sighting(1)), arrived(make.sighting(2))])[0].sighting.seq == 2
    )
    other_boot, other_device = (
        arrived(make.sighting(1), boot="2-abcd"),
        arrived(make.sighting(1), "b"),
    )
    assert journal.store([other_boot, other_device]) == [other_boot, other_device]
    back = list(journal.sightings_since(0))
    assert [(b.device, b.boot, b.sighting.seq) for b in back] == [
        ("uav1", "1-abcd", 1),
        ("uav1", "1-abcd", 2),
        ("uav1", "2-abcd", 1),
        ("b", "1-abcd", 1),
    ]
    assert back[0].body == first.body
    assert journal.counts() == (4, 0)


def test_sightings_since_a_moment_leave_out_what_was_captured_before(
    journal: Journal, make: Any
) -> None:
    journal.store([arrived(make.sighting(n, at_s=n)) for n in (1, 2, 3)])
    got = journal.sightings_since(make.start_ns + 2 * 10**9)
    assert [a.sighting.seq for a in got] == [2, 3]


def test_a_tracklet_shows_its_highest_revision_whatever_the_order(
    journal: Journal, path: Path, make: Any
) -> None:
    revisions = [make.sighting(n, track=7, revision=n, crops=n + 1) for n in (0, 2, 1)]
    for sighting in revisions:
        journal.store([arrived(sighting)])
    with open_to_read(path) as db:
        assert db.execute("SELECT revision, crops FROM tracklet").fetchall() == [(2, 3)]


def test_a_repeat_before_a_restart_leaves_no_gap_that_would_pass_for_a_loss(
    path: Path, make: Any
) -> None:
    for seqs in ((1, 2, 2, 1), (3, 3)):  # a life each, that ends with a repeat
        journal = Journal(path, "plaza", pictures_max_bytes=1)
        journal.store([arrived(make.sighting(seq)) for seq in seqs])
        journal.close()
    with open_to_read(path) as db:
        assert db.execute("SELECT id, seq FROM sighting").fetchall() == [(1, 1), (2, 2), (3, 3)]


def test_revisions_that_come_together_leave_the_highest(journal: Journal, make: Any) -> None:
    told = [(1, 1), (2, 3), (3, 2), (4, 3)]  # a number taken twice: the first that came
    rows = [make.sighting(seq, track=7, revision=n, crops=10 + seq) for seq, n in told]
    assert len(journal.store([arrived(row) for row in rows])) == 4
    with open_to_read(journal.path) as db:
        shown = db.execute("SELECT track, revision, crops FROM tracklet").fetchall()
    assert shown == [(7, 3, 12)]


def test_a_batch_that_fails_leaves_nothing_behind(journal: Journal, make: Any) -> None:
    with pytest.raises(OverflowError):
        journal.store([arrived(make.sighting(1)), arrived(make.sighting(2**63))])
    assert journal.counts() == (0, 0)
    assert len(journal.store([arrived(make.sighting(1))])) == 1


def test_a_watermark_rises_within_a_boot_and_starts_anew_with_the_next(journal: Journal) -> None:
    def mark(boot: str | None, watermark_ns: int) -> int:
        journal.store([], [Heard("a", 100, boot, watermark_ns)])
        return journal.devices()[0].watermark_ns

    assert [mark("b1", 50), mark("b1", 40), mark(None, 0), mark("b2", 7)] == [50, 50, 50, 7]
    assert [mark("b2", 900), mark("b2", 0), mark("b2", 8)] == [900, 900, 8]  # a clock put right


def test_pictures_keep_the_latest_of_a_tracklet_and_forget_the_oldest(
    journal: Journal, path: Path
) -> None:
    def put(track: int, seq: int, size: int, at: int) -> None:
        picture = Picture("b", "cam1", track, seq, 1, b"x" * size)
        journal.store([], [], [ArrivedPicture("a", at, picture)])

    put(1, 5, 400, 1)
    put(1, 4, 300, 2)  # older than the one that is there
    put(2, 6, 500, 3)
    with open_to_read(path) as db:
        query = "SELECT track, seq, length(body) FROM picture ORDER BY track"
        assert db.execute(query).fetchall() == [(1, 5, 400), (2, 6, 500)]
        put(3, 7, 200, 4)  # 1100 bytes: the oldest goes
        assert db.execute(query).fetchall() == [(2, 6, 500), (3, 7, 200)]


def test_decisions_and_their_events_come_back_in_order(journal: Journal, path: Path) -> None:
    keys = [TrackKey("a", "b", "cam1", n) for n in range(3)]
    made = [Decision("assign", n, key.identity_id(), (key,)) for n, key in enumerate(keys)]
    state, applied = identity.State(), []
    for decision in made:
        state, events = identity.apply(state, decision)
        applied.append(Applied(decision, events))
    journal.decide(applied[:2], 9)
    journal.decide([Applied(made[2], ())], 9)
    assert read_decisions(path) == made == list(journal.decisions())
    assert journal.decision_count() == 3
    rows = journal.outbox(0, 10)
    assert [(r.identity, json.loads(r.body)["id"]) for r in rows] == [
        (made[0].identity, "1-0"),
        (made[1].identity, "2-0"),
    ]
    journal.taken([rows[0].id])
    assert [json.loads(r.body)["id"] for r in journal.outbox(0, 10)] == ["2-0"]
    assert set(identity.replay(read_decisions(path)).identities) == {d.identity for d in made}


def test_a_journal_has_one_writer_and_one_site(path: Path, journal: Journal) -> None:
    with pytest.raises(InputError, match=r"is in use by process \d+ \(.*\): one server"):
        Journal(path, "plaza", pictures_max_bytes=1)
    journal.close()
    with pytest.raises(InputError, match="belongs to site 'plaza', the site file says 'harbour'"):
        Journal(path, "harbour", pictures_max_bytes=1)
    Journal(path, "plaza", pictures_max_bytes=1).close()


def test_what_is_not_a_journal_is_said_so(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"not a database, and long enough to be read as a page" * 100)
    for opened in (
        lambda: Journal(other, "plaza", pictures_max_bytes=1),
        lambda: read_keys(other),
    ):
        with pytest.raises(InputError, match=r"other.* file is not a database"):
            opened()
    with pytest.raises(InputError, match="nowhere' does not exist"):
        read_keys(tmp_path / "nowhere")
    foreign = tmp_path / "foreign"
    sqlite3.connect(foreign).execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(InputError, match="foreign has tables t and is no journal"):
        read_decisions(foreign)


_CHILD = """
import sys
from pathlib import Path
from skyreid.contract.sighting_wire import (decode_sighting, encode_sighting)
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived, ArrivedPicture
import dataclasses
sighting = decode_sighting(bytes.fromhex(sys.argv[2]), 16)
journal = Journal(Path(sys.argv[1]), "plaza", pictures_max_bytes=1)
start = journal.counts()[0]
seq = 0
while True:
    rows = []
    for _ in range(10):
        seq += 1
        one = dataclasses.replace(sighting, seq=seq)
        rows.append(Arrived("uav1", "b", 1, "key", 16, 5, one, encode_sighting(one)))
    journal.store(rows)
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
"""


def test_what_was_stored_survives_kill_9_and_is_stored_once(path: Path, make: Any) -> None:
    acknowledged = 0
    for batches in (3, 8):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), encode_sighting(make.sighting()).hex()],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        for _ in range(batches):
            acknowledged = max(acknowledged, int(child.stdout.readline()))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    keys = read_keys(path)
    assert {("uav1", "b", n) for n in range(1, acknowledged + 1)} <= keys
    assert len(keys) % 10 == 0  # whole batches only
    with open_to_read(path) as db:
        assert db.execute("SELECT count(*) FROM sighting").fetchone() == (len(keys),)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
