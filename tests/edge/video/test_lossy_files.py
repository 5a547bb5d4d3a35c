"""Files of links that lost packets: what is not whole is counted and not looked at."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import Read, read
from drones import BITS, picture, write_stream

FRAMES, SIZE = 240, 188
KLV = 0x101
"""The stream of the telemetry."""


@pytest.fixture(scope="module", params=["libx264", "libx265"])
def packets(
    request: pytest.FixtureRequest, needs_gst: None, tmp_path_factory: pytest.TempPathFactory
) -> list[bytes]:
    clip = write_stream(tmp_path_factory.mktemp("drone"), request.param).read_bytes()
    return [clip[at : at + SIZE] for at in range(0, len(clip), SIZE)]


def nothing(packet: bytes) -> bytes:
    return b""


def zeros(packet: bytes) -> bytes:
    return bytes(SIZE)


def noise(packet: bytes) -> bytes:
    return random.Random(len(packet)).randbytes(SIZE)


def short(packet: bytes) -> bytes:
    return packet[:100]


def marked(packet: bytes) -> bytes:
    return packet[:1] + bytes([packet[1] | 0x80]) + packet[2:4] + bytes(184)


def losses(packets: list[bytes], seed: int) -> set[int]:
    """One of a hundred, none of the first twenty: they say what is in the stream."""
    return set(random.Random(seed).sample(range(20, len(packets)), len(packets) // 100))


def numbers(seen: Read) -> list[int]:
    """Which pictures were read; fails where one is not as it was filmed."""
    found = []
    for rgb in seen.pictures:
        blocks = [rgb[16:80, 15 + 18 * bit].mean() > 125 for bit in range(BITS)]
        found.append(sum(1 << bit for bit, light in enumerate(blocks) if light))
        assert np.abs(rgb.astype(int) - picture(found[-1])).mean() < 6, found[-1]
    return found


@pytest.mark.parametrize("what", [nothing, zeros, noise, short, marked])
def test_a_file_that_lacks_one_packet_of_a_hundred_costs_gaps_and_nothing_else(
    what: Callable[[bytes], bytes], packets: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "lossy.ts"
    lost = losses(packets, seed=1)
    path.write_bytes(b"".join(what(p) if k in lost else p for k, p in enumerate(packets)))
    seen = read(path)
    found = numbers(seen)
    assert found == sorted(found)
    assert len(found) > FRAMES // 4
    assert seen.dropped["frame_damaged"] > 0
    torn = sum((packets[k][1] & 0x1F) << 8 | packets[k][2] == KLV for k in lost)
    most = torn + len(lost) if what is short else torn  # it takes a part of the packet behind it
    assert torn <= seen.dropped["telemetry_torn"] <= most
    left_out = seen.dropped["frame_damaged"] + seen.dropped.get("frame_missing", 0)
    assert len(found) + left_out == FRAMES
