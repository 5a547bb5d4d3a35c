"""What one device, or one client, may cost the site: names, floods, pictures, copied spools."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from one_life import Life

from skyreid.contract.device import Birth, BirthCamera, encode_birth
from skyreid.contract.picture import Picture, picture_properties
from skyreid.contract.receipt import Status, decode_receipt
from skyreid.server.__main__ import main
from skyreid.server.broker.decoding import Message
from skyreid.server.broker.letters import BURST
from skyreid.server.devices import BURST_S, PARKED_MAX, STRANGERS_MAX, Devices, Door
from skyreid.server.store.pictures import EARLY_MAX, EARLY_NS
from skyreid.server.store.records import Heard

JPEG = b"\xff\xd8\xff\xe0picture\xff\xd9"


def counted(one: Life, reason: str) -> float:
    for line in one.metrics.text()[0].decode().splitlines():
        if line.startswith(f'skyreid_rejected_total{{reason="{reason}"}}'):
            return float(line.split()[-1])
    return 0.0


def told(one: Life) -> list[tuple[int, int, Status, str]]:
    payloads = [d[2] for d in one.broker.did if str(d[1]).endswith("/receipt")]
    ranges = [r for payload in payloads for r in decode_receipt(payload).ranges]
    return [(r.first, r.last, r.status, r.reason) for r in ranges]


def test_fifty_thousand_invented_names_cost_nothing(
    life: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    one = life()
    for n in range(50_000):
        one.arrive(b'{"fps": 1}', "health", f"rogue{n}")
        if n % 250 == 249:
            one.writer.step(0)
    one.step_until(lambda: len(one.queue) == 0)
    assert counted(one, "device") == 50_000
    assert one.writer.devices.by_id == {}
    assert one.journal.devices() == []
    assert len([d for d in one.broker.did if d[0] == "publish"]) == 0
    assert len([d for d in one.broker.did if d[0] == "ack"]) == 50_000
    assert len(caplog.records) < 20
    assert "skyreid-server devices admit" in caplog.text


def test_a_device_is_let_in_for_its_camera_and_not_for_talking(
    life: Callable[..., Life], make: Any
) -> None:
    one = life()
    one.arrive(b"online", "status")  # said first, once
    one.arrive(b'{"fps": 1}', "health")
    one.arrive(make.payload([], watermark_ns=7))
    one.writer.step(1)
    assert one.writer.devices.by_id == {}
    one.arrive(make.payload([make.sighting(1, camera="cam9")], device="lost"), device="lost")
    one.arrive(make.payload([make.sighting(1)]))
    one.writer.step(1)
    assert [(d.id, d.online) for d in one.writer.devices.by_id.values()] == [("uav1", True)]
    assert told(one) == [(1, 1, Status.STORED, "")]  # lost still has its own

    camera = BirthCamera(id="cam6", view="ground")
    birth = encode_birth(Birth(boot="1-a", model=make.model, cameras=(camera,)))
    one.arrive(birth, "birth", "street")
    one.arrive(b"online", "status", "street")
    one.writer.step(1)
    assert set(one.writer.devices.by_id) == {"uav1", "street"}


def test_a_device_that_comes_for_the_first_time_is_not_said_to_be_refused(
    life: Callable[..., Life], make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = life()
    camera = BirthCamera(id="cam6", view="ground")
    one.arrive(b"online", "status", "street")  # as a device introduces itself
    birth = encode_birth(Birth(boot="1-a", model=make.model, cameras=(camera,)))
    one.arrive(birth, "birth", "street")
    one.writer.step(1)
    assert one.writer.devices.by_id["street"].online
    assert counted(one, "device") == 0
    assert "not let in" not in caplog.text


def test_an_operator_admits_a_device_by_name_while_the_server_runs(
    life: Callable[..., Life], make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "server.toml"
    settings.write_text('site = "site.toml"\n[journal]\npath = "journal.sqlite"\n')
    one = life()
    payload = make.payload([make.sighting(1, camera="cam9")], device="guest")
    one.arrive(payload, device="guest")
    one.writer.step(1)
    assert told(one) == []
    assert main(["devices", "admit", str(settings), "guest", "other"]) == 0
    one.writer.step(0)
    one.arrive(payload, device="guest")
    one.writer.step(1)
    assert told(one) == [(1, 1, Status.STORED, "")]
    assert capsys.readouterr().out == "admit: guest, other\n"
    assert main(["devices", "forget", str(settings), "guset", "other"]) == 2
    assert "guset: not known, see devices list" in capsys.readouterr().err
    assert main(["devices", "list", str(settings)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["guest  camera cam9, admitted", "other  camera not known, admitted"]
    assert main(["devices", "forget", str(settings), "guest"]) == 0
    one.writer.step(0)
    one.arrive(make.payload([make.sighting(2, camera="cam9")], device="guest"), device="guest")
    one.writer.step(1)
    assert len(told(one)) == 1
    assert main(["devices", "admit", str(settings), "no/name"]) == 2
    assert main(["devices", "admit", str(settings)]) == 2


def test_a_site_without_cameras_is_open_up_to_a_number() -> None:
    door = Door((), max_devices=2)
    assert not door.lets_in("a")  # it says nothing of a camera
    assert door.lets_in("a", {"cam1"})
    assert door.lets_in("b", {"cam1"})
    assert not door.lets_in("c", {"cam1"})
    assert door.lets_in("a")
    listed = Door({"cam1"}, {"named"}, max_devices=1)
    assert listed.lets_in("named")
    assert not listed.lets_in("a", {"cam2"})
    assert listed.lets_in("a", {"cam1", "cam2"})
    assert Door({"cam1"}, is_open=True).lets_in("a", {"cam2"})


def test_what_is_parked_at_the_door_is_bounded() -> None:
    door = Door({"cam1"})
    for n in range(2 * PARKED_MAX):
        door.park(f"d{n}", True)
    assert door.parked("d0") is None
    assert door.parked(f"d{2 * PARKED_MAX - 1}") is True
    assert door.parked(f"d{2 * PARKED_MAX - 1}") is None


def test_a_flood_of_one_device_is_sent_again_and_the_others_are_heard(
    life: Callable[..., Life], make: Any
) -> None:
    one = life()
    one.writer.devices.door = Door({"cam1", "cam6"}, messages_per_s=1)
    for n in range(60):
        one.arrive(make.payload([make.sighting(n)]))
    other = make.payload([make.sighting(1, camera="cam6")], device="street")
    one.arrive(other, device="street")
    one.writer.step(1)
    allowed = int(BURST_S) + 1  # the first is before it is let in
    assert counted(one, "rate") == 60 - allowed
    assert one.writer.stored == allowed + 1
    assert len([d for d in one.broker.did if d[0] == "ack"]) == 61
    assert all(status is Status.STORED for _, _, status, _ in told(one))


def test_what_a_broker_kept_while_the_server_was_away_is_no_flood() -> None:
    door = Door({"cam1"}, messages_per_s=1)
    now_ns = time.time_ns()
    assert door.knows("a", {"cam1"}, now_ns - 1000 * 10**9, now_ns)
    assert [door.has_room("a", now_ns) for _ in range(1001)] == [True] * 1000 + [False]
    assert door.has_room("a", now_ns + 2 * 10**9)
    assert not door.knows("b", {"cam9"}, now_ns, now_ns)


def test_a_server_clock_that_goes_back_an_hour_takes_no_device_its_room() -> None:
    """Nobody was given new room until the hour had come again: refused as a flood meanwhile."""
    door = Door({"cam1"}, messages_per_s=1)
    now_ns = time.time_ns()
    assert door.has_room("a", now_ns + 3600 * 10**9)
    assert all(door.has_room("a", now_ns + second * 10**9) for second in range(100))


def test_a_flood_of_bad_messages_becomes_none_of_ours(life: Callable[..., Life]) -> None:
    one = life()
    for _ in range(900):
        one.arrive(b"\xff\xff")
    one.step_until(lambda: len(one.queue) == 0)
    assert counted(one, "parse") == 900
    assert BURST <= len([d for d in one.broker.did if d[0] == "publish"]) < 2 * BURST


def picture(one: Life, seq: int, *, track: int = 1, at_ns: int = 0) -> None:
    one.mid += 1
    user = picture_properties(Picture("1-abcd", "cam1", track, seq, 5, JPEG))
    topic = "skyreid/v1/plaza/dev/uav1/picture"
    one.queue.put(Message(topic, JPEG, user, at_ns or time.time_ns(), one.mid, 1))
    one.writer.step(1)


def pictures(one: Life) -> list[tuple[int, int]]:
    rows = one.journal._db.execute("SELECT track, seq FROM picture ORDER BY track").fetchall()
    return [tuple(row) for row in rows]


def test_a_picture_of_a_tracklet_that_nobody_saw_is_not_kept(
    life: Callable[..., Life], make: Any
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(5, track=1)]))
    one.writer.step(1)
    picture(one, 2**63 - 1)  # would be the latest for ever
    picture(one, 5, track=77)
    assert pictures(one) == []
    picture(one, 5)
    assert pictures(one) == [(1, 5)]
    picture(one, 9, track=2)  # before its sighting, which is on the slower lane
    one.arrive(make.payload([make.sighting(9, track=2)]))
    one.writer.step(1)
    assert pictures(one) == [(1, 5), (2, 9)]
    picture(one, 1, track=88, at_ns=time.time_ns() - 2 * EARLY_NS)
    assert counted(one, "picture") == 1
    for n in range(2 * EARLY_MAX):
        picture(one, 1, track=1000 + n)
    assert len(one.writer._early.waiting) == EARLY_MAX


def test_another_sighting_under_the_same_number_is_an_alarm(
    life: Callable[..., Life], make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(1), make.sighting(2)]))
    one.writer.step(1)
    one.broker.did.clear()
    copied = [make.sighting(1), make.sighting(2, person=9), make.sighting(3)]
    one.arrive(make.payload(copied))
    one.writer.step(1)
    assert told(one) == [
        (1, 1, Status.STORED, ""),
        (3, 3, Status.STORED, ""),
        (2, 2, Status.REJECTED, "clash"),
    ]
    assert one.writer.devices.by_id["uav1"].to_json()["alarms"] == {"clash": 1}
    assert 'skyreid_device_alarms_total{kind="clash"} 1.0' in one.metrics.text()[0].decode()
    assert "device uav1: a sighting has the number of another one" in caplog.text
    one.arrive(make.payload(copied[:1]))
    one.writer.step(1)
    assert counted(one, "clash") == 1


def test_a_first_message_with_one_number_twice_is_an_alarm_and_ends_nobody(
    life: Callable[..., Life], make: Any
) -> None:
    """The alarm was raised before the device was known, which ended the server."""
    one = life()
    one.arrive(make.payload([make.sighting(1), make.sighting(1, person=9)]))
    one.writer.step(1)
    assert told(one) == [(1, 1, Status.STORED, ""), (1, 1, Status.REJECTED, "clash")]
    assert one.writer.devices.by_id["uav1"].alarms == {"clash": 1}
    one.journal._db.execute("DELETE FROM device")  # as `devices forget` does
    second = life()
    assert second.writer.devices.by_id == {}
    second.arrive(make.payload([make.sighting(1, person=9)]))
    second.writer.step(1)
    assert second.writer.devices.by_id["uav1"].alarms == {"clash": 1}


def test_two_devices_with_one_name_are_an_alarm_and_a_reboot_is_none() -> None:
    site = Devices((), (), stall_s=5, now_s=0)
    for n, boot in enumerate(("1-a", "2-b", "3-c", "2-b", "3-c", "4-d")):
        site.hear(Heard("a", 1, boot, 50 + n), n)
    assert site.alarms == []  # messages of an earlier boot may come again
    for n, boot in enumerate(("1-a", "2-a") * 3):
        site.hear(Heard("b", 1, boot, 50 + n), n)
    assert set(site.alarms) == {("b", "twin")}
    for n, boot in enumerate(("1-a", "2-a") * 3):
        site.hear(Heard("c", 1, boot, 50 + n), 400.0 * n)
    assert set(site.alarms) == {("b", "twin")}


@pytest.mark.parametrize(
    "payload",
    [
        b'{"model": {"key": "a\\ud800"}, "cameras": [{"id": "\\udfff", "view": "aerial"}]}',
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a": NaN, "\\ud800": "\\udfff"}',
        b'{"a": ' + b"9" * 4000 + b"}",
    ],
)
def test_no_json_of_one_device_spoils_what_is_shown_of_all(
    life: Callable[..., Life], make: Any, payload: bytes
) -> None:
    one = life()
    one.arrive(make.payload([make.sighting(1)]))
    for channel in ("birth", "health"):
        one.arrive(payload, channel)
    one.writer.step(1)
    for device in one.writer.devices.by_id.values():
        json.dumps(device.to_json(), allow_nan=False).encode()
    assert set(one.writer.devices.by_id) == {"uav1"}


def test_a_stranger_that_floods_is_not_decoded_for_it(life: Callable[..., Life]) -> None:
    """Who is let in says so much; who is not could have everything decoded that it sent."""
    one = life()
    one.writer.devices.door = Door({"cam1"}, messages_per_s=1)
    for _ in range(40):
        one.arrive(b"\xff no batch", "sightings", "rogue")
    one.step_until(lambda: len(one.queue) == 0)
    assert (counted(one, "parse"), counted(one, "rate")) == (BURST_S, 40 - BURST_S)
    assert len([d for d in one.broker.did if d[0] == "ack"]) == 40


def test_strangers_cost_no_memory_and_nobody_inside_its_place() -> None:
    door = Door({"cam1"}, messages_per_s=1)
    assert door.lets_in("a", {"cam1"})
    assert [door.has_room("a", 0) for _ in range(31)] == [True] * 30 + [False]
    for n in range(STRANGERS_MAX + 9):
        assert door.has_room(f"rogue{n}", 0)
    assert len(door._strangers) == STRANGERS_MAX
    assert not door.has_room("a", 0)
