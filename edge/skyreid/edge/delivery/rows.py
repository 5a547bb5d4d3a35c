"""A sighting on its way into the spool, and one that it holds."""

from __future__ import annotations

from dataclasses import dataclass

from skyreid.contract.sighting import ModelRef


@dataclass(frozen=True)
class Row:
    """A sighting on its way into the spool."""

    seq: int
    watermark_ns: int
    """What may be said together with it: no later sighting is older than this."""
    data: bytes
    """See ``contract.sighting_wire.encode_sighting``; sealed, where the device seals."""


@dataclass(frozen=True)
class Stored:
    """A sighting that the spool holds."""

    id: int
    boot: str
    seq: int
    model: ModelRef
    stored_at_ns: int
    watermark_ns: int
    data: bytes
