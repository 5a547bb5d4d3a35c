"""The broker's section: what may be written, and that a password is shown to nobody."""

import socket
import ssl
from pathlib import Path

import pytest
from pydantic import ValidationError

from skyreid.contract.broker import (
    BrokerSection,
    Trouble,
    broker_address,
    explain_lost,
    explain_refused,
    explain_unreachable,
    lost,
    refused,
    unreachable,
)
from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import Settings, effective, load

SECRET = "hidden-word"


class Role(Settings):
    mqtt: BrokerSection = BrokerSection()


def read(tmp_path: Path, text: str, *options: str) -> Role:
    (tmp_path / "role.toml").write_text(text)
    return load(Role, tmp_path / "role.toml", options, program="role")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtt://127.0.0.1:1999", ("127.0.0.1", 1999, False)),
        ("mqtts://broker/", ("broker", 8883, True)),
        ("mqtts://[::1]:1", ("::1", 1, True)),
        ("MQTTS://[fe80::1%eth0]", ("fe80::1%eth0", 8883, True)),
    ],
)
def test_a_broker_address_is_read(url: str, address: tuple[str, int, bool]) -> None:
    assert broker_address(url) == address
    assert BrokerSection(url=url).address == address


@pytest.mark.parametrize(
    "url",
    [
        *("broker:1883", "mqtt://", "mqtt://u:p@h", "mqtt://h/x", "", "mqtt://broker..lan"),
        *("ws://h", "mqtt://h:0", "mqtt://h:70000", "mqtt://h:x", "mqtt://h h", "mqtt://h\n"),
        *("mqtt://h\u200b", "mqtt://[::1", "mqtt://h?x", "mqtt://" + "a" * 300),
    ],
)
def test_a_broker_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no broker address"):
        broker_address(url)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ca = 'ca.pem'", "mqtt: ca given, and mqtt://127.0.0.1:1883 is not encrypted"),
        ("url = 'mqtts://h'\nkey = 'k'", "mqtt: certificate and key go together"),
        ("password = 'x'", "mqtt: a password without a username"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read(tmp_path, f"[mqtt]\n{text}\n")


def test_without_tls_there_is_no_context_and_with_it_names_are_checked() -> None:
    assert BrokerSection().tls() is None
    context = BrokerSection(url="mqtts://h").tls()
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_path_that_no_file_can_have_is_named() -> None:
    with pytest.raises(SettingsError, match=r"mqtt\.ca 'a.*null"):
        BrokerSection(url="mqtts://h", ca=Path("a\0b")).tls()


def test_a_login_is_read_and_shown_to_nobody(tmp_path: Path) -> None:
    got = read(tmp_path, f"[mqtt]\nusername = 'u'\npassword = '{SECRET}'\n")
    assert got.mqtt.login == ("u", SECRET)
    assert SECRET not in effective(got) + repr(got)
    assert BrokerSection().login is None
    assert BrokerSection(username="u").login == ("u", "")


@pytest.mark.parametrize(
    "text",
    [
        f"password = '{SECRET}'",
        f"username = 'u'\npassword = ['{SECRET}']",
        f"url = 'mqtt://u:{SECRET}@h'",
        f"url = 'http://u:{SECRET}@h'",
        f"url = 'mqtt://u:se/{SECRET}@h'",
        f"url = 'mqtt://u:se {SECRET}@h'",
        f"url = 'mqtt://u:\"{SECRET}@h'",
        f"url = 'mqtt://:{SECRET}@h'",
        f"url = 'mqtt:u:{SECRET}@h'",
        f"url = 'u:{SECRET}@h:1883'",
        f"url = ['u:{SECRET}@h:1883']",
        f"username = 'u'\npassword = '{SECRET}'\nca = 'x'",
        f"pasword = '{SECRET}'",
    ],
)
def test_nor_is_a_login_that_was_written_wrong(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, f"[mqtt]\n{text}\n")
    assert SECRET not in str(caught.value)


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError):
        BrokerSection().url = "mqtt://x"  # type: ignore[misc]


def test_what_is_said_names_the_setting_that_mends_it() -> None:
    untrusted = ssl.SSLCertVerificationError(1, "x")
    untrusted.verify_message = "self-signed certificate."
    assert explain_unreachable(untrusted) == (
        "has a certificate that is not accepted: self-signed certificate; "
        "mqtt.ca says who may sign it"
    )
    assert "mqtts:// needs a port" in explain_unreachable(ssl.SSLError(1, "x"))
    said = explain_unreachable(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    assert "it may not accept ours (mqtt.certificate, mqtt.key), or not speak it" in said
    refused = ConnectionRefusedError(111, "Connection refused")
    assert explain_unreachable(refused) == "cannot be reached: Connection refused"
    assert explain_unreachable(None) == "cannot be reached"
    assert "mqtt.username" in explain_refused("Not authorized")
    assert explain_lost("x", answered=True) == "connection lost: x"
    assert "mqtt.certificate" in explain_lost("x", answered=False)


@pytest.mark.parametrize(
    ("trouble", "kind", "human", "says"),
    [
        (
            unreachable(ConnectionRefusedError(111, "Connection refused")),
            "unreachable",
            False,
            "refused",
        ),
        (
            unreachable(socket.gaierror(-2, "Name or service not known")),
            "unreachable",
            False,
            "Name",
        ),
        (
            unreachable(ssl.SSLError(1, "wrong version number")),
            "tls",
            True,
            "mqtts:// needs a port",
        ),
        (
            unreachable(ConnectionResetError(104, "reset by peer"), secure=True),
            "tls",
            True,
            "handshake",
        ),
        (refused(0x87, "Not authorized"), "not_authorised", True, "mqtt.username"),
        (refused(0x89, "Server busy"), "busy", False, "for now"),
        (refused(0x84, "Unsupported protocol version"), "refused", True, "0x84"),
        (lost(0x80, "x", answered=True, client_id="d"), "lost", False, "connection lost"),
        (lost(0x80, "x", answered=False, client_id="d"), "no_answer", True, "mqtts://"),
        (lost(0x8E, "x", answered=True, client_id="d"), "same_name", True, "called d too"),
        (lost(0x95, "x", answered=True, client_id="d"), "packet_limit", True, "max_packet_size"),
        (lost(0x87, "x", answered=True, client_id="d"), "not_authorised", True, "access list"),
        (
            lost(0x80, "x", answered=True, client_id="d", cause=ssl.SSLError(1, "alert expired")),
            "tls",
            True,
            "alert expired",
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Trouble) else "",
)
def test_a_trouble_is_of_a_kind_and_keeps_its_reason(
    trouble: Trouble, kind: str, human: bool, says: str
) -> None:
    """TLS without a reason, two devices of one name and a packet limit were all one error."""
    assert (trouble.kind, trouble.human) == (kind, human)
    assert says in trouble.why
