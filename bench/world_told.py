"""A made-up day as its devices tell of it: sightings of the contract, with the truth beside them.

Positions are exact (a surveyed camera and the error of a box), as a drone on `gnss` telemetry gives
them (an offset that stays for a flight of 25 minutes, about as large as `bench/ground.py` found),
or not there at all. Every sighting has been through the wire form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from world_crops import Embedded
from world_site import CAMERAS, PLACES, Camera, Day, Passage, modality_at

from skyreid.contract.identity_event import TrackKey
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
from skyreid.contract.sighting_wire import decode_batch, encode_batch

Positions = Literal["exact", "gnss", "none"]
Told = tuple[str, str, str, Sighting]
"""device, boot, model key, sighting."""

START_NS = 1_790_000_000_000_000_000
SITE, BOOT = "world", "1-world"
EVERY_S = 4.0
"""Between two updates of a tracklet; a device tells once a second unless told otherwise."""
_FIRST_S = 0.75
_LOST_S = 1.5
_FLIGHT_S = 1500.0
_BOX_M = 0.2
_GNSS_M = {"low": 1.4, "standard": 1.8, "high": 2.4}
"""Of a drone's position on the ground, standard deviation of an axis, by its altitude."""


@dataclass(frozen=True)
class Truth:
    """What one tracklet really is. Times in seconds of the day."""

    pid: int
    visit: int
    camera: int
    begin_s: float
    end_s: float
    modality: Modality

    @property
    def view(self) -> View:
        """From where it was seen."""
        return CAMERAS[self.camera].view


def tell(
    day: Day, embedded: Embedded, positions: Positions, until_s: float
) -> tuple[list[Told], dict[TrackKey, Truth]]:
    """Everything told until then in order of capture, and the truth of every tracklet."""
    rng = np.random.default_rng([day.seed, 7])
    flights = np.random.default_rng([day.seed, 8]).normal(size=(len(CAMERAS), 64, 2))
    tracks = [0] * len(CAMERAS)
    said: list[tuple[int, Told]] = []
    truth: dict[TrackKey, Truth] = {}
    for passage in day.passages:
        crops = embedded.vectors.get((passage.pid, passage.visit, passage.camera))
        if crops is None or passage.times_s[-1] > until_s:
            continue
        camera = CAMERAS[passage.camera]
        for times_s, rows in _tracklets(passage, crops):
            tracks[camera.number] += 1
            track = tracks[camera.number]
            key = TrackKey(f"dev-{camera.name}", BOOT, camera.name, track)
            truth[key] = Truth(
                passage.pid, passage.visit, camera.number, float(times_s[0]), float(times_s[-1]),
                modality_at(camera, float(passage.times_s[0])),
            )  # fmt: skip
            for sighting in _sightings(
                camera, track, passage, times_s, rows, truth[key].modality, positions, flights, rng
            ):
                said.append(
                    (sighting.captured_at_ns, (key.device, BOOT, embedded.model.key, sighting))
                )
    said.sort(key=lambda row: (row[0], row[1][0], row[1][3].track))
    seqs = dict.fromkeys((camera.name for camera in CAMERAS), 0)
    out = []
    for _, (device, boot, model, sighting) in said:
        seqs[sighting.camera] += 1
        one = _wired(sighting, seqs[sighting.camera], device, embedded.model)
        out.append((device, boot, model, one))
    return out, truth


def _tracklets(
    passage: Passage, crops: NDArray[np.float32]
) -> list[tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Times and crops of a passage's one tracklet, or of the two that the tracker made of it."""
    times_s = passage.times_s
    middle = len(times_s) // 2
    begins_again = int(np.searchsorted(times_s, times_s[middle] + _LOST_S))
    if not passage.broken or len(crops) < 2 or len(times_s) - begins_again < 4:
        return [(times_s, crops)]
    return [(times_s[:middle], crops[:1]), (times_s[begins_again:], crops[1:])]


def _sightings(
    camera: Camera,
    track: int,
    passage: Passage,
    times_s: NDArray[np.float64],
    crops: NDArray[np.float32],
    modality: Modality,
    positions: Positions,
    flights: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[Sighting]:
    end_s = float(times_s[-1])
    moments = [*np.arange(times_s[0] + _FIRST_S, end_s - 1, EVERY_S).tolist(), end_s]
    out = []
    for revision, at_s in enumerate(moments):
        rows = crops[: 1 + min(revision, len(crops) - 1)]
        mean = rows.mean(0)
        last = revision == len(moments) - 1
        kind = Kind.END if last else Kind.UPDATE if revision else Kind.NEW
        out.append(
            Sighting(
                seq=0,
                camera=camera.name,
                view=camera.view,
                track=track,
                revision=revision,
                kind=kind,
                first_seen_ns=_ns(float(times_s[0])),
                captured_at_ns=_ns(at_s),
                clock=Clock.NTP,
                clock_error_ms=5,
                box=Box(600, 300, 660, 450, 1280, 720),
                quality=0.8,
                crops=len(rows),
                embedding=(mean / np.linalg.norm(mean)).astype(np.float32),
                spread=float(np.linalg.norm(mean)),
                ground=_ground(camera, passage, at_s, positions, flights, rng),
                modality=modality,
            )
        )
    return out


def _ground(
    camera: Camera,
    passage: Passage,
    at_s: float,
    positions: Positions,
    flights: NDArray[np.float64],
    rng: np.random.Generator,
) -> Ground | None:
    error = rng.normal(0, _BOX_M, 2)  # drawn in any case: all three kinds have the same days
    if positions == "none":
        return None
    east, north = (float(np.interp(at_s, passage.times_s, passage.path_m[:, k])) for k in (0, 1))
    variance = _BOX_M**2
    if positions == "gnss" and camera.view is View.AERIAL:
        sigma_m = _GNSS_M[PLACES[camera.place][1]]
        error = error + sigma_m * flights[camera.number, int(at_s // _FLIGHT_S)]
        variance += sigma_m**2
    return Ground(east + float(error[0]), north + float(error[1]), variance, 0.0, variance)


def _wired(sighting: Sighting, seq: int, device: str, model: ModelRef) -> Sighting:
    """As the server decodes it."""
    numbered = Sighting(**{**sighting.__dict__, "seq": seq})
    at_ns = sighting.captured_at_ns
    batch = SightingBatch(SITE, device, BOOT, Lane.LIVE, at_ns, model, (numbered,), at_ns)
    return decode_batch(encode_batch(batch), site=SITE, device=device).sightings[0]


def _ns(at_s: float) -> int:
    return START_NS + round(at_s * 1e9)
