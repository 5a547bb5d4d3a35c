"""A person's picture on the wire, and the request for one.

A picture is a JPEG, with MQTT 5 user properties that say of which tracklet. Versions are as in
``json_message``: the property ``schema_version`` is 1 or absent, others may be added; it is 2 where
the JPEG is in a sealed record (`sealed`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from skyreid.contract.errors import MessageError
from skyreid.contract.json_message import Count, JsonMessage, Name, decode_json, encode_json
from skyreid.contract.sealed import MAGIC, OVERHEAD_BYTES, Opener, about_picture
from skyreid.contract.sighting import MAX_INTEGER
from skyreid.contract.topics import IDENTIFIER

MAX_PICTURE_BYTES = 20_000
MAX_SIDE_PX = 2048
"""Width and height that a JPEG may declare: a few hundred bytes can ask for gigabytes of pixels."""
# A frame header wherever it stands (ITU-T T.81, B.2.2): marker, length, precision, height, width.
# Within coded pixels FF is followed by 00 or a restart, so that none is seen where none is.
_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..[\x08\x0c](..)(..)", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class Picture:
    """The best picture of a tracklet so far; one of a later sighting replaces it."""

    boot: str
    camera: str
    track: int
    seq: int
    """Of the sighting that it was taken for."""
    captured_at_ns: int
    jpeg: bytes
    """As it is kept and sent: on a device that seals, a record of it."""


class PictureRequest(JsonMessage):
    """Somebody asks a device for the picture of a tracklet."""

    boot: Name
    camera: Name
    track: Count


def content_type(picture: Picture) -> str:
    """Of the message whose payload is ``picture.jpeg``."""
    return "application/octet-stream" if picture.jpeg.startswith(MAGIC) else "image/jpeg"


def picture_properties(picture: Picture) -> dict[str, str]:
    """The user properties that go with ``picture.jpeg``."""
    return {
        "schema_version": "2" if picture.jpeg.startswith(MAGIC) else "1",
        "boot": picture.boot,
        "camera": picture.camera,
        "track": str(picture.track),
        "seq": str(picture.seq),
        "captured_at_ns": str(picture.captured_at_ns),
    }


def decode_picture(
    data: bytes, properties: Mapping[str, str], *, device: str = "", opener: Opener | None = None
) -> Picture:
    """Check a picture that arrived with these user properties from ``device``; open a sealed one.

    Raises:
        MessageError: ``reason`` is ``picture``, ``schema``, ``sealed`` or ``key``.
    """
    version = properties.get("schema_version", "1")
    if version not in ("1", "2"):
        raise MessageError("schema", "picture of another schema_version than 1 and 2")
    most = MAX_PICTURE_BYTES + (OVERHEAD_BYTES if version == "2" else 0)
    if len(data) > most:
        raise MessageError("picture", f"{len(data)} bytes, at most {most}")
    key = _key(properties)
    if version == "2":
        if opener is None:
            raise MessageError("key", "sealed, and this server has no private keys")
        data = opener.open(data, device, about_picture(*key))
    _check_jpeg(data)
    return Picture(*key, data)


def _check_jpeg(jpeg: bytes) -> None:
    if not (jpeg.startswith(b"\xff\xd8\xff") and jpeg.rstrip(b"\0").endswith(b"\xff\xd9")):
        raise MessageError("picture", "not a JPEG")
    for sides in _FRAME.findall(jpeg):
        height, width = (int.from_bytes(side, "big") for side in sides)
        if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
            raise MessageError("picture", f"{width} x {height} pixels, at most {MAX_SIDE_PX}")


def _key(properties: Mapping[str, str]) -> tuple[str, str, int, int, int]:
    """Boot, camera, track, seq and captured_at_ns of user properties."""
    for name in ("boot", "camera"):
        if not IDENTIFIER.fullmatch(properties.get(name, "")):
            raise MessageError("picture", f"user property {name} is missing or no name")
    numbers = []
    for name in ("track", "seq", "captured_at_ns"):
        written = properties.get(name, "")
        if not _NUMBER.fullmatch(written) or int(written) > MAX_INTEGER:
            raise MessageError(
                "picture", f"user property {name} is missing or no number from 0 to 2^63 - 1"
            )
        numbers.append(int(written))
    track, seq, captured_at_ns = numbers
    return properties["boot"], properties["camera"], track, seq, captured_at_ns


def encode_picture_request(request: PictureRequest) -> bytes:
    """A request's bytes."""
    return encode_json(request)


def decode_picture_request(data: bytes) -> PictureRequest:
    """Parse and check a request.

    Raises:
        MessageError: ``reason`` is ``picture-request``, ``size``, ``json`` or ``schema``.
    """
    return decode_json("picture-request", PictureRequest, data)
