"""Drone telemetry as it travels beside the video: KLV packets of MISB ST 0601.

A packet is a 16-byte key, a BER length and items `tag, length, value`; integers are big-endian and
map linearly onto a physical range. The items are those of the "UAS Datalink Local Set" (MISB ST
0601, identical numbers in every edition since 2010); the checksum is the standard's running 16-bit
sum. An item of no bytes, or of another number than the standard gives it, says nothing and costs
nothing but itself. Where items cannot be told apart any more, those before are good if the checksum
is, and the packet is refused if it is not. Angles of the platform and of the sensor relative to it
compose as in `telemetry.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields

from skyreid.contract.errors import InputError

KEY = bytes.fromhex("060e2b34020b01010e01030101000000")
_CHECKSUM, _TIME, _VERSION = 1, 2, 65
_TAG_BYTES = 5
"""Of a tag, at most: the standard has two; without an end to it a packet takes the square of its
length to read."""
_LENGTH_BYTES = 8
"""Of a length in long form, at most."""
_TIME_MAX_NS = (1 << 63) - 1
_LOCAL_SET_VERSION = 17


@dataclass(frozen=True, kw_only=True)
class KlvPacket:
    """What one packet says; None where it says nothing.

    Attributes:
        time_ns: UTC of the measurement, nanoseconds since the Unix epoch (sent in microseconds).
        platform_heading_deg: clockwise from true north, 0 to 360.
        platform_pitch_deg: nose up positive.
        platform_roll_deg: right wing down positive.
        sensor_latitude_deg: WGS 84.
        sensor_longitude_deg: WGS 84.
        sensor_msl_m: height above mean sea level (tag 15).
        sensor_ellipsoid_m: height above the WGS 84 ellipsoid (tag 75).
        horizontal_fov_deg: of the picture, 0 to 180.
        vertical_fov_deg: of the picture, 0 to 180.
        sensor_azimuth_deg: of the sensor relative to the platform, clockwise from the nose.
        sensor_elevation_deg: relative to the platform's plane, down is negative.
        sensor_roll_deg: relative to the platform, clockwise as seen from behind.
        frame_latitude_deg: of the ground point in the middle of the picture.
        frame_longitude_deg: of the same.
        frame_ellipsoid_m: its height above the ellipsoid (tag 78).
    """

    time_ns: int
    platform_heading_deg: float | None = None
    platform_pitch_deg: float | None = None
    platform_roll_deg: float | None = None
    sensor_latitude_deg: float | None = None
    sensor_longitude_deg: float | None = None
    sensor_msl_m: float | None = None
    sensor_ellipsoid_m: float | None = None
    horizontal_fov_deg: float | None = None
    vertical_fov_deg: float | None = None
    sensor_azimuth_deg: float | None = None
    sensor_elevation_deg: float | None = None
    sensor_roll_deg: float | None = None
    frame_latitude_deg: float | None = None
    frame_longitude_deg: float | None = None
    frame_ellipsoid_m: float | None = None


@dataclass(frozen=True)
class _Item:
    """An integer that stands for `low` to `high`; signed ones keep their lowest for "unknown"."""

    tag: int
    field: str
    form: str  # of struct, big-endian
    low: float
    high: float

    @property
    def steps(self) -> int:
        values: int = 2 ** (8 * struct.calcsize(self.form))
        return values - (2 if self.signed else 1)

    @property
    def signed(self) -> bool:
        return self.form.islower()

    def encode(self, value: float) -> bytes:
        if not self.low <= value <= self.high:
            raise InputError(f"{self.field} {value:g}: KLV holds {self.low:g} to {self.high:g}")
        scaled = round(
            (value - (0 if self.signed else self.low)) / (self.high - self.low) * self.steps
        )
        return struct.pack(">" + self.form, scaled)

    def decode(self, data: bytes) -> float | None:
        number: int = struct.unpack(">" + self.form, data)[0]
        if self.signed and number == -(2 ** (8 * len(data) - 1)):
            return None  # "out of range" or "no sensor"
        return number * (self.high - self.low) / self.steps + (0 if self.signed else self.low)


_ITEMS = (
    _Item(5, "platform_heading_deg", "H", 0, 360),
    _Item(13, "sensor_latitude_deg", "i", -90, 90),
    _Item(14, "sensor_longitude_deg", "i", -180, 180),
    _Item(15, "sensor_msl_m", "H", -900, 19000),
    _Item(16, "horizontal_fov_deg", "H", 0, 180),
    _Item(17, "vertical_fov_deg", "H", 0, 180),
    _Item(18, "sensor_azimuth_deg", "I", 0, 360),
    _Item(19, "sensor_elevation_deg", "i", -180, 180),
    _Item(20, "sensor_roll_deg", "I", 0, 360),
    _Item(23, "frame_latitude_deg", "i", -90, 90),
    _Item(24, "frame_longitude_deg", "i", -180, 180),
    _Item(75, "sensor_ellipsoid_m", "H", -900, 19000),
    _Item(78, "frame_ellipsoid_m", "H", -900, 19000),
    # Full-range pitch and roll; tags 6 and 7 stop at 20 and 50 degrees and are read, not written.
    _Item(90, "platform_pitch_deg", "i", -90, 90),
    _Item(91, "platform_roll_deg", "i", -90, 90),
)
_READ_ONLY = (
    _Item(6, "platform_pitch_deg", "h", -20, 20),
    _Item(7, "platform_roll_deg", "h", -50, 50),
)
_BY_TAG = {item.tag: item for item in (*_READ_ONLY, *_ITEMS)}


def encode(packet: KlvPacket) -> bytes:
    """A complete packet with its checksum.

    Raises:
        InputError: naming a value outside of what its item can hold.
    """
    body = _item(_TIME, struct.pack(">Q", packet.time_ns // 1000))
    for item in _ITEMS:
        value: float | None = getattr(packet, item.field)
        if value is not None:
            body += _item(item.tag, item.encode(value))
    body += _item(_VERSION, bytes([_LOCAL_SET_VERSION]))
    # The checksum covers everything before its own value, its tag and length included.
    covered = KEY + _length(len(body) + 4) + body + bytes([_CHECKSUM, 2])
    return covered + struct.pack(">H", checksum(covered))


def packets_in(data: bytes) -> list[bytes]:
    """The packets of one buffer of a transport stream, whatever lies around them.

    Asynchronous KLV is packets in a row. Synchronous KLV has a header of five bytes before each
    (MISB ST 1402, from ISO 13818-1, section 2.12.4), others pad. A packet that is cut off by the
    buffer's end comes as it is: `decode` refuses it.
    """
    found = []
    at = data.find(KEY)
    while at >= 0:
        try:
            size, start = _read_length(data, at + len(KEY))
        except InputError:
            size, start = 0, len(data)
        found.append(data[at : start + size])
        at = data.find(KEY, start + size)
    return found


def decode(data: bytes) -> KlvPacket:
    """Read one packet; items that are not in `KlvPacket` are passed over.

    Raises:
        InputError: not such a packet, truncated, of a wrong checksum, or without a time that is
            nanoseconds in 63 bits.
    """
    if not data.startswith(KEY):
        raise InputError(f"KLV starts with {data[:16].hex()}, not with the key of ST 0601")
    size, start = _read_length(data, len(KEY))
    if len(data) < start + size:
        raise InputError(f"KLV packet of {size} bytes ends after {len(data) - start}")
    end = start + size
    found = checksum(data[: end - 2])
    whole = size >= 4 and data[end - 4 : end] == struct.pack(">BBH", _CHECKSUM, 2, found)
    values: dict[int, bytes] = dict(_items(data[start:end], lenient=whole))
    if not whole:
        if len(values.get(_CHECKSUM, b"")) != 2:
            raise InputError("KLV packet has no checksum")
        said = struct.unpack(">H", values[_CHECKSUM])[0]
        if said != found:
            raise InputError(f"KLV checksum is {said:#06x}, its bytes give {found:#06x}")
    if _TIME not in values or len(values[_TIME]) != 8:
        raise InputError("KLV packet has no time stamp (item 2)")
    time_ns = 1000 * struct.unpack(">Q", values[_TIME])[0]
    if time_ns > _TIME_MAX_NS:
        raise InputError(f"KLV time stamp of {time_ns} ns: at most {_TIME_MAX_NS}")
    known: dict[str, float | None] = {}
    for tag, item in _BY_TAG.items():  # read-only items first: the full ranges overrule them
        if len(values.get(tag, b"")) == struct.calcsize(item.form):
            known[item.field] = item.decode(values[tag])
    return KlvPacket(time_ns=time_ns, **known)


def resolution(field: str) -> float:
    """The step of a field of `KlvPacket`, in its unit: what is lost by sending it."""
    for item in _ITEMS:
        if item.field == field:
            return (item.high - item.low) / item.steps
    known = ", ".join(f.name for f in fields(KlvPacket))
    raise InputError(f"no KLV field {field!r}; known: {known}")


def checksum(data: bytes) -> int:
    """The standard's 16-bit sum: bytes alternately as high and low half of a word."""
    return (sum(data[0::2]) * 256 + sum(data[1::2])) & 0xFFFF


def _item(tag: int, value: bytes) -> bytes:
    return bytes([tag]) + _length(len(value)) + value


def _length(count: int) -> bytes:
    """BER: short form below 128."""
    if count < 128:
        return bytes([count])
    size = (count.bit_length() + 7) // 8
    return bytes([0x80 | size]) + count.to_bytes(size, "big")


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    """A BER length at `at`, and where its value starts."""
    if at >= len(data):
        raise InputError("KLV packet ends before a length")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    if not 1 <= size <= _LENGTH_BYTES or at + 1 + size > len(data):
        raise InputError(f"KLV length of {size} bytes")
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def _read_tag(data: bytes, at: int) -> tuple[int, int]:
    """A BER-OID tag at `at` (seven bits a byte), and where its length starts."""
    tag = 0
    for place in range(at, min(at + _TAG_BYTES, len(data))):
        tag = tag << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return tag, place + 1
    raise InputError(f"KLV packet has a tag that does not end within {_TAG_BYTES} bytes")


def _items(body: bytes, *, lenient: bool) -> Iterator[tuple[int, bytes]]:
    """Tags and values; ``lenient`` ends, instead of refusing, where nobody can say what follows."""
    at = 0
    while at < len(body):
        try:
            tag, after = _read_tag(body, at)
            size, start = _read_length(body, after)
            if start + size > len(body):
                raise InputError(f"KLV item {tag} of {size} bytes ends after {len(body) - start}")
        except InputError:
            if lenient:
                return
            raise
        yield tag, body[start : start + size]
        at = start + size
