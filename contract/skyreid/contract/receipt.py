"""The receipt, the server's acknowledgement by sequence number: only then a device forgets."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from skyreid.contract import sighting_pb2 as pb
from skyreid.contract.errors import MessageError


class Status(enum.IntEnum):
    """What became of a range of sightings on the server."""

    STORED = 1
    REJECTED = 2


@dataclass(frozen=True)
class Range:
    """Sequence numbers ``first`` to ``last``, both included, and what became of them."""

    first: int
    last: int
    status: Status


@dataclass(frozen=True)
class Receipt:
    """The server's word that sightings of one boot are stored (or refused): delete them."""

    boot: str
    ranges: tuple[Range, ...]


def encode_receipt(receipt: Receipt) -> bytes:
    """A receipt's bytes."""
    message = pb.Receipt(boot=receipt.boot)
    for item in receipt.ranges:
        message.ranges.add(first=item.first, last=item.last, status=int(item.status))
    return message.SerializeToString()


def decode_receipt(data: bytes) -> Receipt:
    """Parse and check a receipt.

    Raises:
        MessageError: the bytes are not one.
    """
    message = pb.Receipt()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError("parse", f"{len(data)} bytes are not a Receipt") from error
    for item in message.ranges:
        if item.first > item.last:
            raise MessageError("receipt", f"range {item.first}..{item.last}")
        if item.status not in (1, 2):
            raise MessageError("receipt", f"status {item.status}")
    return Receipt(
        message.boot, tuple(Range(r.first, r.last, Status(r.status)) for r in message.ranges)
    )


def ranges_of(seqs: Sequence[int], status: Status) -> tuple[Range, ...]:
    """Sorted, merged ranges of sequence numbers (any order, repeats allowed)."""
    out: list[Range] = []
    for seq in sorted(set(seqs)):
        if out and out[-1].last + 1 == seq:
            out[-1] = Range(out[-1].first, seq, status)
        else:
            out.append(Range(seq, seq, status))
    return tuple(out)
