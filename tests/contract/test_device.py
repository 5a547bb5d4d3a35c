"""What a device says of itself: golden bytes, older and newer ones, and what is no message."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from skyreid.contract.device import (
    Birth,
    BirthCamera,
    Health,
    SpoolHealth,
    decode_birth,
    decode_health,
    decode_status,
    encode_birth,
    encode_health,
    encode_status,
)
from skyreid.contract.errors import MessageError
from skyreid.contract.sighting import ModelRef

BIRTH = Birth(
    boot="3-ab12",
    model=ModelRef("0123456789abcdef", 384, "f" * 64, "vdt-tiny"),
    cameras=(BirthCamera(id="cam1", view="aerial", modality="colour"),),
    pictures="on_request",
    settings_sha256="0" * 64,
    software="skyreid 0.1.0",
)
HEALTH = Health(
    frames=900,
    people=4,
    sightings=61,
    dropped={"fps_max": 12, "spool_full": 1},
    spool=SpoolHealth(sightings=7, bytes=6881, oldest_age_s=2.5),
    clock="rtcp",
    clock_error_ms=3,
    uptime_s=90.1,
    fps=9.99,
    source="streaming",
    lost_connections={"stall": 2},
    temperature_c=51.5,
    model_key="0123456789abcdef",
)


@pytest.fixture
def golden(repository: Path) -> Path:
    return repository / "tests" / "golden"


def test_a_birth_has_its_golden_bytes(golden: Path) -> None:
    data = (golden / "birth.v1.json").read_bytes()
    assert encode_birth(BIRTH) == data
    assert decode_birth(data) == BIRTH


def test_a_health_message_has_its_golden_bytes(golden: Path) -> None:
    data = (golden / "health.v1.json").read_bytes()
    assert encode_health(HEALTH) == data
    assert decode_health(data) == HEALTH


def test_what_was_sent_before_there_were_versions_is_read(golden: Path) -> None:
    birth = decode_birth((golden / "birth.v0.json").read_bytes())
    assert birth is not None
    assert birth == BIRTH.model_copy(
        update={"cameras": (BirthCamera(id="cam1", view="aerial", modality="unknown"),)}
    )
    health = decode_health((golden / "health.v0.json").read_bytes())
    assert health == HEALTH.model_copy(update={"clock": None, "temperature_c": None})


def test_what_a_later_release_adds_is_passed_over() -> None:
    birth = json.loads(encode_birth(BIRTH))
    birth["later"] = {"x": [1]}
    birth["model"]["later"] = 1
    birth["cameras"][0] |= {"later": None, "modality": "thermal"}
    got = decode_birth(json.dumps(birth).encode())
    assert got is not None
    assert got.cameras[0].modality == "unknown"
    assert got.model == BIRTH.model
    health = json.loads(encode_health(HEALTH)) | {"later": 1, "clock": "ptp", "source": "napping"}
    health["spool"]["later"] = 1
    told = decode_health(json.dumps(health).encode())
    assert (told.clock, told.source, told.spool) == ("ptp", "napping", HEALTH.spool)


@pytest.mark.parametrize("version", [2, 0, -1, "1", True, None, 2**70])
def test_another_schema_is_refused_whatever_else_it_says(version: object) -> None:
    data = json.dumps({"boot": 3, "schema_version": version, "fps": "x"}).encode()
    for decode in (decode_birth, decode_health):
        with pytest.raises(MessageError, match="schema_version") as caught:
            decode(data)
        assert caught.value.reason == "schema"


def test_a_withdrawn_birth_is_none() -> None:
    assert decode_birth(b"") is None
    with pytest.raises(MessageError):
        decode_health(b"")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("boot",), "a/b", "boot: "),
        (("boot",), 3, "boot: "),
        (("model", "key"), "", "model: "),
        (("model", "dim"), 0, "model: .*dim is 1 to 4096"),
        (("model", "dim"), 4097, "model: "),
        (("model", "dim"), "384", r"model\.dim: "),
        (("model", "dim"), True, r"model\.dim: "),
        (("model", "name"), "x" * 201, "model: "),
        (("cameras",), [], "cameras: "),
        (("cameras",), {}, "cameras: "),
        (("cameras", 0, "id"), "x" * 65, r"cameras\.0\.id: "),
        (("cameras", 0, "view"), "AERIAL", r"cameras\.0\.view: "),
        (("cameras", 0, "modality"), 3, r"cameras\.0\.modality: "),
        (("pictures",), "sometimes", "pictures: "),
        (("software",), "x" * 201, "software: "),
    ],
)
def test_a_birth_out_of_bounds_is_refused_with_its_path(
    path: tuple[object, ...], value: object, says: str
) -> None:
    birth = json.loads(encode_birth(BIRTH))
    inner = birth
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    with pytest.raises(MessageError, match=f"^birth: {says}") as caught:
        decode_birth(json.dumps(birth).encode())
    assert caught.value.reason == "birth"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"frames": 9223372036854775808}', "health"),
        ('{"frames": -1}', "health"),
        ('{"frames": 1.5}', "health"),
        ('{"frames": true}', "health"),
        ('{"fps": NaN}', "health"),
        ('{"fps": 1e999}', "health"),
        ('{"fps": -1}', "health"),
        ('{"temperature_c": -300}', "health"),
        ('{"dropped": {"x": -1}}', "health"),
        ('{"dropped": {"%s": 1}}' % ("x" * 65), "health"),
        (json.dumps({"dropped": {str(n): n for n in range(65)}}), "health"),
        ('{"dropped": {"a\\nb\\u0000": -1}}', "health"),
        ('{"clock": "\\ud800"}', "json"),
        ('{"x": ' + "[" * 20_000, "json"),
        ('{"x": ' + "1" * 5_000 + "}", "json"),
        ("[" * 60_000, "json"),
        ("[]", "json"),
        ("null", "json"),
        ("", "json"),
        ('{"x": "%s"}' % ("x" * 70_000), "size"),
    ],
)
def test_what_is_no_health_message_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode_health(text.encode())
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*Birth.model_fields, *Health.model_fields]), inner),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=300)
def test_whatever_comes_ends_as_a_message_or_as_a_message_error(data: bytes) -> None:
    for decode in (decode_birth, decode_health, decode_status):
        try:
            decode(data)
        except MessageError:
            pass


def test_a_status_is_one_of_two_words() -> None:
    assert [decode_status(encode_status(online)) for online in (True, False)] == [True, False]
    assert (encode_status(True), encode_status(False)) == (b"online", b"offline")
    assert decode_status(b"") is False
    with pytest.raises(MessageError, match="is not online or offline"):
        decode_status(b"tired")


def test_what_was_said_does_not_change() -> None:
    with pytest.raises(ValidationError):
        BIRTH.boot = "other"  # type: ignore[misc]
