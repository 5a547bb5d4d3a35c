"""Sightings as protobuf on the wire: encoded, decoded, checked. ``sighting.proto`` is the schema.

What arrives is checked field by field, because a parser is not a validator (44 % of randomly
corrupted batches still parse as protobuf). Each sighting is parsed once and keeps the bytes it came
as, so that nobody serialises it again and fields of later releases survive storing.

A device that seals puts a sealed record (`sealed`) in the place of each sighting's bytes, and says
``SEALED_SCHEMA``; nothing else of a batch is different.

Versions: fields are only ever added, and a reader passes over those it does not know (an enum value
that it does not know is refused, but for ``modality``, which then means ``UNKNOWN``). The schema
changes when that is not enough; another one than ours is refused whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from skyreid.contract import sighting_pb2 as pb
from skyreid.contract.errors import MessageError
from skyreid.contract.sealed import MAGIC, Opener, open_sightings
from skyreid.contract.sighting import (
    MAX_DIM,
    MAX_INTEGER,
    MAX_OFFSET_M,
    Box,
    Clock,
    Float32,
    Ground,
    Kind,
    Lane,
    Modality,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
    pauses_from_ms,
    pauses_in_ms,
)
from skyreid.contract.topics import IDENTIFIER

SCHEMA, SEALED_SCHEMA = 1, 2
MAX_SIGHTINGS = 32
MAX_NAME = 200
"""Characters of a model's name, or of its bundle's digest."""
MAX_BATCH_BYTES = 1 << 18


@dataclass(frozen=True)
class Unusable:
    """A sighting of a batch that cannot be used. ``seq`` is None where its bytes do not parse."""

    seq: int | None
    error: MessageError


@dataclass(frozen=True, eq=False)
class Decoded:
    """A batch as it arrived."""

    batch: SightingBatch
    """With the sightings that can be used."""
    raw: tuple[bytes, ...]
    """The bytes of each of ``batch.sightings``; of one that came sealed, what was in it."""
    came: tuple[bytes, ...]
    """The same as they came: of one that came sealed, its record."""
    unusable: tuple[Unusable, ...]
    sealed: bool = False
    """Whether they were sealed."""


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

    Either all of them are sealed records, or none is.
    """
    model, sightings = envelope.model, list(sightings)
    head = pb.RawSightingBatch(
        schema=SEALED_SCHEMA if sightings and sightings[0].startswith(MAGIC) else SCHEMA,
        site=envelope.site,
        device=envelope.device,
        boot=envelope.boot,
        lane=int(envelope.lane),  # type: ignore[arg-type]
        sent_at_ns=envelope.sent_at_ns,
        watermark_ns=envelope.watermark_ns,
        model=pb.Model(
            key=model.key, dim=model.dim, bundle_sha256=model.bundle_sha256, name=model.name
        ),
    )
    # Protobuf concatenates. The sightings stand last, as in the recorded bytes of every release.
    body = pb.RawSightingBatch(sightings=sightings)
    return head.SerializeToString() + body.SerializeToString()


def decode_batch(
    data: bytes, *, site: str, device: str, opener: Opener | None = None
) -> SightingBatch:
    """Parse and check a batch that arrived on the topic of ``site`` and ``device``.

    Raises:
        MessageError: anything is wrong; ``reason`` is one of ``size``, ``parse``, ``schema``,
            ``envelope``, ``sighting``, ``sealed``, ``key``.
    """
    decoded = decode_usable(data, site=site, device=device, opener=opener)
    if decoded.unusable:
        raise decoded.unusable[0].error
    return decoded.batch


def decode_usable(data: bytes, *, site: str, device: str, opener: Opener | None = None) -> Decoded:
    """As `decode_batch`, but one bad sighting does not spoil the others.

    ``opener`` opens what is sealed; without one no sighting of a sealed batch can be used.

    Raises:
        MessageError: the envelope is wrong; ``reason`` is ``size``, ``parse``, ``schema`` or
            ``envelope``.
    """
    if len(data) > MAX_BATCH_BYTES:
        raise MessageError("size", f"batch of {len(data)} bytes, at most {MAX_BATCH_BYTES}")
    message = pb.RawSightingBatch()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError("parse", f"{len(data)} bytes are not a SightingBatch") from error
    # Every release has said one: bytes without are a damaged batch, which no later release reads.
    _require(message.schema != 0, "parse", f"{len(data)} bytes say no schema")
    if message.schema not in (SCHEMA, SEALED_SCHEMA):
        reads = f"this server reads {SCHEMA} and {SEALED_SCHEMA}"
        raise MessageError("schema", f"schema {message.schema}, {reads}")
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
    _require(
        max(len(model.name), len(model.bundle_sha256)) <= MAX_NAME,
        "envelope",
        f"a model's name or digest of more than {MAX_NAME} characters",
    )
    _require(0 <= message.sent_at_ns, "envelope", f"sent_at_ns {message.sent_at_ns}")
    parsed: list[tuple[pb.Sighting, bytes, bytes]] = []
    unusable: list[Unusable] = []
    plain: Iterable[tuple[bytes, bytes]] = ((raw, raw) for raw in message.sightings)
    if sealed := message.schema == SEALED_SCHEMA:
        plain, closed = open_sightings(opener, message.sightings, device, message.boot)
        unusable = [Unusable(seq, error) for seq, error in closed]
    for raw, came in plain:
        each = pb.Sighting()
        try:
            each.ParseFromString(raw)
        except DecodeError:
            broken = MessageError("sighting", f"{len(raw)} bytes are not a Sighting")
            unusable.append(Unusable(None, broken))
            continue
        parsed.append((each, raw, came))
    usable: list[tuple[Sighting, bytes, bytes]] = []
    embeddings = _Embeddings([each.embedding for each, _, _ in parsed], model.dim)
    for number, (each, raw, came) in enumerate(parsed):
        try:
            usable.append((_from_pb(each, embeddings, number), raw, came))
        except MessageError as error:
            unusable.append(Unusable(each.seq, error))
    batch = SightingBatch(
        site=message.site,
        device=message.device,
        boot=message.boot,
        lane=Lane(message.lane),
        sent_at_ns=message.sent_at_ns,
        model=ModelRef(model.key, model.dim, model.bundle_sha256, model.name),
        sightings=tuple(sighting for sighting, _, _ in usable),
        watermark_ns=message.watermark_ns,
    )
    raws, records = tuple(raw for _, raw, _ in usable), tuple(came for _, _, came in usable)
    return Decoded(batch, raws, records, tuple(unusable), sealed)


def decode_sighting(data: bytes, dim: int) -> Sighting:
    """Parse and check one sighting, as the spool and the journal keep it.

    ``dim`` 0: its embedding is not kept any more (see `without_embedding`).

    Raises:
        MessageError: ``reason`` is ``parse`` or ``sighting``.
    """
    message = pb.Sighting()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError("parse", f"{len(data)} bytes are not a Sighting") from error
    return _from_pb(message, _Embeddings([message.embedding], dim), 0)


def without_embedding(data: bytes) -> bytes:
    """A sighting's bytes but for its embedding; to be read with ``dim`` 0."""
    message = pb.Sighting.FromString(data)
    message.ClearField("embedding")
    return message.SerializeToString()


class _Embeddings:
    """Embeddings of a batch, normalised all at once: one by one it is a fifth of decoding."""

    def __init__(self, encoded: Sequence[bytes], dim: int) -> None:
        fits = [len(data) == 2 * dim for data in encoded]
        usable = (d if fit else bytes(2 * dim) for d, fit in zip(encoded, fits, strict=True))
        raw = np.frombuffer(b"".join(usable), "<f2").astype(np.float32).reshape(len(encoded), dim)
        # Before any sum: of a signalling nan numpy would warn on the server's stderr.
        finite = np.logical_and.reduce(np.isfinite(raw), axis=1)
        raw[~finite] = 0
        norms = np.sqrt(np.add.reduce(raw * raw, axis=1))
        raw /= np.maximum(norms, np.float32(1e-12))[:, None]
        self._rows: Float32 = raw
        self._norms: list[float] = norms.tolist()
        self._finite: list[bool] = finite.tolist()
        self._fits, self._encoded, self._dim = fits, encoded, dim

    def row(self, number: int) -> Float32:
        """float32 [D], of its own: a row of all would keep all of them in memory.

        Raises:
            MessageError: it cannot be used.
        """
        if not self._fits[number]:
            detail = f"{len(self._encoded[number])} embedding bytes for {self._dim}-d"
            raise MessageError("sighting", detail)
        if not self._finite[number]:
            raise MessageError("sighting", "embedding is not finite")
        if self._dim and not 0.9 < self._norms[number] < 1.1:
            raise MessageError("sighting", f"embedding of length {self._norms[number]}")
        embedding: Float32 = self._rows[number].copy()
        return embedding


_VIEWS, _KINDS = {int(v): v for v in View}, {int(k): k for k in Kind}
_CLOCKS = {int(clock): clock for clock in Clock}
_MODALITIES = {int(modality): modality for modality in Modality}


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
        modality=int(s.modality),  # type: ignore[arg-type]
        pauses_ms=pauses_in_ms(s.pauses, s.first_seen_ns) if s.pauses else (),
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


def _from_pb(m: pb.Sighting, embeddings: _Embeddings, number: int) -> Sighting:
    # Not by `_require`: to put each detail into words beforehand takes a third of the whole. Each
    # field is asked for once: that is most of what is left.
    seq, track, camera = m.seq, m.track, m.camera
    if seq > MAX_INTEGER:
        raise MessageError("sighting", f"seq {seq} beyond 2^63 - 1")
    if track > MAX_INTEGER:
        raise MessageError("sighting", f"track {track} beyond 2^63 - 1")
    if not IDENTIFIER.fullmatch(camera):
        raise MessageError("sighting", f"camera {camera!r}")
    view, kind, clock = _VIEWS.get(m.view), _KINDS.get(m.kind), _CLOCKS.get(m.clock)
    if view is None:
        raise MessageError("sighting", f"view {m.view}")
    if kind is None:
        raise MessageError("sighting", f"kind {m.kind}")
    if clock is None:
        raise MessageError("sighting", f"clock {m.clock}")
    first_ns, captured_ns = m.first_seen_ns, m.captured_at_ns
    if not 0 < first_ns <= captured_ns:
        raise MessageError("sighting", f"first_seen_ns {first_ns} and captured_at_ns {captured_ns}")
    b = m.box
    box = Box(b.x0, b.y0, b.x1, b.y1, b.frame_width, b.frame_height)
    if not _finite(box.x0, box.y0, box.x1, box.y1):
        raise MessageError("sighting", "box is not finite")
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        raise MessageError("sighting", f"box {box.x0, box.y0, box.x1, box.y1}")
    if not box.frame_width or not box.frame_height:
        raise MessageError("sighting", "frame size 0")
    quality, crops, spread = m.quality, m.crops, m.spread
    if not 0.0 <= quality <= 1.0:  # nor a nan
        raise MessageError("sighting", f"quality {quality}")
    if not crops:
        raise MessageError("sighting", "no crops")
    embedding = embeddings.row(number)
    if not math.isfinite(spread):
        raise MessageError("sighting", "spread is not finite")
    return Sighting(
        seq=seq,
        camera=camera,
        view=view,
        track=track,
        revision=m.revision,
        kind=kind,
        first_seen_ns=first_ns,
        captured_at_ns=captured_ns,
        clock=clock,
        clock_error_ms=m.clock_error_ms,
        box=box,
        quality=quality,
        crops=crops,
        embedding=embedding,
        spread=spread,
        ground=_ground(m.ground) if m.HasField("ground") else None,
        modality=_MODALITIES.get(m.modality, Modality.UNKNOWN),
        pauses=pauses_from_ms(turns, first_ns, captured_ns) if (turns := m.pauses_ms) else (),
    )


def _ground(g: pb.Ground) -> Ground:
    east_m, north_m = g.east_m, g.north_m
    ee, en, nn = g.cov_ee_m2, g.cov_en_m2, g.cov_nn_m2
    if not _finite(east_m, north_m, ee, en, nn):
        raise MessageError("sighting", "ground is not finite")
    if max(abs(east_m), abs(north_m)) > MAX_OFFSET_M:
        where = f"ground {east_m:g}, {north_m:g}"
        detail = f"{where} is more than {MAX_OFFSET_M:g} m from the origin"
        raise MessageError("sighting", detail)
    if not (ee > 0 and nn > 0 and en**2 <= ee * nn):
        raise MessageError("sighting", "ground covariance is not positive")
    return Ground(east_m, north_m, ee, en, nn)


def _require(condition: bool, reason: str, detail: str) -> None:
    if not condition:
        raise MessageError(reason, detail)


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
