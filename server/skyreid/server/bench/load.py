"""Messages of a made-up site to measure with: one device that sees somebody new now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from skyreid.contract import topics
from skyreid.contract.receipt import batch_properties
from skyreid.contract.sighting import (
    Box,
    Clock,
    Float32,
    Ground,
    Kind,
    Lane,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import encode_batch
from skyreid.server.broker.decoding import Message

SITE, DEVICE, CAMERA, BOOT = "bench", "device-1", "cam1", "1-bench"
DIM = 192
A_MESSAGE = 16
REVISIONS = 64
MODEL = ModelRef("0123456789abcdef", DIM, "0" * 64, "bench")


def batches(messages: int, *, lane: Lane = Lane.LIVE, placed: bool = True) -> list[Message]:
    """Messages as they arrive, `A_MESSAGE` sightings each, all of one moment.

    Args:
        messages: how many.
        lane: of all of them.
        placed: whether positions are known; without them matching costs next to nothing.
    """
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(200, DIM)).astype(np.float32)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    now_ns = time.time_ns()
    numbers = _sightings(looks, now_ns, placed)
    topic = topics.device(SITE, DEVICE, "sightings")
    out = []
    for _ in range(messages):
        chosen = [next(numbers) for _ in range(A_MESSAGE)]
        mark = chosen[-1].captured_at_ns if lane is Lane.LIVE else 0
        batch = SightingBatch(SITE, DEVICE, BOOT, lane, now_ns, MODEL, tuple(chosen), mark)
        beside = batch_properties(BOOT, [s.seq for s in chosen])
        out.append(Message(topic, encode_batch(batch), beside, now_ns))
    return out


def _sightings(looks: Float32, at_ns: int, placed: bool) -> Iterator[Sighting]:
    number = 0
    while True:
        track, revision = divmod(number, REVISIONS)
        number += 1
        look = looks[track % len(looks)]
        yield somebody(number, track + 1, revision, look, at_ns, placed=placed)


def somebody(
    seq: int, track: int, revision: int, embedding: Float32, at_ns: int, *, placed: bool
) -> Sighting:
    """One sighting."""
    return Sighting(
        seq=seq,
        camera=CAMERA,
        view=View.GROUND,
        track=track,
        revision=revision,
        kind=Kind.UPDATE,
        first_seen_ns=at_ns,
        captured_at_ns=at_ns,
        clock=Clock.NTP,
        clock_error_ms=2,
        box=Box(10, 10, 60, 150, 1280, 720),
        quality=0.8,
        crops=4,
        embedding=embedding,
        spread=0.9,
        ground=Ground(float(track % 50), 1.0, 0.1, 0.0, 0.1) if placed else None,
    )
