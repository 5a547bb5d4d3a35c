"""A device's certificate goes on by itself and in time, whatever kills it; or it is refused."""

import ssl
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from secured_site import Client, Site, wait_for

from skyreid.contract.broker import BrokerSection
from skyreid.contract.device import Birth, BirthCamera
from skyreid.contract.errors import InputError
from skyreid.contract.sealed import Sealer, key_name, read_public_key
from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery import renewal
from skyreid.edge.delivery.connection import Up
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.delivery.renewal import Keeper, Refused, Renewal, days_left, due, keeping, settle
from skyreid.edge.enrol import enrol
from skyreid.server.__main__ import main as server
from skyreid.server.certs.renewal import ANSWERS_MAX


class Device:
    """An enrolled one."""

    def __init__(self, site: Site, home: Path, token: str) -> None:
        enrol(token, home)
        self.home, self.pem, self.key = home, home / "device.pem", home / "device.key"
        self.renewal = Renewal(("localhost", site.enrol_port), home / "ca.pem", self.pem, self.key)
        self.renewed = 0
        self.sealer = Sealer(read_public_key(home / "seal.pub"), site="plaza", device="uav1")
        self.keeper = Keeper(
            self.renewal,
            self.pem,
            on_renewed=self._note,
            sealed_to=home / "seal.pub",
            sealer=self.sealer,
        )

    def _note(self) -> None:
        self.renewed += 1

    @property
    def serial(self) -> str:
        return f"{x509.load_pem_x509_certificate(self.pem.read_bytes()).serial_number:x}"


@pytest.fixture
def device(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Device:
    return Device(site, tmp_path / "uav1", site.token("uav1", capsys))


def revoked(site: Site) -> set[str]:
    return {c["serial"] for c in site.authority.listed() if "revoked" in c}


def later(days: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=days)


def test_at_two_thirds_of_its_life_and_no_sooner_with_a_new_key(
    site: Site, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first, key = device.serial, device.key.read_bytes()
    device.keeper.turn(later(19))  # of 30
    assert (device.serial, device.renewed) == (first, 0)
    device.keeper.turn(later(20.1))
    assert device.serial != first
    assert device.renewed == 1
    assert device.key.read_bytes() != key
    assert device.key.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in device.home.iterdir() if not p.name.startswith(".")) == [
        "ca.pem", "device.key", "device.pem", "seal.pub",
    ]  # fmt: skip
    assert "renewed device=uav1" in caplog.text
    assert 29.9 < days_left(device.pem) <= 30


def test_the_old_one_holds_until_the_new_one_was_used_and_then_no_more(
    site: Site, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Renewal(("localhost", site.enrol_port), tmp_path / "ca.pem", *copies(device, tmp_path))
    used = renewal.post
    asked: list[str] = []

    def lost(*arguments: object) -> bytes:
        asked.append("asked")
        if len(asked) == 2:  # that the new one is used
            raise InputError("cannot be reached")
        return used(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(renewal, "post", lost)
    first = device.serial
    with pytest.raises(InputError, match="cannot be reached"):
        device.renewal.renew()
    assert device.serial == first
    assert revoked(site) == set()
    assert old.seal_key()  # it is as good as ever
    device.renewal.renew()  # and goes on with the certificate that was signed already
    assert [c["name"] for c in site.authority.listed()].count("uav1") == 2
    assert revoked(site) == {first}
    assert device.serial != first
    with pytest.raises(Refused, match="enrol anew"):
        old.seal_key()


def copies(device: Device, folder: Path) -> tuple[Path, Path]:
    """Of its pair, and of whom it believes."""
    for path in (device.pem, device.key, device.home / "ca.pem"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "device.pem", folder / "device.key"


def test_an_answer_that_was_lost_leaves_one_certificate_and_not_two(
    site: Site, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, lost = renewal.post, iter([True])

    def once(*arguments: object) -> bytes:
        answer = used(*arguments)  # type: ignore[arg-type]
        if next(lost, False):
            raise InputError("cannot be reached: timed out")
        return answer

    monkeypatch.setattr(renewal, "post", once)
    first = device.serial
    device.keeper.turn(later(25))
    assert device.serial == first
    device.keeper.turn(later(25))
    assert device.serial != first
    valid = [c for c in site.authority.listed() if c["name"] == "uav1" and "revoked" not in c]
    assert [c["serial"] for c in valid] == [device.serial]


@pytest.mark.parametrize("at", ["key", "both", "certificate"])
def test_a_kill_in_the_middle_leaves_a_pair_that_is_good(
    site: Site, device: Device, tmp_path: Path, at: str
) -> None:
    old = device.pem.read_bytes(), device.key.read_bytes()
    device.renewal.renew()
    new = device.pem.read_bytes(), device.key.read_bytes()
    # What lies there after each step of the way.
    pem, key = device.home / "device.pem.next", device.home / "device.key.next"
    device.pem.write_bytes(old[0]), device.key.write_bytes(old[1])
    key.write_bytes(new[1])
    if at != "key":
        pem.write_bytes(new[0])
    if at == "certificate":
        device.key.write_bytes(new[1])
    settle(device.pem, device.key)
    ssl.create_default_context().load_cert_chain(device.pem, device.key)
    assert device.pem.read_bytes() == (old[0] if at == "key" else new[0])
    settle(device.pem, device.key)
    assert not pem.exists()


def test_what_lies_beside_and_is_no_pair_is_put_away(device: Device) -> None:
    before = device.pem.read_bytes(), device.key.read_bytes()
    (device.home / "device.pem.next").write_bytes(b"half of it")
    (device.home / "device.key.next").write_bytes(b"")
    settle(device.pem, device.key)
    assert (device.pem.read_bytes(), device.key.read_bytes()) == before
    assert not (device.home / "device.pem.next").exists()


def test_one_that_is_over_is_refused_by_the_broker_and_by_the_service_with_the_reason(
    site: Site,
    connect: Callable[..., Client],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its clock and everybody's are the real one: it lives for seconds."""
    site.service.days = 6 / 86_400
    device = Device(site, tmp_path / "uav1", site.token("uav1", capsys))
    site.start_broker()
    assert due(device.pem, datetime.now(timezone.utc))
    wait_for("it is over", lambda: days_left(device.pem) < 0)
    client = connect(device.pem)
    wait_for("it is refused", lambda: client.lost)
    assert client.answers == []
    device.keeper.turn(datetime.now(timezone.utc))
    device.keeper.turn(datetime.now(timezone.utc))
    said = {r.getMessage() for r in caplog.records if "not renewed" in r.getMessage()}
    assert said
    assert all("-0.0 days are left" in each and "enrol anew" in each for each in said), said


def test_who_is_revoked_renews_no_more_and_who_is_nobody_never(
    site: Site, device: Device, tmp_path: Path
) -> None:
    assert server(["certs", "revoke", str(site.folder), "uav1"]) == 2  # no broker to be told
    with pytest.raises(Refused):
        device.renewal.renew()
    context = ssl.create_default_context(cafile=site.folder / "ca.pem")
    with pytest.raises(Refused, match="no certificate was shown"):
        renewal.post("localhost", site.enrol_port, "/renew", b"{}", context)
    context.load_cert_chain(site.folder / "server.pem", site.folder / "server.key")
    with pytest.raises(Refused, match="not a device's"):
        renewal.post("localhost", site.enrol_port, "/renew", b"{}", context)
    context.load_cert_chain(site.folder / "canary.pem", site.folder / "canary.key")
    with pytest.raises(Refused):
        renewal.post("localhost", site.enrol_port, "/renew", b"{}", context)


def test_a_certificate_is_renewed_so_often_and_no_more(site: Site, device: Device) -> None:
    for _ in range(ANSWERS_MAX):
        device.renewal._sign(device.home / "a", device.home / "b")
    with pytest.raises(Refused, match="too often"):
        device.renewal._sign(device.home / "a", device.home / "b")
    live = [c for c in site.authority.listed() if c["name"] == "uav1" and "revoked" not in c]
    assert len(live) == 2


def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_signed(
    site: Site, device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A unit whose key lies where its user may not write asked for a certificate every hour."""

    def refuses(path: Path, *_: object, **__: object) -> None:
        raise InputError(f"cannot write {path}: Read-only file system; nothing was changed")

    monkeypatch.setattr("skyreid.contract.files.write", refuses)
    for _ in range(ANSWERS_MAX + 1):
        device.keeper.turn(later(25))
    assert caplog.text.count("Read-only file system") == 1
    assert [c["name"] for c in site.authority.listed()].count("uav1") == 1


def test_the_key_to_seal_to_is_asked_for_and_taken_while_the_device_runs(
    site: Site, device: Device
) -> None:
    first = key_name(read_public_key(site.folder / "seal.pub"))
    stop = threading.Event()
    device.keeper.turn(later(0))
    assert device.sealer.key == first
    assert server(["certs", "rotate", str(site.folder)]) == 0
    second = key_name(read_public_key(site.folder / "seal.pub"))
    device.keeper.turn(later(0))  # not again within a day
    assert device.sealer.key == first
    device.keeper._asked_s = time.monotonic() - renewal.ASK_S
    with keeping(device.keeper):
        pub = device.home / "seal.pub"  # written last
        wait_for("the next run will, too", lambda: key_name(read_public_key(pub)) == second)
    assert device.sealer.key == second != first
    stop.set()
    both = {path.stem for path in (site.folder / "seal").iterdir() if path.suffix == ".key"}
    assert both == {first, second}


def test_a_key_that_was_replaced_long_ago_is_deleted(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    first = key_name(read_public_key(site.folder / "seal.pub"))
    assert server(["certs", "rotate", str(site.folder)]) == 0
    with site.authority.changing() as state:  # three days ago
        then = datetime.now(timezone.utc) - timedelta(days=3)
        state["seals"][0]["retired"] = then.isoformat()
    assert server(["certs", "rotate", str(site.folder), "--keep-days", "2"]) == 0
    assert f"key {first} is deleted" in capsys.readouterr().out
    kept = {path.stem for path in (site.folder / "seal").iterdir() if path.suffix == ".key"}
    assert first not in kept
    assert len(kept) == 2
    assert all(p.stat().st_mode & 0o077 == 0 for p in (site.folder / "seal").glob("*.key"))


@pytest.mark.parametrize("days", ["-1", "0", "1"])
def test_rotating_twice_deletes_no_key_that_devices_still_seal_to(
    site: Site, days: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They learn of a new one within a day: with 0 days the second time deleted what they used."""
    assert server(["certs", "rotate", str(site.folder)]) == 0
    assert server(["certs", "rotate", str(site.folder), "--keep-days", days]) == 2
    assert "for up to a day devices seal" in capsys.readouterr().err
    assert server(["certs", "rotate", str(site.folder), "--keep-days", "2"]) == 0
    assert len(list((site.folder / "seal").glob("*.key"))) == 3


def test_a_thousand_devices_get_their_tokens_in_one_change(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "devices.csv"
    table.write_text("".join(f"uav{n},a note\n" for n in range(1000)))
    changes: list[int] = []
    whole = type(site.authority).changing
    monkeypatch.setattr(
        type(site.authority), "changing", lambda self: changes.append(1) or whole(self)
    )
    capsys.readouterr()
    assert server(["certs", "device", str(site.folder), "--csv", str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"uav{n}" for n in range(1000)]
    assert len({line.split()[1] for line in lines}) == 1000
    assert len(changes) == 1


def test_an_answer_with_anothers_name_or_key_is_not_taken(
    site: Site, device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "uav2"
    enrol(site.token("uav2", capsys), other)
    authority = x509.load_pem_x509_certificate((device.home / "ca.pem").read_bytes())
    mine = x509.load_pem_x509_certificate(device.pem.read_bytes())
    theirs = (other / "device.pem").read_bytes()
    key = x509.load_pem_x509_certificate(theirs).public_key()
    for signed, of, why in (
        (theirs, mine.public_key(), "another key"),
        (theirs, key, "another device, CN=uav2"),
        (b"nothing", key, "no certificate"),
    ):
        with pytest.raises(InputError, match=why):
            renewal.check_signed(signed, authority, of, mine.subject, "localhost")  # type: ignore[arg-type]


def test_the_key_of_the_authority_is_nothing_to_the_brokers_user(site: Site) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in site.folder.iterdir()}
    assert {name for name, mode in modes.items() if mode & 0o022} == set()
    assert modes["ca.key"] == modes["state.json"] == modes["canary.key"] == 0o600
    assert modes["broker"] == modes["seal"] == 0o700
    conf = (site.folder / "mosquitto.conf").read_text()
    written = [
        line.split()[1] for line in conf.splitlines() if line.startswith(("pid", "persistence_l"))
    ]
    assert written == [f"{site.folder}/broker/mosquitto.pid", f"{site.folder}/broker/"]


def test_a_device_that_renewed_comes_in_again_when_the_broker_has_the_new_list(
    site: Site, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection goes on with the old certificate; the next one is made with the new one."""
    monkeypatch.setattr("skyreid.edge.delivery.connection.LISTENER_S", 0.0)  # no server is here
    section = BrokerSection(
        url=f"mqtts://localhost:{site.port}",
        ca=device.home / "ca.pem",
        certificate=device.pem,
        key=device.key,
    )
    publisher = Publisher(("localhost", site.port), site="plaza", device="uav1", tls=section.tls())

    def renewed() -> None:
        publisher.tls = section.tls()

    device.keeper._on_renewed = renewed
    events: list[object] = []
    model = ModelRef("0123456789abcdef", 4, "b" * 64, "test")
    camera = BirthCamera(id="cam1", view="ground")
    site.start_broker()
    publisher.start(Birth(boot="1-aa", model=model, cameras=(camera,)), events.append)
    try:
        wait_for("it is in", lambda: [e for e in events if isinstance(e, Up)])
        device.keeper.turn(later(25))
        assert revoked(site)
        site.stop_broker()
        site.start_broker()  # which reads the list anew
        wait_for("it is in again", lambda: len([e for e in events if isinstance(e, Up)]) == 2)
    finally:
        publisher.stop()
