"""A broker that asks for TLS, a certificate and a password: both ends get in, and say why not."""

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from chain import Chain
from settings_files import q

from skyreid.contract.device import Birth, BirthCamera
from skyreid.contract.errors import SettingsError
from skyreid.contract.sighting import ModelRef
from skyreid.edge.config import MqttSection as EdgeMqtt
from skyreid.edge.delivery.publisher import Publisher
from skyreid.server.broker.ingest import Broker, Queue
from skyreid.server.config import MqttSection as ServerMqtt

PASSWORD = "a-word-that-nobody-logs"


def password_line(name: str) -> str:
    """As ``mosquitto_passwd`` writes it."""
    salt = os.urandom(12)
    words = [salt, hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, 101)]
    return f"{name}:$7$101${'$'.join(base64.b64encode(w).decode() for w in words)}\n"


@pytest.fixture
def chain(make_chain: Callable[..., Chain], repository: Path) -> Chain:
    """Settings of a chain whose broker listens with TLS only; nothing of it is started."""
    made = make_chain(repository / "examples/clip", edge_options=("--camera.fps_max", "2"))
    work = made.work
    ours = Authority(work, "ca")
    ours.sign("broker"), ours.sign("client"), Authority(work, "strangers")
    (work / "passwords").write_text(password_line("skyreid"))
    (work / "passwords").chmod(0o600)
    conf = (work / "mosquitto.conf").read_text()
    assert "allow_anonymous true" in conf
    secured = (
        f"allow_anonymous false\npassword_file {work}/passwords\ncafile {work}/ca.pem\n"
        f"certfile {work}/broker.pem\nkeyfile {work}/broker.key\nrequire_certificate true\n"
    )
    (work / "mosquitto.conf").write_text(conf.replace("allow_anonymous true\n", secured))
    return made


def settings(chain: Chain, **changes: object) -> dict[str, object]:
    """Of ``[mqtt]``, for either end."""
    good = {
        "url": f"mqtts://localhost:{chain.broker_port}",
        "ca": chain.work / "ca.pem",
        "certificate": chain.work / "client.pem",
        "key": chain.work / "client.key",
        "username": "skyreid",
        "password": PASSWORD,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def test_the_whole_chain_runs_over_it_and_nobody_logs_the_password(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settings(chain, password=None)
    for name in ("server", "cam1"):
        path = chain.work / f"{name}.toml"
        head, tail = path.read_text().split("[mqtt]\n")
        rest = tail.split("\n", 1)[1]  # the address of a broker without TLS
        lines = "".join(f"{key} = {q(value)}\n" for key, value in told.items())
        path.write_text(f"{head}[mqtt]\n{lines}{rest}")
    monkeypatch.setenv("SKYREID_SERVER_MQTT__PASSWORD", PASSWORD)
    monkeypatch.setenv("SKYREID_EDGE_MQTT__PASSWORD", PASSWORD)
    chain.start_broker()
    chain.start_server()
    device = chain.start_edge("cam1")
    assert device.process.wait(200) == 0, device.tail()
    assert "remaining=0" in device.log.read_text()
    sightings = chain.get("/v1/sightings")["sightings"]
    assert sightings
    assert {s["modality"] for s in sightings} == {"colour"}
    (shown,) = chain.get("/v1/devices")["devices"]
    assert shown["birth"]["model"]["key"] == sightings[0]["model_key"]
    chain.stop()
    logs = "".join(path.read_text() for path in (chain.work / "logs").iterdir())
    assert "settings {" in logs
    assert PASSWORD not in logs


Try = Callable[[dict[str, Any]], None]


def as_device(section: dict[str, Any]) -> None:
    mqtt = EdgeMqtt.model_validate(section)
    publisher = Publisher(
        mqtt.address[:2], site="plaza", device="uav1", tls=mqtt.tls(), login=mqtt.login
    )
    model = ModelRef("0123456789abcdef", 4, "b" * 64, "test")
    birth = Birth(boot="1-aa", model=model, cameras=(BirthCamera(id="cam1", view="ground"),))
    publisher.start(birth, lambda event: None)
    time.sleep(2.5)  # a second attempt comes after one second, and says nothing new
    publisher.stop()


def as_server(section: dict[str, Any]) -> None:
    mqtt = ServerMqtt.model_validate(section)
    broker = Broker(
        "plaza",
        mqtt.address[:2],
        Queue(10, 10**6),
        tls=mqtt.tls(),
        login=mqtt.login,
        keepalive_s=30,
        session_expiry_s=3600,
        on_taken=lambda mid: None,
        on_dropped=lambda count: None,
        on_trouble=lambda trouble: None,
    )
    broker.start()
    time.sleep(2.5)
    assert not broker.connected
    broker.stop()


# paho leaves the socket of a handshake that failed to the collector.
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("end", [as_device, as_server])
def test_whoever_does_not_get_in_says_why_in_one_line(
    chain: Chain, end: Try, caplog: pytest.LogCaptureFixture
) -> None:
    chain.start_broker()
    strangers = chain.work / "strangers.pem"
    for changes, why in (
        ({"ca": strangers}, "certificate that is not accepted: .*; mqtt.ca says who may sign it"),
        ({"url": f"mqtts://127.0.0.1:{chain.broker_port}"}, "not accepted: IP address mismatch"),
        ({"password": "wrong-" + PASSWORD}, "refused: .*; mqtt.username, mqtt.password"),
        ({"username": None, "password": None}, "refused: .*; mqtt.username, mqtt.password"),
        (
            {"certificate": None, "key": None},
            "(ended .* before|TLS: .* certificate required).*mqtt.certificate",
        ),
        (
            {
                **dict.fromkeys(("ca", "certificate", "key")),
                "url": f"mqtt://localhost:{chain.broker_port}",
            },
            "ended the connection before .*mqtts://",
        ),
    ):
        caplog.clear()
        end(settings(chain, **changes))
        (line,) = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
        assert re.search(why, line), line
        assert re.match(rf"broker (localhost|127\.0\.0\.1):{chain.broker_port} ", line)
        assert PASSWORD not in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("name", "what", "complaint"),
    [
        ("ca", None, "mqtt.ca .*: No such file"),
        ("ca", b"no certificate", "mqtt.ca .* is no certificate in PEM"),
        ("key", None, "mqtt.key .*: No such file"),
        ("key", b"no key", "mqtt.certificate .* and mqtt.key .* are no pair"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_before_anything_connects(
    chain: Chain, name: str, what: bytes | None, complaint: str
) -> None:
    path = chain.work / "broken"
    if what is not None:
        path.write_bytes(what)
    for section in (EdgeMqtt, ServerMqtt):
        mqtt = section.model_validate(settings(chain, **{name: path}))
        with pytest.raises(SettingsError, match=complaint):
            mqtt.tls()
