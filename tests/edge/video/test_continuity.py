"""Counters of a transport stream's packets: what is missing is found, what is not is not."""

import pytest

from skyreid.edge.video.continuity import Packets, State


def packet(pid: int, counter: int, *, payload: bool = True, anew: bool = False) -> bytes:
    flags = (0x10 if payload else 0) | (0x20 if anew or not payload else 0) | counter & 0xF
    adaptation = bytes([1, 0x80 if anew else 0]) if flags & 0x20 else b""
    head = bytes([0x47, pid >> 8, pid & 0xFF, flags]) + adaptation
    return head + bytes(188 - len(head))


@pytest.mark.parametrize("at_once", [1, 7, 60])
def test_a_packet_that_did_not_come_is_missed_in_its_own_stream_wherever_it_was(
    at_once: int,
) -> None:
    sent = [packet(256 + k % 2, k // 2) for k in range(60)]
    for lost in range(2, 58):
        arrived = sent[:lost] + sent[lost + 1 :]
        packets = Packets()
        found = [
            packets.missing(b"".join(arrived[k : k + at_once]))
            for k in range(0, len(arrived), at_once)
        ]
        assert [pid for some in found for pid in some] == [256 + lost % 2]


def test_what_is_no_loss_is_none() -> None:
    packets = Packets()
    sent = [
        packet(256, 3),
        packet(256, 3),  # sent twice, as it may be
        packet(256, 9, payload=False),  # without payload it does not count
        packet(256, 4),
        packet(0x1FFF, 7),  # filling
        packet(0x1FFF, 2),
        packet(256, 11, anew=True),  # and says so itself
        packet(256, 12),
        b"x" * 188,
        b"x" * 75,
        packet(256, 13),
        packet(256, 14)[:100],
    ]
    assert packets.missing(b"".join(sent)) == []
    assert packets.missing(b"") == []
    assert packets.missing(packet(256, 14)[100:] + packet(256, 0)) == [256]


def test_packets_are_found_wherever_they_begin_and_with_a_time_before_each() -> None:
    sent = [packet(256, k) for k in range(40)]
    for size in (0, 4):
        packets = Packets()
        timed = [(0x47 * k).to_bytes(4, "big")[:size] + one for k, one in enumerate(sent)]
        stream = b"garbage" + b"".join(timed[:20] + timed[21:])
        found = [packets.missing(stream[k : k + 50]) for k in range(0, len(stream), 50)]
        assert [pid for some in found for pid in some] == [256]


def picture(ticks: int, first: int, packets: int = 3) -> list[bytes]:
    """A picture of 256 in some packets, the first with its time stamp."""
    time = [ticks >> 29 & 0xE | 0x21, ticks >> 22 & 0xFF, ticks >> 14 & 0xFE | 1]
    time += [ticks >> 7 & 0xFF, ticks << 1 & 0xFE | 1]
    head = bytes([0x47, 0x41, 0, 0x10 | first & 0xF]) + b"\0\0\1\xe0\0\0\x80\x80\5" + bytes(time)
    last = packet(256, first + packets - 1)
    last = last[:3] + bytes([last[3] | 0x20, 20, 0]) + b"\xff" * 19 + last[25:]  # filled up
    inner = [packet(256, first + k) for k in range(1, packets - 1)]
    return [head.ljust(188, b"\1"), *inner, last]


def carried(sent: list[bytes], wanted: list[int]) -> list[State]:
    packets = Packets()
    packets.missing(b"".join(sent))
    return [packets.state(256, ticks) for ticks in wanted]


def test_a_picture_is_torn_or_follows_what_is_missing() -> None:
    ticks = [(1 << 33) - 1, 0, 3600, 7200]
    sent = [p for k, one in enumerate(ticks) for p in picture(one, 3 * k)]
    whole, after, torn = State.WHOLE, State.AFTER, State.TORN
    assert carried(sent, ticks) == [whole] * 4
    assert carried(sent[:4] + sent[5:], ticks) == [whole, torn, whole, whole]
    assert carried(sent[:5] + sent[6:], ticks) == [whole, torn, after, whole]
    assert carried(sent[:3] + sent[6:], [ticks[0], *ticks[2:]]) == [whole, after, whole]
    # Without its first packet nobody knows where the second began: neither is handed out.
    assert carried(sent[:3] + sent[4:], ticks[2:]) == [after, whole]
    headless = sent[3][:4] + bytes(184)
    assert carried([*sent[:3], headless, *sent[4:]], ticks[2:]) == [after, whole]
