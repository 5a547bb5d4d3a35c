"""The message a device sends about one person in one camera, and its protobuf on the wire.

``sighting.proto`` is the schema; this module is what both ends use: frozen dataclasses that are
checked when they are decoded, because a parser is not a validator (44 % of randomly corrupted
batches still parse as protobuf).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from skyreid.contract import sighting_pb2 as pb
from skyreid.contract.errors import MessageError
from skyreid.contract.topics import IDENTIFIER

SCHEMA = 1
MAX_SIGHTINGS = 32
MAX_DIM = 4096
MAX_BATCH_BYTES = 1 << 18

Float32 = NDArray[np.float32]


class View(enum.IntEnum):
    """From where a camera looks; a property of the camera."""

    AERIAL = 1
    GROUND = 2

    @property
    def word(self) -> str:
        """``aerial`` or ``ground``: the spelling in settings, JSON and manifests."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> View:
        """Inverse of ``word``; raises KeyError for anything else."""
        return cls[word.upper()]


class Kind(enum.IntEnum):
    """Where in a tracklet's life a sighting stands."""

    NEW = 1
    UPDATE = 2
    END = 3


class Lane(enum.IntEnum):
    """Live traffic, or what a device saved up while it was cut off."""

    LIVE = 1
    BACKFILL = 2


class Clock(enum.IntEnum):
    """Where ``captured_at_ns`` comes from, best first."""

    NTP = 1
    RTCP = 2
    KLV = 3
    FILE = 4
    ARRIVAL = 5


@dataclass(frozen=True)
class Box:
    """x0, y0, x1, y1 in float pixels of the decoded frame, origin top left."""

    x0: float
    y0: float
    x1: float
    y1: float
    frame_width: int
    frame_height: int


@dataclass(frozen=True)
class Ground:
    """Where the person stands, metres east and north in the site frame, covariance in m²."""

    east_m: float
    north_m: float
    cov_ee_m2: float
    cov_en_m2: float
    cov_nn_m2: float


@dataclass(frozen=True)
class ModelRef:
    """Which model made the embeddings of a batch. Compare only within one ``key``."""

    key: str
    dim: int
    bundle_sha256: str
    name: str


@dataclass(frozen=True, eq=False)  # eq: an array has no truth value; compare encode() instead
class Sighting:
    """One statement of a device about one tracklet; a later revision replaces an earlier one."""

    seq: int
    camera: str
    view: View
    track: int
    revision: int
    kind: Kind
    first_seen_ns: int
    captured_at_ns: int
    clock: Clock
    clock_error_ms: int
    box: Box
    quality: float
    crops: int
    embedding: Float32
    """float32 [D], L2-normalised; float16 on the wire."""
    spread: float
    ground: Ground | None = None


@dataclass(frozen=True, eq=False)
class SightingBatch:
    """What travels in one MQTT message: 0 (a heartbeat) to 32 sightings of one device."""

    site: str
    device: str
    boot: str
    lane: Lane
    sent_at_ns: int
    model: ModelRef
    sightings: tuple[Sighting, ...] = field(default_factory=tuple)
    watermark_ns: int = 0
    """No later live sighting has ``captured_at_ns`` below this; 0 = not said."""


def embedding_bytes(embedding: Float32) -> bytes:
    """float32 [D] -> float16 little-endian bytes."""
    return embedding.astype("<f2").tobytes()


def embedding_array(data: bytes) -> Float32:
    """float16 little-endian bytes -> float32 [D], re-normalised (float16 rounds the length)."""
    vector = np.frombuffer(data, "<f2").astype(np.float32)
    return vector / np.float32(max(float(np.linalg.norm(vector)), 1e-12))


def encode_sighting(sighting: Sighting) -> bytes:
    """One sighting's bytes, as the spool keeps it."""
    return _to_pb(sighting).SerializeToString()


def encode_batch(batch: SightingBatch) -> bytes:
    """A batch's bytes. ``batch`` is trusted: the receiver checks."""
    return encode_raw_batch(batch, (encode_sighting(s) for s in batch.sightings))


def encode_raw_batch(envelope: SightingBatch, sightings: Iterable[bytes]) -> bytes:
    """A batch from an envelope (its own sightings ignored) and sightings already encoded.

    Protobuf concatenates: a repeated field may be appended as raw records, which saves the spool
    from decoding what it only forwards.
    """
    head = pb.SightingBatch(
        schema=SCHEMA,
        site=envelope.site,
        device=envelope.device,
        boot=envelope.boot,
        lane=int(envelope.lane),  # type: ignore[arg-type]
        sent_at_ns=envelope.sent_at_ns,
        watermark_ns=envelope.watermark_ns,
        model=pb.Model(
            key=envelope.model.key,
            dim=envelope.model.dim,
            bundle_sha256=envelope.model.bundle_sha256,
            name=envelope.model.name,
        ),
    )
    tag = bytes([8 << 3 | 2])  # field 8, length-delimited
    records = (tag + _varint(len(data)) + data for data in sightings)
    return head.SerializeToString() + b"".join(records)


def decode_batch(data: bytes, *, site: str, device: str) -> SightingBatch:
    """Parse and check a batch that arrived on the topic of ``site`` and ``device``.

    Raises:
        MessageError: anything is wrong; ``reason`` is one of ``size``, ``parse``, ``schema``,
            ``envelope``, ``sighting``.
    """
    batch, unusable = decode_usable(data, site=site, device=device)
    if unusable:
        raise unusable[min(unusable)]
    return batch


def decode_usable(
    data: bytes, *, site: str, device: str
) -> tuple[SightingBatch, dict[int, MessageError]]:
    """As `decode_batch`, but one bad sighting does not spoil the others.

    Returns:
        The batch with the sightings that can be used; and what is wrong with each of the others,
        by its place in the message.

    Raises:
        MessageError: the envelope is wrong; ``reason`` is ``size``, ``parse``, ``schema`` or
            ``envelope``.
    """
    if len(data) > MAX_BATCH_BYTES:
        raise MessageError("size", f"batch of {len(data)} bytes, at most {MAX_BATCH_BYTES}")
    message = pb.SightingBatch()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError("parse", f"{len(data)} bytes are not a SightingBatch") from error
    if message.schema != SCHEMA:
        raise MessageError("schema", f"schema {message.schema}, this server reads {SCHEMA}")
    _require(message.site == site, "envelope", f"site {message.site!r} on the topic of {site!r}")
    _require(
        message.device == device, "envelope", f"device {message.device!r} on topic of {device!r}"
    )
    _require(bool(IDENTIFIER.fullmatch(message.boot)), "envelope", f"boot {message.boot!r}")
    _require(message.lane in (1, 2), "envelope", f"lane {message.lane}")
    _require(0 <= message.watermark_ns, "envelope", f"watermark_ns {message.watermark_ns}")
    count = len(message.sightings)
    _require(count <= MAX_SIGHTINGS, "envelope", f"{count} sightings, at most {MAX_SIGHTINGS}")
    model = message.model
    _require(1 <= model.dim <= MAX_DIM, "envelope", f"dim {model.dim}")
    _require(bool(IDENTIFIER.fullmatch(model.key)), "envelope", f"model key {model.key!r}")
    sightings: list[Sighting] = []
    unusable: dict[int, MessageError] = {}
    for place, each in enumerate(message.sightings):
        try:
            sightings.append(_from_pb(each, model.dim))
        except MessageError as error:
            unusable[place] = error
    batch = SightingBatch(
        site=message.site,
        device=message.device,
        boot=message.boot,
        lane=Lane(message.lane),
        sent_at_ns=message.sent_at_ns,
        model=ModelRef(model.key, model.dim, model.bundle_sha256, model.name),
        sightings=tuple(sightings),
        watermark_ns=message.watermark_ns,
    )
    return batch, unusable


def decode_sighting(data: bytes, dim: int) -> Sighting:
    """Parse and check one sighting, as the spool and the journal keep it.

    Raises:
        MessageError: ``reason`` is ``parse`` or ``sighting``.
    """
    message = pb.Sighting()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError("parse", f"{len(data)} bytes are not a Sighting") from error
    return _from_pb(message, dim)


def _to_pb(s: Sighting) -> pb.Sighting:
    message = pb.Sighting(
        seq=s.seq,
        camera=s.camera,
        view=int(s.view),  # type: ignore[arg-type]
        track=s.track,
        revision=s.revision,
        kind=int(s.kind),  # type: ignore[arg-type]
        first_seen_ns=s.first_seen_ns,
        captured_at_ns=s.captured_at_ns,
        clock=int(s.clock),  # type: ignore[arg-type]
        clock_error_ms=s.clock_error_ms,
        box=pb.Box(
            x0=s.box.x0,
            y0=s.box.y0,
            x1=s.box.x1,
            y1=s.box.y1,
            frame_width=s.box.frame_width,
            frame_height=s.box.frame_height,
        ),
        quality=s.quality,
        crops=s.crops,
        embedding=embedding_bytes(s.embedding),
        spread=s.spread,
    )
    if s.ground is not None:
        g = s.ground
        message.ground.CopyFrom(
            pb.Ground(
                east_m=g.east_m,
                north_m=g.north_m,
                cov_ee_m2=g.cov_ee_m2,
                cov_en_m2=g.cov_en_m2,
                cov_nn_m2=g.cov_nn_m2,
            )
        )
    return message


def _from_pb(m: pb.Sighting, dim: int) -> Sighting:
    _require(bool(IDENTIFIER.fullmatch(m.camera)), "sighting", f"camera {m.camera!r}")
    _require(m.view in (1, 2), "sighting", f"view {m.view}")
    _require(m.kind in (1, 2, 3), "sighting", f"kind {m.kind}")
    _require(m.clock in (1, 2, 3, 4, 5), "sighting", f"clock {m.clock}")
    _require(
        0 < m.first_seen_ns <= m.captured_at_ns,
        "sighting",
        f"first_seen_ns {m.first_seen_ns} and captured_at_ns {m.captured_at_ns}",
    )
    b = m.box
    _require(_finite(b.x0, b.y0, b.x1, b.y1), "sighting", "box is not finite")
    _require(b.x0 < b.x1 and b.y0 < b.y1, "sighting", f"box {b.x0, b.y0, b.x1, b.y1}")
    _require(b.frame_width > 0 and b.frame_height > 0, "sighting", "frame size 0")
    _require(0.0 <= m.quality <= 1.0, "sighting", f"quality {m.quality}")
    _require(m.crops >= 1, "sighting", "no crops")
    _require(
        len(m.embedding) == 2 * dim, "sighting", f"{len(m.embedding)} embedding bytes for {dim}-d"
    )
    raw = np.frombuffer(m.embedding, "<f2").astype(np.float32)
    norm = float(np.linalg.norm(raw))  # nan and inf propagate into the norm
    _require(math.isfinite(norm) and 0.9 < norm < 1.1, "sighting", f"embedding of length {norm}")
    _require(_finite(m.spread), "sighting", "spread is not finite")
    ground = None
    if m.HasField("ground"):
        g = m.ground
        values = (g.east_m, g.north_m, g.cov_ee_m2, g.cov_en_m2, g.cov_nn_m2)
        _require(_finite(*values), "sighting", "ground is not finite")
        _require(
            g.cov_ee_m2 > 0 and g.cov_nn_m2 > 0 and g.cov_en_m2**2 <= g.cov_ee_m2 * g.cov_nn_m2,
            "sighting",
            "ground covariance is not positive",
        )
        ground = Ground(*values)
    return Sighting(
        seq=m.seq,
        camera=m.camera,
        view=View(m.view),
        track=m.track,
        revision=m.revision,
        kind=Kind(m.kind),
        first_seen_ns=m.first_seen_ns,
        captured_at_ns=m.captured_at_ns,
        clock=Clock(m.clock),
        clock_error_ms=m.clock_error_ms,
        box=Box(b.x0, b.y0, b.x1, b.y1, b.frame_width, b.frame_height),
        quality=m.quality,
        crops=m.crops,
        embedding=raw / np.float32(norm),
        spread=m.spread,
        ground=ground,
    )


def _require(condition: bool, reason: str, detail: str) -> None:
    if not condition:
        raise MessageError(reason, detail)


def _finite(*values: float) -> bool:
    return all(math.isfinite(v) for v in values)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
