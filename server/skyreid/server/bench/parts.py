"""What decoding, storing and searching cost, in this process and in CPU seconds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import View
from skyreid.contract.sighting_wire import decode_usable
from skyreid.contract.site import Site
from skyreid.server.bench.load import A_MESSAGE, DEVICE, DIM, SITE, batches
from skyreid.server.broker.decoding import Message, sort_messages
from skyreid.server.store.gallery import Gallery
from skyreid.server.store.journal import Journal

A_TRANSACTION = 256
ROUNDS = 3
TRACKLETS = 20_000


def decode_and_store(messages: int) -> tuple[float, float]:
    """Sightings a CPU second: decoded only, and sorted and stored; medians of turns in turn."""
    load, site = batches(messages), Site(id=SITE)
    decoded, stored = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            decoded.append(_cpu_s(lambda: _decode(load)))
            journal = Journal(Path(folder) / f"{turn}.sqlite", SITE, pictures_max_bytes=1)
            stored.append(_cpu_s(lambda: _store(load, site, journal)))  # noqa: B023 (called here)
            journal.close()
    count = messages * A_MESSAGE
    return count / median(decoded), count / median(stored)


def similar_ratio() -> float:
    """CPU time of a search over that of the bare float32 product and partial sort it needs."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(TRACKLETS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gallery = Gallery()
    keys = [TrackKey(DEVICE, "1-bench", "cam1", n) for n in range(TRACKLETS)]
    for key, vector in zip(keys, vectors, strict=True):
        gallery.add(key, "key", View.GROUND, 1, vector)
    ours, bare = [], []
    for key, vector in zip(keys[:21], vectors, strict=False):
        ours.append(_cpu_s(lambda: gallery.similar(key, 10)))  # noqa: B023 (called here)
        bare.append(_cpu_s(lambda: np.argpartition(vectors @ vector, -10)[-10:]))  # noqa: B023
    return median(ours) / median(bare)


def _cpu_s(work: Callable[[], object]) -> float:
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def _decode(load: Sequence[Message]) -> None:
    for message in load:
        decode_usable(message.payload, site=SITE, device=DEVICE)


def _store(load: Sequence[Message], site: Site, journal: Journal) -> None:
    for start in range(0, len(load), A_TRANSACTION):
        batch = sort_messages(load[start : start + A_TRANSACTION], site)
        journal.store(batch.sightings, batch.heard, ())
