"""Make the recordings that edge devices would have made of a clip, from its ground truth.

For work on matching without a detector and a tracker: boxes are jittered, missed when hidden,
tracks break at occlusions and sometimes change person where two boxes overlap.

::

    python bench/truth_sightings.py CLIP OUT [--bundle DIR] [--seed 0] [--no-pose]

writes one recorded run a camera into OUT (see ``skyreid.contract.recording``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraPoses, read_poses
from skyreid.contract.input_spec import crop_box, fit
from skyreid.contract.recording import MotRows, Recorder, RunInfo, read_mot
from skyreid.contract.sighting import (
    Box,
    Clock,
    Ground,
    Kind,
    Lane,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import encode_batch

START_NS = 1_790_000_000_000_000_000
CROPS = 8  # in one aggregate
EMBED_EVERY = 2  # frames


@dataclass
class Track:
    """One tracker's track: parallel lists by frame."""

    number: int
    frames: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    visibility: list[float] = field(default_factory=list)
    embeddings: dict[int, NDArray[np.float32]] = field(default_factory=dict)


def tracks_of(rows: MotRows, fps: float, rng: np.random.Generator) -> list[Track]:
    """Imperfect tracks from true boxes."""
    lost_frames = max(2, round(0.6 * fps))
    current: dict[int, Track] = {}
    done: list[Track] = []
    missing: dict[int, bool] = {}
    number = 0
    for frame in sorted(set(rows.frame.tolist())):
        here = np.flatnonzero(rows.frame == frame)
        people = rows.identity[here].tolist()
        boxes = rows.box_xyxy[here]
        visible = rows.visibility[here]
        for i, person in enumerate(people):
            size = boxes[i, 2:] - boxes[i, :2]
            if rng.random() < 2.0 / fps:  # misses last about half a second
                missing[person] = bool(rng.random() < 0.12)
            if visible[i] < 0.35 or size[1] < 20 or missing.get(person, False):
                continue
            track = current.get(person)
            if track is not None and frame - track.frames[-1] > lost_frames:
                done.append(track)
                track = None
            if track is None:
                number += 1
                track = current[person] = Track(number)
            jitter = rng.normal(0, 0.03, 4) * np.tile(size, 2)
            track.frames.append(frame)
            track.boxes.append(boxes[i] + jitter)
            track.visibility.append(float(visible[i]))
            for j, other in enumerate(people[:i]):  # two that overlap may be confused
                overlap = _iou(boxes[i], boxes[j])
                if other in current and overlap > 0.5 and rng.random() < 0.1 * 8 / fps:
                    current[person], current[other] = current[other], current[person]
    return [t for t in [*done, *current.values()] if len(t.frames) >= 3]


def histogram(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Six horizontal strips, hue-saturation-value histogram each: a stand-in for a network."""
    hsv = cv2.cvtColor(cv2.resize(crop, (48, 96), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV)
    parts = []
    for strip in np.array_split(hsv[:, 8:-8], 6):
        counts = cv2.calcHist([strip], [0, 1, 2], None, [8, 3, 3], [0, 180, 0, 256, 0, 256])
        parts.append(np.sqrt(counts.ravel() / counts.sum()))
    vector = np.concatenate(parts).astype(np.float32)
    return vector / np.linalg.norm(vector)


def embed(tracks: list[Track], video: Path, bundle: Path | None, view: View) -> ModelRef:
    """Fill in ``Track.embeddings`` for every second frame of a track."""
    wanted: dict[int, list[tuple[Track, int]]] = {}
    for track in tracks:
        for i, frame in enumerate(track.frames):
            if i % EMBED_EVERY == 0:
                wanted.setdefault(frame, []).append((track, i))
    embedder = None
    if bundle is not None:
        from skyreid.bundle.embedder import Embedder

        embedder = Embedder([bundle], view=view)
    stream = cv2.VideoCapture(str(video))
    frame = 0
    while stream.grab():
        frame += 1
        if frame not in wanted:
            continue
        _, bgr = stream.retrieve()
        rgb = np.ascontiguousarray(bgr[..., ::-1])
        crops = []
        for track, i in wanted[frame]:
            box = track.boxes[i]
            x0, y0, x1, y1 = crop_box(
                (box[0], box[1], box[2], box[3]), rgb.shape[1], rgb.shape[0], 0.05
            )
            crops.append(rgb[y0:y1, x0:x1])
        if embedder is None:
            vectors = np.stack([histogram(c) for c in crops])
        else:
            spec = embedder.spec
            vectors = embedder.embed(np.stack([fit(c, spec) for c in crops]))
        for (track, i), vector in zip(wanted[frame], vectors, strict=True):
            track.embeddings[i] = vector
    if embedder is None:
        return ModelRef("histogram0", 432, "0" * 64, "histogram")
    return embedder.model


def sightings_of(
    track: Track, camera: str, poses: CameraPoses | None, fps: float, view: View, size: list[int]
) -> list[Sighting]:
    """What a device would say about a track: at its third box, every second, at its end."""
    moments = [2]
    for i in range(3, len(track.frames)):
        if track.frames[i] - track.frames[moments[-1]] >= fps:
            moments.append(i)
    if moments[-1] != len(track.frames) - 1:
        moments.append(len(track.frames) - 1)
    said = []
    for revision, i in enumerate(moments):
        have = [k for k in track.embeddings if k <= i]
        best = sorted(have, key=lambda k: -track.visibility[k])[: 2 * CROPS]
        used = sorted(best)[:: max(1, len(best) // CROPS)][:CROPS]
        vectors = np.stack([track.embeddings[k] for k in used])
        mean = vectors.mean(0)
        mean /= np.linalg.norm(mean)
        last = i == len(track.frames) - 1
        box = track.boxes[i]
        kind = Kind.END if last else Kind.UPDATE if revision else Kind.NEW
        said.append(
            Sighting(
                seq=0,
                camera=camera,
                view=view,
                track=track.number,
                revision=revision,
                kind=kind,
                first_seen_ns=_time_ns(track.frames[0], fps),
                captured_at_ns=_time_ns(track.frames[i], fps),
                clock=Clock.FILE,
                clock_error_ms=0,
                box=Box(*(float(v) for v in box), size[0], size[1]),
                quality=float(np.mean([track.visibility[k] for k in used])),
                crops=len(used),
                embedding=mean.astype(np.float32),
                spread=float((vectors @ mean).mean()),
                ground=_ground(poses, box, (track.frames[i] - 1) / fps),
            )
        )
    return said


def _ground(poses: CameraPoses | None, box: NDArray[np.float64], time_s: float) -> Ground | None:
    if poses is None:
        return None
    height = float(box[3] - box[1])
    return poses.at(time_s).ground(
        float(box[0] + box[2]) / 2,
        float(box[3]),
        sigma_px=1.5 + 0.05 * height,
        sigma_m=0.25,
        range_max_m=60.0,
    )


def _time_ns(frame: int, fps: float) -> int:
    return START_NS + round((frame - 1) / fps * 1e9)


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    corner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(corner, 0)))
    return both / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both)


def make(clip: Path, out: Path, *, bundle: Path | None, seed: int, pose: bool) -> None:
    """One recorded run per camera of ``clip`` under ``out``."""
    calib = json.loads((clip / "calib.json").read_text())
    for name, entry in sorted(calib.items(), key=lambda item: int(item[0])):
        camera = f"cam{name}"
        poses = read_poses(clip / "calib.json", camera)
        seeds = hashlib.sha256(f"{camera}/{seed}".encode()).digest()
        rng = np.random.default_rng(list(seeds))
        tracks = tracks_of(read_mot(clip / "gt" / f"{camera}.txt", truth=True), poses.fps, rng)
        model = embed(tracks, clip / f"{camera}.mp4", bundle, poses.view)
        info = RunInfo(
            site=clip.name,
            device=f"dev-{camera}",
            boot="1-truth",
            camera=camera,
            view=poses.view.word,
            source=str(clip / f"{camera}.mp4"),
            start_ns=START_NS,
            model_key=model.key,
        )
        said = []
        for track in tracks:
            shown = poses if pose else None
            size = [entry["width"], entry["height"]]
            said += sightings_of(track, camera, shown, poses.fps, poses.view, size)
        said.sort(key=lambda s: (s.captured_at_ns, s.track))
        with Recorder(out / camera, info) as recorder:
            by_frame = [
                (f, t.number, b) for t in tracks for f, b in zip(t.frames, t.boxes, strict=True)
            ]
            for frame, number, box in sorted(by_frame, key=lambda row: row[:2]):
                recorder.tracks(frame, [(number, box.tolist(), 1.0)])
            for seq, sighting in enumerate(said, 1):
                fields = {**sighting.__dict__, "seq": seq}
                batch = SightingBatch(
                    info.site,
                    info.device,
                    info.boot,
                    Lane.LIVE,
                    sighting.captured_at_ns,
                    model,
                    (Sighting(**fields),),
                    sighting.captured_at_ns,
                )
                recorder.sighting(encode_batch(batch))
            recorder.close(frames=max(max(t.frames) for t in tracks), sightings=len(said))
        print(f"{camera}: {len(tracks)} tracks, {len(said)} sightings")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", type=Path, help="embedder; default a colour histogram")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-pose", action="store_true", help="positions on the ground unknown")
    args = parser.parse_args()
    make(args.clip, args.out, bundle=args.bundle, seed=args.seed, pose=not args.no_pose)


if __name__ == "__main__":
    main()
