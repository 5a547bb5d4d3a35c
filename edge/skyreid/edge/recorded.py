"""What a run writes of itself into its recording, beside whom it found and followed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skyreid.contract.recording import Recorder, RunInfo
from skyreid.contract.sighting import Lane, SightingBatch
from skyreid.contract.sighting_wire import encode_raw_batch
from skyreid.edge.delivery.rows import Row
from skyreid.edge.sighter import Identity


def run_info(who: Identity, source: str, start_ns: int, displaced: Iterable[float]) -> RunInfo:
    """How the recording of a run from ``source`` begins; poses are put right by ``displaced``."""
    return RunInfo(
        site=who.site,
        device=who.device,
        boot=who.boot,
        camera=who.camera,
        view=who.view.word,
        source=source,
        start_ns=start_ns,
        model_key=who.model.key,
        bundles=(who.model.bundle_sha256,),
        displaced=tuple(displaced),
    )


def record_said(recorder: Recorder, who: Identity, rows: Sequence[Row]) -> None:
    """Add sightings to a recording, once the spool has them: only then they are said."""
    envelope = SightingBatch(
        site=who.site,
        device=who.device,
        boot=who.boot,
        lane=Lane.LIVE,
        sent_at_ns=0,
        model=who.model,
    )
    for row in rows:
        recorder.sighting(encode_raw_batch(envelope, [row.data]))
