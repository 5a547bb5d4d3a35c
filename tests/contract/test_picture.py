"""A picture by its user properties, and the request for one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.errors import MessageError
from skyreid.contract.picture import (
    MAX_PICTURE_BYTES,
    Picture,
    PictureRequest,
    decode_picture,
    decode_picture_request,
    encode_picture_request,
    picture_properties,
)

JPEG = b"\xff\xd8\xff\xe0" + b"picture" + b"\xff\xd9"
PICTURE = Picture("3-ab12", "cam1", 7, 12, 1_700_000_000_000_000_005, JPEG)
USER = picture_properties(PICTURE)


def test_a_picture_has_its_golden_properties(repository: Path) -> None:
    golden = (repository / "tests/golden/picture.v1.json").read_text()
    assert json.loads(golden) == USER
    assert decode_picture(JPEG, json.loads(golden)) == PICTURE


def test_older_ones_have_no_version_and_later_ones_may_say_more() -> None:
    older = {name: value for name, value in USER.items() if name != "schema_version"}
    assert decode_picture(JPEG, older) == PICTURE
    assert decode_picture(JPEG, {**USER, "later": "x"}) == PICTURE
    with pytest.raises(MessageError) as caught:
        decode_picture(JPEG, {**USER, "schema_version": "3", "boot": "/"})
    assert caught.value.reason == "schema"


@pytest.mark.parametrize(
    "change",
    [
        *({"boot": value} for value in ("", "a/b", "x" * 65, "\ud800")),
        {"camera": "../etc"},
        *({"track": value} for value in ("", "-1", "x", "1.0", " 1", "1_0", "٣", str(2**63))),
        {"seq": "9" * 5000},
        {"captured_at_ns": "1e9"},
    ],
)
def test_properties_out_of_bounds_are_named(change: dict[str, str]) -> None:
    with pytest.raises(MessageError, match=f"^picture: user property {next(iter(change))} is"):
        decode_picture(JPEG, {**USER, **change})


@pytest.mark.parametrize("name", [name for name in USER if name != "schema_version"])
def test_a_property_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(MessageError, match=f"^picture: user property {name} is missing"):
        decode_picture(JPEG, {key: value for key, value in USER.items() if key != name})


def test_a_picture_is_a_jpeg_of_20_kilobytes_at_most() -> None:
    fill = MAX_PICTURE_BYTES - len(JPEG)
    whole = JPEG[:4] + b"x" * fill + JPEG[4:]
    assert decode_picture(whole, USER).jpeg == whole
    for wrong in (b"", b"GIF89a", JPEG[:-1], JPEG[:4] + b"x" + whole[4:]):
        with pytest.raises(MessageError) as caught:
            decode_picture(wrong, USER)
        assert caught.value.reason == "picture"


@given(st.binary(max_size=50), st.dictionaries(st.sampled_from(list(USER)), st.text(max_size=30)))
def test_whatever_comes_ends_as_a_picture_or_as_a_message_error(
    data: bytes, user: dict[str, str]
) -> None:
    for payload in (data, JPEG):
        try:
            decode_picture(payload, {**USER, **user})
        except MessageError:
            pass


def test_a_request_has_its_golden_bytes(repository: Path) -> None:
    data = (repository / "tests/golden/picture-request.v1.json").read_bytes()
    request = PictureRequest(boot="3-ab12", camera="cam1", track=7)
    assert encode_picture_request(request) == data
    assert decode_picture_request(data) == request
    older = b'{"boot": "3-ab12", "camera": "cam1", "track": 7}'
    assert decode_picture_request(older) == request


@pytest.mark.parametrize("track", ["9223372036854775808", "1e999", "-1", "true", '"7"', "7.0"])
def test_a_request_out_of_bounds_is_refused(track: str) -> None:
    with pytest.raises(MessageError, match=r"^picture-request: track: "):
        decode_picture_request(b'{"boot": "1-aa", "camera": "cam1", "track": %s}' % track.encode())


def frame(height: int, width: int, marker: int = 0xC0) -> bytes:
    """A JPEG of a few bytes that declares a size."""
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8\xff" + bytes([marker]) + b"\x00\x11\x08" + sides + b"\x03" + b"\xff\xd9"


def test_a_picture_that_declares_gigabytes_of_pixels_is_refused() -> None:
    user = picture_properties(Picture("1-a", "cam1", 1, 1, 1, b""))
    for size in ((65_500, 65_500), (2049, 1), (1, 2049), (0, 8)):
        for marker in (0xC0, 0xC2):
            with pytest.raises(MessageError, match="pixels, at most 2048"):
                decode_picture(frame(*size, marker), user)
    good = frame(2048, 2048)
    assert decode_picture(good, user).jpeg == good
    hidden = frame(64, 64)[:-2] + frame(65_500, 65_500)[2:]
    with pytest.raises(MessageError, match="65500 x 65500"):
        decode_picture(hidden, user)
