"""A site with certificates, against a real mosquitto: who gets in, as whom, and who no more."""

import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from secured_site import Client, Site, csr_of, wait_for

from skyreid.contract import topics
from skyreid.contract.enrolment import Token, decode_token
from skyreid.contract.errors import InputError
from skyreid.contract.receipt import decode_receipt
from skyreid.edge.__main__ import main as edge
from skyreid.edge.enrol import enrol
from skyreid.server.__main__ import main as server
from skyreid.server.broker.standing import days_left
from skyreid.server.certs import mosquitto
from skyreid.server.certs.authority import Authority

DENIED, TAKEN_OVER = 0x87, 0x8E


def taken_over(client: Client, site: Site) -> bool:
    """Whether somebody came with a client's name: mosquitto 2.1 tells it, 2.0 its log."""
    return TAKEN_OVER in client.lost or "already connected" in (site.folder / "log").read_text()


def test_from_a_bare_device_to_a_receipt_and_revoked_it_is_out(
    site: Site,
    connect: Callable[..., Client],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Any,
) -> None:
    site.start_broker()
    homes = {name: tmp_path / name for name in ("uav1", "uav2")}
    for name, home in homes.items():
        assert edge(["enrol", site.token(name, capsys), "--out", str(home)]) == 0
        said = capsys.readouterr().out
        assert f'id = "{name}"' in said
        assert f'url = "mqtts://localhost:{site.port}"' in said
        assert (home / "device.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "site.toml").write_text('id = "plaza"\n')
    (tmp_path / "server.toml").write_text(
        f'site = "site.toml"\n[mqtt]\nurl = "mqtts://localhost:{site.port}"\n'
        f'ca = "{site.folder}/ca.pem"\ncertificate = "{site.folder}/server.pem"\n'
        f'key = "{site.folder}/server.key"\n[journal]\npath = "journal.sqlite"\n'
        '[http]\nport = 0\naddress_file = "address.txt"\n'
    )
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "skyreid.server", "run", str(tmp_path / "server.toml")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=log,
        )
    try:
        address = tmp_path / "address.txt"
        wait_for("the server answers", lambda: address.is_file() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        import httpx

        get = lambda path: httpx.get(address.read_text().strip() + path, timeout=30)  # noqa: E731
        wait_for("it is in", lambda: get("/readyz").json()["broker_connected"])
        days = get("/metrics").text.partition("\nskyreid_certificate_days_left ")[2].split()[0]
        assert 364 < float(days) <= 365

        one = connect(homes["uav1"] / "device.pem", called="skyreid-server-plaza")
        two = connect(homes["uav2"] / "device.pem", called="uav1")
        wait_for("both are in", lambda: one.answers == two.answers == [0])
        for spy in (one, two):
            for topic in ("#", "skyreid/v1/plaza/#", "$SYS/#", "skyreid/v1/+/cmd/+/receipt"):
                spy.listen(topic)
        batch = make.payload([make.sighting(1)])
        assert one.publish(topics.device("plaza", "uav1", "sightings"), batch) in (0, 0x10)
        # A receipt comes to it, and to nobody else.
        mine = topics.command("plaza", "uav1", "receipt")
        wait_for("its receipt", lambda: [t for t, _ in one.heard if t == mine])
        assert decode_receipt(one.heard[0][1]).ranges[0].first == 1
        for topic in (
            topics.device("plaza", "uav2", "sightings"),
            topics.device("market", "uav1", "sightings"),
            topics.command("plaza", "uav1", "receipt"),
            topics.command("plaza", "uav2", "receipt"),
            topics.identity("plaza", "ABCD1234"),
            topics.rejected("plaza", "parse"),
            "elsewhere",
        ):
            assert one.publish(topic) == DENIED, topic
        assert one.publish(topics.device("plaza", "uav1", "status"), b"online") == 0
        wait_for("its device is known", lambda: get("/v1/devices").json()["total"] == 1)
        assert {t for t, _ in one.heard} == {mine}
        assert two.heard == []  # nor was anybody put out by a borrowed name:
        assert two.lost == []  # mosquitto 2.0.11 hangs up on who was denied, so one was lost
        assert not taken_over(one, site)
        assert get("/readyz").json()["broker_connected"]

        wait_for("it is in again", lambda: len(one.answers) == len(one.lost) + 1)
        opened, ended = len(one.answers), len(one.lost)
        assert server(["certs", "revoke", str(site.folder), "uav1"]) == 0
        wait_for("the open connection ended", lambda: len(one.lost) > ended, timeout_s=60)
        assert taken_over(one, site)
        time.sleep(2.5)  # it tries again by itself
        assert len(one.answers) == opened
        assert two.lost == []
        assert not (site.folder / "kick.key").exists()
        assert "uav1" in subprocess.run(
            [sys.executable, "-m", "skyreid.server", "certs", "list", str(site.folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout.partition("revoked")[0]  # fmt: skip
        with pytest.raises(InputError, match="not known"):
            site.authority.enrol("a" * 32, csr_of(homes["uav2"]), 1)
    finally:
        process.kill()
        process.wait()


def test_a_token_works_once_and_an_answer_that_was_lost_is_given_again(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = site.token("uav1", capsys)
    enrol(token, tmp_path / "one")
    first = (tmp_path / "one" / "device.pem").read_bytes()
    with pytest.raises(InputError, match="has been used"):
        enrol(token, tmp_path / "two")
    assert not (tmp_path / "two" / "device.pem").exists()
    with pytest.raises(InputError, match="is enrolled"):
        enrol(token, tmp_path / "one")
    (tmp_path / "one" / "device.pem").unlink()
    enrol(token, tmp_path / "one")
    assert (tmp_path / "one" / "device.pem").read_bytes() == first
    assert [c["name"] for c in site.authority.listed()].count("uav1") == 1


def test_the_name_is_the_tokens_whatever_the_request_says(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography import x509

    token = decode_token(site.token("uav1", capsys))
    (tmp_path / "home").mkdir()
    enrol(site.token("uav2", capsys), tmp_path / "home")
    name, signed = site.authority.enrol(token.secret, csr_of(tmp_path / "home"), 7)
    assert name == "uav1"
    made = x509.load_pem_x509_certificate(signed)
    assert made.subject.rfc4514_string() == "CN=uav1"
    (tmp_path / "uav1.pem").write_bytes(signed)
    assert 6.9 < days_left(tmp_path / "uav1.pem") <= 7


def test_a_token_that_is_too_old_or_whose_device_was_revoked_is_none(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = site.token("uav1", capsys)
    site.authority.revoke("uav1")
    with pytest.raises(InputError, match="not known"):
        enrol(token, tmp_path / "uav1")
    monkeypatch.setattr("skyreid.server.certs.authority.TOKEN_HOURS", -1)
    with pytest.raises(InputError, match="too old"):
        enrol(site.token("uav2", capsys), tmp_path / "uav2")


def test_whoever_is_not_of_the_tokens_authority_learns_no_secret(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Authority.make(tmp_path / "other", "plaza", ["localhost"], 1)
    token = decode_token(site.token("uav1", capsys))
    from skyreid.contract.enrolment import encode_token

    foreign = Token(**{**token.model_dump(), "ca": other.ca_der()})
    with pytest.raises(InputError, match="is not of the authority that is believed"):
        enrol(encode_token(foreign), tmp_path / "uav1")
    enrol(encode_token(token), tmp_path / "uav1")  # it was not used


@pytest.mark.parametrize(
    "text", ["", "skyreid1.", "skyreid1.e30", "nonsense", "skyreid1.\N{BULLET}"]
)
def test_what_is_no_token_is_refused_without_being_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the token is none") as refused:
        enrol(text, tmp_path)
    assert not text or text not in str(refused.value).replace("skyreid1. ", "")
    assert list(tmp_path.iterdir()) == []


def speak(connection: socket.socket, hello: bytes) -> None:
    connection.sendall(hello)
    if connection.recv(1) != b"\x20":  # of a CONNACK
        raise ConnectionError("no answer in MQTT")


# paho leaves the socket of a handshake that failed to the collector.
@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
def test_strangers_certificates_and_none_do_not_pass_the_handshake(
    site: Site, connect: Callable[..., Client], tmp_path: Path
) -> None:
    site.start_broker()
    other = Authority.make(tmp_path / "other", "plaza", ["localhost"], 1)
    stranger = connect(other.path("server.pem"))
    hello = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"
    bare = socket.create_connection(("127.0.0.1", site.port))
    context = ssl.create_default_context(cafile=site.folder / "ca.pem")
    naked = context.wrap_socket(bare, server_hostname="localhost")  # TLS 1.3: refused a word later
    with pytest.raises((ssl.SSLError, ConnectionError)):
        speak(naked, hello)
    naked.close()
    plain = socket.create_connection(("127.0.0.1", site.port))
    plain.settimeout(30)
    plain.sendall(hello)
    with pytest.raises(ConnectionError):  # reset, or closed without a CONNACK
        speak(plain, b"")
    plain.close()
    wait_for("it is refused", lambda: stranger.lost)
    assert stranger.answers == []


def test_renewed_certificates_are_other_ones_and_as_long(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (site.folder / "server.pem").read_bytes()
    key = site.folder / "broker.key"
    key.chmod(0o640)  # read by mosquitto's group
    group = 7 if os.geteuid() == 0 else os.getegid()
    os.chown(key, -1, group)
    assert server(["certs", "renew", str(site.folder), "--days", "9"]) == 0
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_gid) == (0o640, group)
    assert "reload it" in capsys.readouterr().out  # no broker runs
    assert (site.folder / "server.pem").read_bytes() != before
    assert 8.9 < days_left(site.folder / "broker.pem") <= 9


def test_a_revocation_that_the_broker_does_not_hear_of_says_so(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol(site.token("uav1", capsys), tmp_path / "uav1")
    assert server(["certs", "revoke", str(site.folder), "uav1"]) == 2
    assert "the broker does not know it" in capsys.readouterr().err
    assert server(["certs", "revoke", str(site.folder), "nobody"]) == 2
    assert "has no certificate" in capsys.readouterr().err


def test_the_servers_name_and_names_that_reach_further_are_no_devices(site: Site) -> None:
    for name in ("skyreid-server-plaza", "+", "a/b", "#", "", "a" * 65):
        with pytest.raises(InputError):
            site.authority.add_tokens([name])


def test_the_brokers_settings_are_those_of_the_contract(site: Site, repository: Path) -> None:
    shipped = (repository / "docker" / "mosquitto.conf").read_text().split("--- the contract")[1]
    wanted = {line for line in shipped.splitlines()[1:] if line and not line.startswith("#")}
    assert wanted <= set(mosquitto.settings(site.authority, 1).splitlines())


def test_keys_and_state_are_for_their_owner_alone(site: Site) -> None:
    secret = {p.name for p in site.folder.iterdir() if p.stat().st_mode & 0o077 == 0}
    assert {"ca.key", "server.key", "canary.key", "state.json"} <= secret
    assert (site.folder / "broker.key").stat().st_mode & 0o027 == 0  # its group is mosquitto's
    assert "-----BEGIN" not in (site.folder / "state.json").read_text().replace(
        "-----BEGIN CERTIFICATE", ""
    )
