"""Pictures of people: which messages are one, and why a card has none."""

from __future__ import annotations

from collections.abc import Mapping

from skyreid.contract.errors import MessageError
from skyreid.contract.sighting import MAX_INTEGER
from skyreid.contract.site import PicturePolicy
from skyreid.contract.topics import IDENTIFIER
from skyreid.server.store.records import Picture

MAX_PICTURE_BYTES = 20 << 10


def read_picture(
    payload: bytes,
    properties: Mapping[str, str],
    device: str,
    received_at_ns: int,
    policy: PicturePolicy,
) -> Picture:
    """Check a picture message; ``properties`` are its MQTT 5 user properties.

    Raises:
        MessageError: ``reason`` is ``policy`` (the site wants none) or ``picture``.
    """
    if policy == "never":
        raise MessageError("policy", f"a picture from {device!r}, the site's policy is never")
    if len(payload) > MAX_PICTURE_BYTES:
        raise MessageError("picture", f"{len(payload)} bytes, at most {MAX_PICTURE_BYTES}")
    if not (payload.startswith(b"\xff\xd8\xff") and payload.rstrip(b"\0").endswith(b"\xff\xd9")):
        raise MessageError("picture", "not a JPEG")
    try:
        boot, camera = properties["boot"], properties["camera"]
        track, seq = int(properties["track"]), int(properties["seq"])
        captured_at_ns = int(properties["captured_at_ns"])
    except (KeyError, ValueError) as error:
        raise MessageError("picture", f"user properties {dict(properties)}: {error!r}") from error
    names = all(IDENTIFIER.fullmatch(name) for name in (boot, camera))
    numbers = all(0 <= number <= MAX_INTEGER for number in (track, seq, captured_at_ns))
    if not (names and numbers):
        raise MessageError("picture", f"user properties {dict(properties)} are out of range")
    return Picture(device, boot, camera, track, seq, captured_at_ns, received_at_ns, payload)


def why_none(policy: PicturePolicy) -> str:
    """What a card says that has no picture."""
    return {
        "never": "policy: never",
        "on_request": "policy: on request, and nobody asked",
        "always": "not sent yet, or no longer kept",
    }[policy]
