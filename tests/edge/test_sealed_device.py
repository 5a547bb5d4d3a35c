"""A device that was given the site's key, or a place to renew at: said, or refused in one line."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import ValidationError

from skyreid.contract.broker import BrokerSection
from skyreid.contract.sealed import key_name
from skyreid.edge.config import MqttSection
from skyreid.edge.doctor import Device, _sealing


def test_the_doctor_says_whether_people_lie_on_the_disk_in_clear(tmp_path: Path) -> None:
    public = X25519PrivateKey.generate().public_key()
    file = tmp_path / "seal.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    sealed = _sealing(Device("plaza", "uav1", BrokerSection(), file))
    assert (sealed.good, sealed.detail) == (True, f"sealed to key {key_name(public)}")
    clear = _sealing(Device("plaza", "uav1", BrokerSection()))
    assert (clear.good, clear.needed) == (False, False)
    assert clear.detail.startswith("not sealed")
    file.write_bytes(b"no key")
    broken = _sealing(Device("plaza", "uav1", BrokerSection(), file))
    assert (broken.good, broken.needed) == (False, True)  # it does not start so


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"enrolment": "broker.lan:8884"}, "there is none to renew"),
        ({"enrolment": "broker.lan"}, "HOST:PORT"),
        ({"enrolment": "https://broker.lan:1"}, "HOST:PORT"),
        ({"enrolment": "broker.lan:0"}, "HOST:PORT"),
        ({"enrolment": "u:p@broker.lan:8884"}, "HOST:PORT"),
    ],
)
def test_a_place_to_renew_at_is_an_address_and_needs_something_to_renew(
    changes: dict[str, str], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        MqttSection.model_validate({"url": "mqtts://broker.lan", **changes})


def test_a_place_to_renew_at_may_be_an_address_of_either_kind() -> None:
    pair = {"ca": "ca.pem", "certificate": "device.pem", "key": "device.key"}
    for place in ("broker.lan:8884", "192.0.2.7:8884", "[2001:db8::7]:8884"):
        section = {"url": "mqtts://broker.lan", "enrolment": place, **pair}
        assert MqttSection.model_validate(section).enrolment == place
