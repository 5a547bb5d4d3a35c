"""A site's traffic is recorded, and another server comes by it to the same identities."""

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.device import Birth, BirthCamera, encode_birth
from skyreid.contract.errors import InputError
from skyreid.contract.picture import Picture, picture_properties
from skyreid.contract.receipt import batch_properties
from skyreid.contract.recording import Recorder, RunInfo
from skyreid.contract.traffic import Recorded, TrafficWriter, read_traffic
from skyreid.server.broker.ingest import RECEIVED_AT, Broker, Queue
from skyreid.server.broker.packet import Publish
from skyreid.server.config import MqttSection
from skyreid.server.store.beside import read_keys
from skyreid.server.store.journal import open_to_read
from skyreid.server.traffic.replay import _Player, replay, sightings_of

JPEG = b"\xff\xd8\xff\xd9"
PATIENT = ("--matching.stall_s", "120")
"""Nobody is left behind on a busy machine; who is offline is not waited for anyhow."""


def program(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "skyreid.server", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def recording(server: Any, directory: Path, wait: Callable[..., Any], *more: object) -> Any:
    """`record`, once it is subscribed: a status that was retained has reached its file."""
    process = program("record", server.settings, directory, *more)
    wait("it records", lambda: (directory / "traffic.bin").is_file() and list_of(directory))
    return process


def list_of(directory: Path) -> list[tuple[str, bytes]]:
    return [(m.topic.rpartition("/")[2], m.payload) for m in read_traffic(directory)]


def identities(server: Any, wait: Callable[..., Any]) -> dict[str, Any]:
    wait("all is decided", lambda: server.get("/readyz").json()["settled"])
    listed = server.get("/v1/identities").json()["identities"]
    return {each["id"]: each for each in listed}


def test_a_replayed_recording_gives_the_same_identities_however_fast_it_is(
    server: Any, device: Any, make: Any, wait: Callable[..., Any], tmp_path: Path
) -> None:
    server.start(*PATIENT)
    uav, street = device("uav1"), device("street1")
    uav.send("status", b"online")
    camera = BirthCamera(id="cam1", view="aerial")
    uav.send("birth", encode_birth(Birth(boot="1-abcd", model=make.model, cameras=(camera,))))
    recorder = recording(server, tmp_path / "site", wait)
    for n in range(1, 13):
        seen = make.sighting(n, person=n % 3, track=1 + n % 3, revision=n, at_s=float(n))
        user = batch_properties("1-abcd", [n])
        uav.send("sightings", make.payload([seen], watermark_ns=seen.captured_at_ns), **user)
        seen = make.sighting(n, person=n % 4, track=1 + n % 4, camera="cam6", at_s=n + 0.25)
        street.send("sightings", make.payload([seen], device="street1"))
    uav.send("sightings", b"\xff is no batch", boot="1-abcd", seqs="77")
    for client in (uav, street):
        client.send("status", b"offline")
    wait("all is stored", lambda: len(read_keys(server.journal)) == 24)
    wait("all is recorded", lambda: len(list_of(tmp_path / "site")) >= 29)
    before = identities(server, wait)
    assert len(before) >= 3
    recorder.send_signal(signal.SIGINT)
    out, err = recorder.communicate(timeout=200)
    assert (recorder.returncode, "Traceback" in err) == (0, False)
    assert re.search(r"site: 1 birth, 25 sightings, 3 status, 0\.\d\d MB$", out.strip())
    assert server.stop() == 0

    for kept in tmp_path.glob("journal.sqlite*"):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    server.start("--mqtt.replayed", "true", *PATIENT)
    player = program("replay", server.settings, tmp_path / "site", "--speed", "0")
    out, err = player.communicate(timeout=200)
    assert (player.returncode, out) == (
        0,
        "29 messages sent; sightings: 24 stored, 1 refused, 0 without an answer; "
        "0 messages not taken by the broker\n",
    ), err
    assert identities(server, wait) == before
    with open_to_read(server.journal) as db:
        came = {row[0] for row in db.execute("SELECT received_at_ns FROM sighting")}
    assert came <= {m.at_ns for m in read_traffic(tmp_path / "site")}
    assert server.stop() == 0


def test_a_replay_that_nobody_listens_to_says_so(mosquitto: Any, server: Any) -> None:
    with TrafficWriter(server.directory / "site") as writer:
        writer.add(TrafficWriter.encode(Recorded(1, "skyreid/v1/plaza/dev/uav1/health", b"{}")))
        writer.add(TrafficWriter.encode(Recorded(60 * 10**9, "skyreid/v1/plaza/dev/uav1/x", b"")))
    player = program("replay", server.settings, server.directory / "site")
    _, err = player.communicate(timeout=200)
    assert player.returncode == 2
    assert "No matching subscribers: start the server first" in err.splitlines()[-1]


def test_a_recording_ends_where_it_is_full_and_has_no_picture_unless_asked(
    server: Any, device: Any, make: Any, wait: Callable[..., Any], tmp_path: Path
) -> None:
    uav = device("uav1")
    uav.send("status", b"online")
    small = recording(server, tmp_path / "small", wait, "--max-mb", 1, "--pictures")
    whole = recording(server, tmp_path / "whole", wait)
    picture = picture_properties(Picture("1-abcd", "cam1", 1, 3, 5, JPEG))
    uav.send("picture", JPEG, **picture)
    for _ in range(12):
        uav.send("sightings", bytes(100_000))
    out, _ = small.communicate(timeout=200)
    assert small.returncode == 0
    assert "1 picture, 9 sightings, 1 status, 0.90 MB; full, it ended by itself" in out
    assert (tmp_path / "small" / "traffic.bin").stat().st_size <= 1_000_000
    wait("the other has all", lambda: len(list_of(tmp_path / "whole")) == 13)
    whole.send_signal(signal.SIGTERM)
    whole.communicate(timeout=200)
    assert whole.returncode == 0
    assert {name for name, _ in list_of(tmp_path / "whole")} == {"status", "sightings"}
    again = program("record", server.settings, tmp_path / "whole")
    again.communicate(timeout=200)
    assert again.returncode == 2


def test_a_recording_of_another_site_is_not_replayed(tmp_path: Path) -> None:
    with TrafficWriter(tmp_path) as writer:
        writer.add(TrafficWriter.encode(Recorded(1, "skyreid/v1/harbour/dev/a/health", b"{}")))
    with pytest.raises(InputError, match=r"settings are of site 'plaza'"):
        replay("plaza", MqttSection(), [tmp_path], threading.Event(), speed=0)


def test_what_a_device_recorded_is_traffic_of_its_site(make: Any, tmp_path: Path) -> None:
    info = RunInfo(
        site="plaza", device="uav1", boot="1-abcd", camera="cam1", view="aerial", source="x",
        start_ns=5, model_key=make.model.key,
    )  # fmt: skip
    with Recorder(tmp_path, info) as recorder:
        recorder.sighting(make.payload([make.sighting(4)]))
        recorder.sighting(make.payload([make.sighting(5)]))
    said = [sightings_of(message) for message in read_traffic(tmp_path)]
    assert said == [(("uav1", "1-abcd"), {4}), (("uav1", "1-abcd"), {5})]


def test_a_replay_keeps_the_time_between_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, sent = [100.0], []
    monkeypatch.setattr("skyreid.server.traffic.replay.time.monotonic", lambda: now_s[0])
    player = _Player("plaza", MqttSection(), threading.Event())
    monkeypatch.setattr(
        player, "_listen", lambda wait_s: now_s.__setitem__(0, now_s[0] + max(wait_s, 0))
    )
    monkeypatch.setattr(player, "_send", lambda m: sent.append((m.payload, now_s[0] - 100)))
    each = [(b"a", 7), (b"b", 9), (b"earlier, its clock was set", 8), (b"c", 27)]
    player.play([Recorded(s * 10**9, "t", payload) for payload, s in each], 4.0)
    assert [payload for payload, _ in sent] == [payload for payload, _ in each]
    assert [at for _, at in sent] == pytest.approx([0, 0.5, 0.5, 5])


@pytest.mark.parametrize(
    ("said", "believed"), [("1700000000000000000", True), ("soon", False), ("9" * 30, False)]
)
def test_only_a_server_that_is_replayed_to_believes_when_a_message_came(
    said: str, believed: bool
) -> None:
    for replayed in (True, False):
        queue = Queue(10, 10_000)
        broker = Broker(
            "plaza", ("127.0.0.1", 1), queue, tls=None, login=None, keepalive_s=30,
            session_expiry_s=1, on_taken=lambda mid: None, on_dropped=lambda count: None,
            on_trouble=lambda kind: None, replayed=replayed,
        )  # fmt: skip
        user = {RECEIVED_AT: said, "k": "v"}
        broker._take(Publish("a/b", b"", user, mid=1, qos=1, dup=False))
        (message,) = queue.take(1, first_s=1, more_s=0)
        assert (message.received_at_ns == 1_700_000_000_000_000_000) == (believed and replayed)
