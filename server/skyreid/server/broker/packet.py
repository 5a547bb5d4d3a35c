"""A PUBLISH packet read without judging its strings: paho refuses some that a broker may send.

MQTT 5 lets a broker forward code points that paho takes for a violation (U+FEFF, MQTT-1.5.4-3; it
then ends the connection, and the same packet comes again after each reconnect). Here every length
is checked and no letter is. OASIS MQTT 5.0, sections 2.2.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

_USER_PROPERTY = 0x26
# How long the value of each other property of a PUBLISH is; None = 2 bytes say how long.
_WIDTH: dict[int, int | None] = {
    0x01: 1,  # payload format indicator
    0x02: 4,  # message expiry interval
    0x23: 2,  # topic alias
    0x03: None,  # content type
    0x08: None,  # response topic
    0x09: None,  # correlation data
}
_SUBSCRIPTION_IDENTIFIER = 0x0B


@dataclass(frozen=True)
class Publish:
    """What a packet says; letters that are no UTF-8 are replaced."""

    topic: str
    payload: bytes
    properties: dict[str, str]
    """The user properties that could be read; of equal names the last."""
    mid: int
    """0 where the QoS is 0."""
    qos: int
    dup: bool
    """Whether it came before, as the broker says."""


def read_publish(command: int, body: bytes) -> Publish:
    """Read the variable header and payload of a PUBLISH.

    Args:
        command: the first byte of the packet.
        body: what follows its remaining length.

    Raises:
        ValueError: a length reaches beyond the packet.
    """
    qos = (command & 0x06) >> 1
    topic, at = _string(body, 0)
    mid = 0
    if qos:
        mid, at = int.from_bytes(_bytes(body, at, 2), "big"), at + 2
    length, at = _variable(body, at)
    end = at + length
    properties = _user_properties(_bytes(body, at, length))
    return Publish(topic, body[end:], properties, mid, qos, bool(command & 0x08))


def _user_properties(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        kind, at = data[at], at + 1
        if kind == _USER_PROPERTY:
            name, at = _string(data, at)
            found[name], at = _string(data, at)
        elif kind == _SUBSCRIPTION_IDENTIFIER:
            _, at = _variable(data, at)
        elif kind in _WIDTH:
            width = _WIDTH[kind]
            at = at + width if width is not None else _string(data, at)[1]
        else:  # of a later MQTT: how long it is nobody knows; where the payload begins we do
            break
    return found


def _string(data: bytes, at: int) -> tuple[str, int]:
    length = int.from_bytes(_bytes(data, at, 2), "big")
    return _bytes(data, at + 2, length).decode(errors="replace"), at + 2 + length


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer of at most four bytes."""
    value = 0
    for shift in (0, 7, 14, 21):
        (byte,) = _bytes(data, at, 1)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a length of more than four bytes")


def _bytes(data: bytes, at: int, count: int) -> bytes:
    found = data[at : at + count]
    if len(found) < count:
        raise ValueError(f"{count} bytes at {at} of {len(data)}")
    return found
