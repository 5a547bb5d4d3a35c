"""Which programs an MPEG transport stream holds: GStreamer reads one of them and does not say so.

ISO/IEC 13818-1, 2.4.3.2 (packets) and 2.4.4.3 (the program association table).
"""

from __future__ import annotations

from pathlib import Path

_LOOKED_AT_BYTES = 1 << 20
_SYNC, _IN_A_ROW = 0x47, 8


def read_programs(path: Path) -> tuple[int, ...]:
    """Numbers of the programs, in the file's order; none where it is another file or damaged."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LOOKED_AT_BYTES)
    except OSError:
        return ()
    for step in (188, 192):  # on a disk each packet may have a time of four bytes before it
        for start in range(step):
            heads = data[start : start + _IN_A_ROW * step : step]
            if heads == bytes([_SYNC]) * _IN_A_ROW:
                packets = (data[at : at + 188] for at in range(start, len(data), step))
                return next(filter(None, map(_programs, packets)), ())
    return ()


def _programs(packet: bytes) -> tuple[int, ...]:
    """What a packet's table says; none where it has no beginning of one."""
    head = int.from_bytes(packet[:4], "big")
    begins, number, adapted = head >> 22 & 1, head >> 8 & 0x1FFF, head >> 5 & 1
    if head >> 24 != _SYNC or not begins or number != 0:
        return ()
    at = 4
    for skipped in (adapted, True):  # the adaptation field, and what ends an earlier table
        at += 1 + int.from_bytes(packet[at : at + 1], "big") if skipped else 0
    end = at + 3 + (int.from_bytes(packet[at + 1 : at + 3], "big") & 0xFFF) - 4  # a checksum
    if packet[at : at + 1] != b"\0":
        return ()
    pairs = (packet[k : k + 4] for k in range(at + 8, min(end, len(packet)) - 3, 4))
    numbers = (int.from_bytes(pair[:2], "big") for pair in pairs)
    return tuple(number for number in numbers if number)  # 0 is the network's own table
