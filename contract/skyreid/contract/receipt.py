"""The receipt, the server's acknowledgement by sequence number: only then a device forgets.

Also what a batch says beside its bytes, so that a receipt can be written for a batch that nobody
can parse: of which boot it is and which sequence numbers are in it, as MQTT 5 user properties.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from skyreid.contract import sighting_pb2 as pb
from skyreid.contract.errors import MessageError
from skyreid.contract.sighting import MAX_INTEGER
from skyreid.contract.sighting_wire import MAX_SIGHTINGS
from skyreid.contract.topics import IDENTIFIER

BOOT_PROPERTY, SEQS_PROPERTY = "boot", "seqs"
"""Names of the user properties of a batch with sightings; a heartbeat has none."""
_REASON = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SPAN = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")
_SEQS_LETTERS_MAX = MAX_SIGHTINGS * 40


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
    reason: str = ""
    """Of REJECTED: the word of ``rejected/{reason}``, at most 32 letters; empty = not said."""


@dataclass(frozen=True)
class Receipt:
    """The server's word that sightings of one boot are stored (or refused): delete them."""

    boot: str
    ranges: tuple[Range, ...]


def encode_receipt(receipt: Receipt) -> bytes:
    """A receipt's bytes."""
    message = pb.Receipt(boot=receipt.boot)
    for item in receipt.ranges:
        message.ranges.add(
            first=item.first,
            last=item.last,
            status=int(item.status),
            reason=item.reason,
        )
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
        if item.reason and not _REASON.fullmatch(item.reason):
            raise MessageError("receipt", f"reason {item.reason[:40]!r} is no word")
    return Receipt(
        message.boot,
        tuple(Range(r.first, r.last, Status(r.status), r.reason) for r in message.ranges),
    )


def ranges_of(seqs: Sequence[int], status: Status, reason: str = "") -> tuple[Range, ...]:
    """Sorted, merged ranges of sequence numbers (any order, repeats allowed)."""
    out: list[Range] = []
    for seq in sorted(set(seqs)):
        if out and out[-1].last + 1 == seq:
            out[-1] = Range(out[-1].first, seq, status, reason)
        else:
            out.append(Range(seq, seq, status, reason))
    return tuple(out)


def batch_properties(boot: str, seqs: Sequence[int]) -> dict[str, str]:
    """The user properties that go with a batch of these sightings: ``12-43,45``."""
    spans = ranges_of(seqs, Status.STORED)
    words = [f"{s.first}-{s.last}" if s.first < s.last else str(s.first) for s in spans]
    return {BOOT_PROPERTY: boot, SEQS_PROPERTY: ",".join(words)}


def decode_batch_properties(properties: Mapping[str, str]) -> tuple[str, tuple[int, ...]] | None:
    """Boot and ascending sequence numbers of a batch, whatever its bytes are.

    Returns:
        None where they are not said: a heartbeat, or a device of 0.1.0.

    Raises:
        MessageError: ``reason`` is ``properties``; at most ``MAX_SIGHTINGS`` numbers are named.
    """
    boot, written = properties.get(BOOT_PROPERTY), properties.get(SEQS_PROPERTY)
    if boot is None and written is None:
        return None
    if boot is None or written is None or not IDENTIFIER.fullmatch(boot):
        raise MessageError("properties", "a batch says boot, a name, and seqs, or neither")
    if len(written) > _SEQS_LETTERS_MAX:
        raise MessageError("properties", f"seqs of {len(written)} letters")
    seqs: list[int] = []
    for word in written.split(","):
        span = _SPAN.fullmatch(word)
        first = int(span[1]) if span else -1
        last = int(span[2] or span[1]) if span else -1
        if not (seqs[-1] if seqs else -1) < first <= last <= MAX_INTEGER:
            raise MessageError("properties", f"seqs {written[:40]!r} are no ascending ranges")
        if len(seqs) + last - first >= MAX_SIGHTINGS:
            raise MessageError("properties", f"more than {MAX_SIGHTINGS} seqs")
        seqs.extend(range(first, last + 1))
    return boot, tuple(seqs)
