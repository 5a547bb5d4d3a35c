"""Who is erased is gone: from every file, for good, and whatever kills the server meanwhile."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import httpx
import numpy as np
import pytest
from one_life import Life, plain

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture, picture_properties
from skyreid.contract.receipt import decode_receipt
from skyreid.contract.sighting_wire import decode_batch
from skyreid.contract.site import Site
from skyreid.contract.traffic import Recorded, TrafficWriter, read_traffic
from skyreid.server import forget
from skyreid.server.__main__ import main
from skyreid.server.access.roles import Role
from skyreid.server.access.tokens import Tokens, file_of
from skyreid.server.audit.log import AuditLog, folder_of
from skyreid.server.forget import Forgetting
from skyreid.server.store import beside, drop
from skyreid.server.store.erasures import Target, list_of, parse_target
from skyreid.server.store.journal import Journal
from skyreid.server.store.mark import closed_of, mark_of
from skyreid.server.store.records import ArrivedPicture
from skyreid.server.store.repair import repair
from skyreid.server.web.answers import Lookup, ShownSite
from skyreid.server.web.api import make_api
from skyreid.server.web.gate import Access
from skyreid.server.web.session import protect

VICTIM, OTHERS = 7, (1, 2, 3, 4)
KEY = TrackKey("uav1", "1-abcd", "cam1", VICTIM)
STEPS = (
    "_decision", "_list", "_decide_it", "_drop_vectors", "_remove_copies", "_overwrite", "_finish",
)  # fmt: skip

PLACES = (
    "before _decision",
    *(f"after {step}" for step in STEPS),
    "within the transaction",
)


def vector(make: Any, person: int) -> Any:
    return make.sighting(1, person=person).embedding


def runs_of(raw: Any) -> list[bytes]:
    """Every 16 bytes in a row of a vector as devices send it, and as the server has it."""
    half = raw.astype("<f2")
    unit = half.astype(np.float32)
    unit_length = unit / np.float32(np.linalg.norm(unit))
    forms = (half, unit, unit_length, unit_length.astype("<f2"))
    texts = [form.tobytes() for form in forms]
    return [text[i : i + 16] for text in texts for i in range(len(text) - 15)]


def found_in(folder: Path, make: Any, person: int = VICTIM) -> list[str]:
    """Names of files in which a part of a person's vector is."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    runs = runs_of(vector(make, person))
    return [path.name for path in files if any(run in path.read_bytes() for run in runs)]


def fill(life: Life, make: Any) -> None:
    """Five people, each revised, one of them the victim with a picture and in quarantine."""
    for revision in range(3):
        people = (*OTHERS, VICTIM)
        made = [
            make.sighting(10 * p + revision, track=p, person=p, at_s=p * 20, revision=revision)
            for p in people
        ]
        life.arrive(make.payload(made))
    life.step_until(lambda: life.writer.settled)
    life.writer._bring_snapshot(1)
    picture = Picture("1-abcd", "cam1", VICTIM, 10 * VICTIM, 5, b"\xff\xd8picture\xff\xd9")
    life.journal.store((), (), [ArrivedPicture("uav1", 5, picture)])
    db = life.journal._db
    db.execute(
        "INSERT INTO quarantine VALUES ('uav1', '1-abcd', ?, 1, 'why', 'held')", (10 * VICTIM,)
    )


def cosines(life: Life) -> dict[int, dict[int, float]]:
    return {
        p: {
            key.track: similarity
            for key, similarity in life.writer.gallery.similar(
                TrackKey("uav1", "1-abcd", "cam1", p), 9
            )
            or ()
            if key.track != VICTIM
        }
        for p in OTHERS
    }


def erase(life: Life, target: Target) -> dict[str, Any]:
    number = beside.ask_erasure(life.journal.path, target, "asked for", 5)
    state = {"": ""}

    def done() -> bool:
        asked = beside.read_erasure(life.journal.path, number)
        assert asked is not None
        state.clear()
        state.update({"state": asked.state, **asked.body})
        return asked.state in ("done", "refused")

    life.step_until(done)
    return state


@pytest.mark.parametrize("by", ["identity", "tracklet"])
def test_no_file_of_the_server_has_a_part_of_an_erased_persons_vector(
    life: Callable[..., Life], make: Any, tmp_path: Path, by: str
) -> None:
    one = life()
    fill(one, make)
    path = one.journal.path
    one.journal.close()
    shutil.copy(path, f"{path}.damaged-20260101T000000Z")  # as a repair leaves it
    shutil.copy(path, f"{path}.repaired")  # as one that was killed does
    shutil.copy(path, path.with_name(f".{path.name}.partial"))  # and a restore
    one = life()
    names = {"journal.sqlite", "journal.sqlite.damaged-20260101T000000Z", "00000001.segment"}
    assert names <= set(found_in(tmp_path, make))
    before = cosines(one)
    assert one.writer.gallery.similar(KEY, 9)
    name = one.writer.state.tracks[KEY]
    receipt = erase(one, name if by == "identity" else KEY)
    assert found_in(tmp_path, make) == []
    assert receipt["state"] == "done"
    assert receipt["removed"] == {
        "quarantined": 1, "sightings": 3, "tracklets": 1, "pictures": 1, "events": 1,
        "decisions": 1, "vectors": 1, "copies": 3,
    }  # fmt: skip
    assert receipt["pending"]["devices"]["names"] == ["uav1"]
    assert cosines(one) == before
    assert one.writer.gallery.similar(KEY, 9) is None
    assert KEY not in one.writer.state.tracks
    assert one.writer.stored == 12
    assert one.events()[-1]["type"] == "skyreid.v1.identity.erased"
    state = plain(one.writer.state)
    again = life()
    assert again.writer.state == state
    assert cosines(again) == before
    again.journal.close()
    report = repair(path, tmp_path / "repaired.sqlite")
    assert (report.sightings, report.lost_sightings, report.lost_decisions) == (12, 0, 0)
    assert found_in(tmp_path, make) == []
    assert all(found_in(tmp_path, make, p) for p in OTHERS)


def test_what_still_comes_of_an_erased_tracklet_is_refused_and_its_device_forgets_it(
    life: Callable[..., Life], make: Any, tmp_path: Path
) -> None:
    one = life()
    fill(one, make)
    erase(one, KEY)
    one.broker.did.clear()
    late = make.sighting(99, track=VICTIM, person=VICTIM, at_s=300, revision=9)
    one.arrive(make.payload([late, make.sighting(98, track=98, person=98, at_s=300)]))
    one.step_until(lambda: ("ack", one.mid) in one.broker.did and one.writer.settled)
    receipts = [decode_receipt(d[2]) for d in one.broker.did if str(d[1]).endswith("/receipt")]
    told = {(r.first, int(r.status), r.reason) for receipt in receipts for r in receipt.ranges}
    assert told == {(98, 1, ""), (99, 2, "erased")}
    assert found_in(tmp_path, make) == []
    assert not [d for d in one.broker.did if "rejected" in str(d[1])]
    assert 'skyreid_rejected_total{reason="erased"} 1.0' in one.metrics.text()[0].decode()


@pytest.mark.parametrize("place", PLACES)
def test_kill_9_at_any_moment_of_an_erasure_ends_in_erased(
    life: Callable[..., Life], make: Any, tmp_path: Path, place: str
) -> None:
    one = life()
    fill(one, make)
    path = one.journal.path
    one.journal.close()
    number = beside.ask_erasure(path, KEY, "asked for", 5)
    child = os.fork()
    if not child:
        try:
            _die(place)
            journal = Journal(path, "plaza", pictures_max_bytes=1 << 20)
            forget.without_matcher(journal).erase_asked()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    again = life()
    asked = beside.read_erasure(path, number)
    assert asked is not None
    assert asked.state == "done"
    assert asked.body["removed"]["sightings"] == 3
    assert found_in(tmp_path, make) == []
    assert KEY in again.writer.state.erased_tracks
    assert len(again.writer.state.tracks) == len(OTHERS)


def _die(place: str) -> None:
    when, _, step = place.partition(" ")
    module, name = (Forgetting, step) if step in STEPS else (drop, "drop_log")
    whole = getattr(module, name)

    def killed(*values: Any) -> Any:
        if when == "after":
            whole(*values)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, killed)


def test_the_command_erases_whether_the_server_runs_or_not(
    life: Callable[..., Life], make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = life()
    fill(one, make)
    name = one.writer.state.tracks[KEY]
    one.journal.close()
    settings = tmp_path / "server.toml"
    settings.write_text('site = "site.toml"\n[journal]\npath = "journal.sqlite"\n')
    assert main(["erase", str(settings), name, "--reason", "she asked"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["target"], receipt["reason"]) == (name, "she asked")
    assert found_in(tmp_path, make) == []
    assert main(["erase", str(settings), name, "--reason", "again"]) == 2
    assert "nobody of that name is known" in capsys.readouterr().err
    with pytest.raises(InputError, match="neither an identity"):
        parse_target("uav1/1-a/cam1")


def test_the_command_takes_the_erased_out_of_recordings_and_leaves_everybody_else(
    life: Callable[..., Life], make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = life()
    fill(one, make)
    one.journal.close()
    settings = tmp_path / "server.toml"
    settings.write_text('site = "site.toml"\n[journal]\npath = "journal.sqlite"\n')
    # Two of one batch, a picture of each, a batch that nobody can read with her vector in it, and
    # one of another device whose tracks have the same numbers.
    both = make.payload([make.sighting(n, person=n, track=n) for n in (VICTIM, OTHERS[0])])
    jpeg = b"\xff\xd8\xff\xd9"
    said = [
        Recorded(1, "skyreid/v1/plaza/dev/uav1/sightings", both),
        Recorded(2, "skyreid/v1/plaza/dev/uav1/sightings", b"\xff" + both),
        Recorded(3, "skyreid/v1/plaza/dev/uav1/status", b"online"),
        *(
            Recorded(4, "skyreid/v1/plaza/dev/uav1/picture", jpeg, picture_properties(each))
            for each in (Picture("1-abcd", "cam1", n, n, 5, jpeg) for n in (VICTIM, OTHERS[0]))
        ),
        Recorded(5, "skyreid/v1/plaza/dev/street1/sightings", b"\xff no batch"),
    ]
    place = tmp_path / "recorded"
    writer = TrafficWriter(place)
    for message in said:
        writer.add(TrafficWriter.encode(message))
    writer.flush()
    name = one.writer.state.tracks[KEY]
    words = ["erase", str(settings), name, "--reason", "she asked", "--recording", str(place)]
    assert "traffic.bin" in found_in(tmp_path, make)
    assert main(words) == 2
    assert "it is being written" in capsys.readouterr().err
    writer.close()
    assert main([*words, "--recording", str(tmp_path / "recorder")]) == 2
    assert "recorder/traffic.bin: No such file" in capsys.readouterr().err
    assert "journal.sqlite" in found_in(tmp_path, make), "nobody is erased without a receipt"
    full = Mock(side_effect=InputError("recording: No space left on device"))
    with patch("skyreid.server.traffic.forget.forget_in", full):
        assert main(words) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["removed"]["sightings"] > 0, "the receipt of what was done"
    assert "No space left on device: erase" in told.err
    assert main(words) == 0  # she is erased already; the recording is gone through all the same
    assert json.loads(capsys.readouterr().out)["removed"] == {"recordings": {str(place): 3}}
    assert main(words) == 2
    assert "no recording had anybody erased" in capsys.readouterr().err
    assert found_in(tmp_path, make) == []
    left = list(read_traffic(place))
    assert [message.at_ns for message in left] == [1, 3, 4, 5]
    batch = decode_batch(left[0].payload, site="plaza", device="uav1")
    assert [each.track for each in batch.sightings] == [OTHERS[0]]
    assert left[2].properties["track"] == str(OTHERS[0])
    assert [p.name for p in place.iterdir()] == ["traffic.bin"]


def test_the_command_says_what_a_killed_server_lost_before_it_closes_the_journal(
    life: Callable[..., Life], make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = life()
    fill(one, make)
    path = one.journal.path
    one.journal.close()
    mark_of(path).write_text(f"{one.journal.last[0] + 7} {one.journal.last[1]}\n")
    closed_of(path).unlink()
    assert forget.erase(path, KEY, "asked").state == "done"
    assert "7 sightings and 0 decisions that had been stored are gone" in caplog.text


def test_whom_the_list_names_is_erased_from_an_older_copy_of_the_journal(
    life: Callable[..., Life], make: Any, tmp_path: Path
) -> None:
    one = life()
    fill(one, make)
    path = one.journal.path
    one.journal.close()
    older = tmp_path / "older"
    older.mkdir()
    shutil.copy(path, older / "journal.sqlite")
    one = life()
    erase(one, KEY)
    assert list_of(path).is_file()
    one.journal.close()
    shutil.copy(older / "journal.sqlite", path)
    shutil.rmtree(older)
    again = life()
    assert KEY in again.writer.state.erased_tracks
    assert found_in(tmp_path, make) == []


def test_an_erasure_waits_for_a_reader_that_holds_the_old_pages_and_goes_on(
    life: Callable[..., Life], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyreid.server.forget.RETRY_S", 0.0)
    one = life()
    fill(one, make)
    one.journal._db.execute("PRAGMA busy_timeout = 1")
    number = beside.ask_erasure(one.journal.path, KEY, "asked for", 5)
    reader = sqlite3.connect(one.journal.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sighting").fetchone()
    one.writer.step(0.001)
    asked = beside.read_erasure(one.journal.path, number)
    assert asked is not None
    assert (asked.state, one.writer.forgetting.waiting) == ("decided", 1)
    reader.close()
    one.step_until(lambda: one.writer.forgetting.waiting == 0)
    assert found_in(tmp_path, make) == []


def test_the_api_erases_for_an_officer_alone(
    life: Callable[..., Life], make: Any, tmp_path: Path
) -> None:
    one = life()
    fill(one, make)
    url = "/v1/tracklets/uav1/1-abcd/cam1/7"

    lookup = Lookup(one.journal.path, ShownSite.of(Site(id="plaza")))
    tokens, audit = Tokens(file_of(one.journal.path)), AuditLog(folder_of(one.journal.path))
    api = make_api(one.writer, lookup, one.hub, one.metrics)
    gate = protect(api, Access(tokens, audit, one.metrics))
    operator = tokens.create("ana", Role.OPERATOR, 1)
    officer = tokens.create("bo", Role.OFFICER, 1)

    def ask(method: str, url: str, token: str) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(gate)
            async with httpx.AsyncClient(transport=transport, base_url="http://[::1]") as http:
                return await http.request(method, url, headers={"Authorization": f"Bearer {token}"})

        return asyncio.run(asked())

    def answered(token: str, url: str, reason: str = "?reason=asked") -> httpx.Response:
        return ask("DELETE", url + reason, token)

    thread = threading.Thread(target=one.writer.run)
    thread.start()
    try:
        assert answered(operator, url).status_code == 403
        assert answered(officer, url, "").status_code == 422
        got = answered(officer, url)
        assert (got.status_code, got.json()["removed"]["sightings"]) == (200, 3)
        number = got.json()["erasure"]
        assert ask("GET", f"/v1/erasures/{number}", officer).json() == got.json()
        assert answered(officer, "/v1/identities/NOBODY00").status_code == 404
        assert ask("GET", "/v1/erasures/99", officer).status_code == 404
        assert found_in(tmp_path, make) == []
    finally:
        one.writer.stop()
        thread.join(200)
