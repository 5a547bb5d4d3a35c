"""Writes what a release leaves on disk: a journal, a spool, a bundle, a recording and a message.

    python tests/upgrade/make.py tests/upgrade/0.1.0

Run it once at a release, with that release's code, and commit what it made; never again for the
same release. Vectors and pictures are drawn from seeds: nobody's data.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture
from skyreid.contract.recording import Recorder, RunInfo
from skyreid.contract.sighting import (
    Box,
    Clock,
    Ground,
    Kind,
    Lane,
    Modality,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import encode_batch, encode_sighting
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.store import records
from skyreid.server.store.journal import Journal

START_NS = 1_700_000_000_000_000_000
DIM = 8
MODEL = ModelRef("0123456789abcdef", DIM, "f" * 64, "vdt-tiny")
JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"


def sighting(seq: int) -> Sighting:
    vector = np.random.default_rng(seq).normal(size=DIM).astype(np.float32)
    return Sighting(
        seq=seq,
        camera="cam1",
        view=View.AERIAL,
        track=seq,
        revision=0,
        kind=Kind.END,
        first_seen_ns=START_NS,
        captured_at_ns=START_NS + seq * 10**9,
        clock=Clock.FILE,
        clock_error_ms=3,
        box=Box(1.5, 2.25, 30.0, 80.5, 1280, 720),
        quality=0.75,
        crops=4,
        embedding=vector / np.linalg.norm(vector),
        spread=0.875,
        ground=Ground(1.0, -2.0, 0.25, 0.125, 0.5),
        modality=Modality.GREY,
    )


def batch(*sightings: Sighting, boot: str = "3-ab12cd34") -> SightingBatch:
    at_ns = START_NS + 9 * 10**9
    return SightingBatch("plaza", "uav-1", boot, Lane.LIVE, at_ns, MODEL, sightings, START_NS)


def write_spool(path: Path) -> None:
    """Two boots, three sightings without a receipt, of which one is the second boot's; pictures."""
    for first in (1, 3):
        with Spool(path) as spool:
            rows = [Row(s, START_NS, encode_sighting(sighting(s))) for s in range(first, 4)][:2]
            picture = Picture(spool.boot, "cam1", 1, 1, START_NS, JPEG)
            spool.append(rows, MODEL, [(picture, True)])
    _one_file(path)


def write_journal(path: Path) -> None:
    """Three sightings, two people, one event that waits, one picture."""
    journal = Journal(path, "plaza", pictures_max_bytes=1 << 20)
    sent = batch(*(sighting(s) for s in (1, 2, 3)))
    now = START_NS + 10**10
    arrived = [
        records.Arrived("uav-1", sent.boot, 1, MODEL.key, DIM, now, s, encode_sighting(s))
        for s in sent.sightings
    ]
    heard = records.Heard("uav-1", now, sent.boot, START_NS, "cam1", int(View.AERIAL), MODEL.key)
    best = Picture(sent.boot, "cam1", 1, 1, START_NS, JPEG)
    picture = records.ArrivedPicture("uav-1", now, best)
    journal.store(arrived, [heard], [picture])
    keys = [TrackKey("uav-1", sent.boot, "cam1", n) for n in (1, 2)]
    decisions = [Decision("assign", START_NS, key.identity_id(0), (key,)) for key in keys]
    told = identity.apply(identity.State(), decisions[0])[1]
    journal.decide([Applied(decisions[0], told), Applied(decisions[1], ())], now)
    journal.close()
    _one_file(path)


def write_recording(folder: Path) -> None:
    info = RunInfo(
        site="plaza", device="uav-1", boot="3-ab12cd34", camera="cam1", view="aerial",
        source="file:///x.mp4", start_ns=START_NS, model_key=MODEL.key,
    )  # fmt: skip
    with Recorder(folder, info) as recorder:
        recorder.detections(1, np.array([[1.0, 2.0, 11.0, 32.0]]), np.array([0.5]))
        recorder.tracks(1, [(7, (1.0, 2.0, 11.5, 32.0), 0.5)])
        recorder.sighting(encode_batch(batch(sighting(1))))
        recorder.close(frames=1, sightings=1, dropped={"frame_overtaken": 3})


def write_bundle(folder: Path) -> None:
    """The tiny embedder of the bundle's tests: mean colour."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "bundle"))
    from conftest import write_tiny

    write_tiny(folder)


def _one_file(path: Path) -> None:
    """Without the write-ahead log beside it; nothing else of the file changes."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    for beside in path.parent.glob(f"{path.name}?*"):
        beside.unlink()


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_spool(folder / "spool.db")
    write_journal(folder / "journal.sqlite")
    write_recording(folder / "recording")
    write_bundle(folder / "bundle")
    (folder / "sightings.bin").write_bytes(encode_batch(batch(sighting(1), sighting(2))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
