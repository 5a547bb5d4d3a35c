import struct
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract import klv
from skyreid.contract.errors import InputError
from skyreid.contract.klv import KEY, KlvPacket, checksum, decode, encode

# The worked examples of the standard: item, bytes, value, and its decimals.
STANDARD = [
    (5, "71c2", "platform_heading_deg", 159.974365),
    (6, "fd3d", "platform_pitch_deg", -0.431531724),
    (7, "08b8", "platform_roll_deg", 3.40586566),
    (13, "5595b66d", "sensor_latitude_deg", 60.1768229669783),
    (14, "5b5360c4", "sensor_longitude_deg", 128.426759042045),
    (15, "c221", "sensor_msl_m", 14190.7195),
    (16, "cd9c", "horizontal_fov_deg", 144.571298),
    (17, "d917", "vertical_fov_deg", 152.643626),
    (18, "724a0a20", "sensor_azimuth_deg", 160.719211474396),
    (19, "87f84b86", "sensor_elevation_deg", -168.792324833941),
    (20, "7dc55ece", "sensor_roll_deg", 176.865437690572),
    (23, "f101a229", "frame_latitude_deg", -10.5423886331461),
    (24, "14bc082b", "frame_longitude_deg", 29.157890122923),
]


def packed(items: bytes, *, long: bool = False) -> bytes:
    """A packet around `items`, with the checksum that belongs to it."""
    size = len(items) + 4
    covered = KEY + (bytes([0x82, 0, size]) if long else bytes([size])) + items + b"\x01\x02"
    return covered + struct.pack(">H", checksum(covered))


def item(tag: int, value: bytes) -> bytes:
    return bytes([tag, len(value)]) + value


TIME = item(2, bytes.fromhex("000459f4a6aa4aa8"))


@pytest.mark.parametrize(("tag", "data", "field", "value"), STANDARD)
def test_the_standards_examples_decode_to_the_standards_values(
    tag: int, data: str, field: str, value: float
) -> None:
    found = decode(packed(TIME + item(tag, bytes.fromhex(data))))
    assert getattr(found, field) == pytest.approx(value, rel=5e-9)
    assert found.time_ns == 1224807209913000_000
    others = {k: v for k, v in asdict(found).items() if k not in (field, "time_ns")}
    assert set(others.values()) == {None}


def test_the_full_range_overrules_the_short_one() -> None:
    both = TIME + item(6, bytes.fromhex("fd3d")) + item(90, struct.pack(">i", 2**30))
    assert decode(packed(both)).platform_pitch_deg == pytest.approx(45)


def test_a_reserved_value_is_unknown_and_a_foreign_item_is_passed_over() -> None:
    items = TIME + item(13, bytes.fromhex("80000000")) + item(94, b"\x01\x02\x03")
    long_tag = bytes([0x81, 0x0C, 1, 7])  # item 140 in two bytes
    assert decode(packed(items + long_tag)) == KlvPacket(time_ns=1224807209913000_000)


def test_a_long_form_length_is_read() -> None:
    assert decode(packed(TIME, long=True)).time_ns == 1224807209913000_000


@given(
    st.integers(0, 2**63 // 1000 * 1000 - 1),
    st.floats(0, 360),
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.floats(-900, 19000),
    st.none() | st.floats(0, 180),
)
def test_what_is_written_is_read_to_half_a_step(
    time_ns: int, heading: float, latitude: float, elevation: float, height: float, fov: float
) -> None:
    sent = KlvPacket(
        time_ns=time_ns,
        platform_heading_deg=heading,
        platform_pitch_deg=latitude,
        sensor_latitude_deg=latitude,
        sensor_elevation_deg=elevation,
        sensor_ellipsoid_m=height,
        horizontal_fov_deg=fov,
    )
    found = decode(encode(sent))
    assert found.time_ns == time_ns // 1000 * 1000
    for field, value in asdict(sent).items():
        got = getattr(found, field)
        if field != "time_ns" and value is not None:
            assert abs(got - value) <= klv.resolution(field) * 0.501, field
        elif value is None:
            assert got is None


def test_the_steps_are_as_fine_as_the_standard_says() -> None:
    assert klv.resolution("sensor_latitude_deg") == pytest.approx(180 / (2**32 - 2))
    assert klv.resolution("sensor_ellipsoid_m") == pytest.approx(19900 / 65535)


@given(st.binary(max_size=60))
def test_garbage_behind_the_key_is_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(InputError):
        decode(KEY + data)


def test_a_packet_without_a_time_is_refused() -> None:
    with pytest.raises(InputError, match="time"):
        decode(packed(item(5, b"\x00\x00")))
    late = item(2, struct.pack(">Q", 2**63 // 1000 + 1))
    with pytest.raises(InputError, match="time stamp of 9223372036854776000 ns: at most"):
        decode(packed(late))


@pytest.mark.parametrize("odd", [b"", b"\x71", b"\x00\x00\x71\xc2"])
def test_an_item_of_no_bytes_or_of_another_size_loses_itself_alone(odd: bytes) -> None:
    """A zero-length item is how ST 0601 says "unknown"; drones send it in every packet."""
    height = item(75, bytes.fromhex("c221"))
    for items in (item(5, odd) + height, height + item(5, odd)):
        found = decode(packed(TIME + items))
        assert found.platform_heading_deg is None
        assert found.sensor_ellipsoid_m == pytest.approx(14190.7195)


def test_a_tag_without_an_end_is_refused_at_once() -> None:
    """It took the square of its length: 39 s for 500 kB."""
    for size in (60_000, 5_000_000):
        began = time.thread_time()
        with pytest.raises(InputError, match="does not end within 5 bytes"):
            decode(KEY + b"\x84" + struct.pack(">I", size) + b"\xff" * size)
        assert time.thread_time() - began < 5  # of CPU; the larger one took an hour


def test_a_packet_of_very_many_items_is_read_in_time_that_grows_as_it_does() -> None:
    items = item(94, b"") * 100_000 + TIME
    size = len(items) + 4
    covered = KEY + b"\x84" + struct.pack(">I", size) + items + b"\x01\x02"
    assert decode(covered + struct.pack(">H", checksum(covered))).time_ns


def test_a_value_that_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="sensor_latitude_deg 91"):
        encode(KlvPacket(time_ns=0, sensor_latitude_deg=91))


def test_an_item_that_runs_beyond_the_packet_loses_itself_alone() -> None:
    """Its length is damaged, the checksum was made after that: what was read before stays."""
    broken = TIME + item(5, bytes.fromhex("71c2")) + bytes([94, 120, 1, 2])
    assert decode(packed(broken)).platform_heading_deg == pytest.approx(159.974365)
    endless = TIME + item(5, bytes.fromhex("71c2")) + b"\xff" * 9
    assert decode(packed(endless)).platform_heading_deg == pytest.approx(159.974365)


def test_packets_are_found_behind_each_other_and_behind_the_headers_of_synchronous_klv() -> None:
    first, second = encode(KlvPacket(time_ns=1_000)), encode(KlvPacket(time_ns=2_000))
    headers = [struct.pack(">BBBH", 0xFC, n, 0xDF, len(first)) for n in range(2)]  # ST 1402
    for buffer in (
        first + second,
        headers[0] + first + headers[1] + second,
        b"\x00" + first + b"\xff\xff" + second + b"\x00\x00",
    ):
        assert [decode(data).time_ns for data in klv.packets_in(buffer)] == [1_000, 2_000]
    assert klv.packets_in(b"") == klv.packets_in(b"no packet") == []
    cut = klv.packets_in(first[:-3])
    with pytest.raises(InputError, match="ends after"):
        decode(cut[0])


def test_the_standards_own_sample_packets_are_read(shared: Path) -> None:
    """Others wrote them; the one with the standard's own wrong checksum only when mended."""
    folder = shared / "media" / "klv"
    good = decode((folder / "DynamicOnlyMISMMSPacketData.bin").read_bytes())
    assert good.platform_heading_deg == pytest.approx(159.9744, abs=1e-4)
    assert good.sensor_latitude_deg == pytest.approx(60.176823, abs=1e-6)
    assert good.sensor_msl_m == pytest.approx(14190.72, abs=0.01)
    wrong = (folder / "DynamicConstantMISMMSPacketData.bin").read_bytes()
    with pytest.raises(InputError, match="checksum is 0xaa43, its bytes give 0x3e1e"):
        decode(wrong)
    mended = decode(wrong[:-2] + bytes.fromhex("3e1e"))
    assert mended.sensor_longitude_deg == pytest.approx(128.426759, abs=1e-6)
    assert mended.time_ns == good.time_ns == 1231798102000000_000
