"""Counters of a transport stream's packets: what is missing is found, what is not is not."""

import pytest

from skyreid.edge.video.continuity import missing


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
        counters: dict[int, int] = {}
        found = [
            missing(b"".join(arrived[k : k + at_once]), counters)
            for k in range(0, len(arrived), at_once)
        ]
        assert set().union(*found) == {256 + lost % 2}
        assert sum(map(len, found)) == 1


def test_what_is_no_loss_is_none() -> None:
    counters: dict[int, int] = {}
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
        packet(256, 13)[:100],
    ]
    assert missing(b"".join(sent), counters) == set()
    assert missing(b"", counters) == set()
    assert missing(packet(256, 15), counters) == {256}
