"""``skyreid-server evaluate``: what the whole chain concluded, against the truth of the clip.

Joins the recorded runs of the edge (what was detected and tracked, by frame) with the journal of
the server (which identity each tracklet got) over (device, boot, camera, track), and both with the
clip's truth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyreid.contract.camera import read_poses
from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.recording import MotRows, RunInfo, read_mot, read_run, read_sightings
from skyreid.server.broker.opening import opening_of
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.scoring.confidence import confidence_of
from skyreid.server.scoring.lineage import Lineage, lineage_of
from skyreid.server.scoring.metrics import (
    TrackedBoxes,
    majority_person,
    score_cross_view,
    score_detector,
    score_tracking,
)
from skyreid.server.scoring.report import Report, as_json, as_table
from skyreid.server.scoring.truth import CameraTruth, match, read_truth
from skyreid.server.store.beside import read_decisions, read_keys

SightingKey = tuple[str, str, int]
"""device, boot, seq"""


@dataclass(frozen=True, eq=False)
class Run:
    """One recorded run: one device with one camera.

    ``sent`` holds the sequence numbers of the recorded sightings; ``tracklets`` the tracks that
    have at least one of them.
    """

    info: RunInfo
    detections: MotRows
    tracks: MotRows
    sent: frozenset[int]
    tracklets: frozenset[int]

    def key(self, track: int) -> TrackKey:
        """The tracklet's key in the journal."""
        return TrackKey(self.info.device, self.info.boot, self.info.camera, track)


def read_recording(directory: Path, authority: Path | None = None) -> Run:
    """Read what ``skyreid-edge run --record`` wrote; ``authority`` has the keys of sealed ones.

    Raises:
        InputError: something of it is missing or damaged.
    """
    info = read_run(directory)
    opener = opening_of(authority, info.site, required=False).opener
    batches = list(read_sightings(directory, opener))
    return Run(
        info=info,
        detections=read_mot(directory / "detections" / f"{info.camera}.txt"),
        tracks=read_mot(directory / "tracks" / f"{info.camera}.txt"),
        sent=frozenset(s.seq for batch in batches for s in batch.sightings),
        tracklets=frozenset(s.track for batch in batches for s in batch.sightings),
    )


def evaluate(
    truth: Mapping[str, CameraTruth],
    fps: Mapping[str, float],
    runs: Sequence[Run],
    stored: Set[SightingKey],
    said: Lineage,
    fpir: float = MatchingOptions().fpir,
) -> Report:
    """Compare.

    Args:
        truth: by camera.
        fps: frames per second of each camera with a run; frame f was captured at the run's start
            plus (f - 1) / fps.
        runs: at most one per camera.
        stored: the keys (device, boot, seq) of the sightings in the journal.
        said: what the server concluded.
        fpir: what the server was configured to; printed beside what was measured.

    Raises:
        InputError: a run is of a camera without truth, or two are of one camera.
        PlatformError: TrackEval is not installed.
    """
    _check(truth, runs)
    frames = 0
    for run in runs:
        rows = (truth[run.info.camera].frame, run.tracks.frame)
        frames = max([frames, *(int(r.max()) for r in rows if len(r))])
    final = [_boxes(truth, run, [said.final(k) for k in _keys(run)]) for run in runs]
    live = [_boxes(truth, run, _live(run, fps[run.info.camera], said)) for run in runs]

    identity: dict[TrackKey, str] = {}
    person: dict[TrackKey, int | None] = {}
    view: dict[TrackKey, str] = {}
    for run in runs:
        here = truth[run.info.camera]
        found = match(here, run.tracks.frame, run.tracks.box_xyxy)
        for track in sorted(run.tracklets):
            key = run.key(track)
            view[key] = run.info.view
            person[key] = majority_person(here, found, run.tracks.identity == track)
            if (name := said.final(key)) is not None:
                identity[key] = name
    dropped = Counter[str]()
    for run in runs:
        dropped.update(run.info.dropped)
    sent = {(r.info.device, r.info.boot, seq) for r in runs for seq in r.sent}
    above, below = ([k for k in view if view[k] == word] for word in ("aerial", "ground"))
    return Report(
        sightings=len(sent & stored),
        missing=len(sent - stored),
        identities=len(set(identity.values())),
        tracklets=len(person),
        cross_view=score_cross_view(identity, person, above, below),
        told=confidence_of(said.told, said.steps, person, view),
        held=confidence_of(said.held, said.steps, person, view),
        fpir=fpir,
        final=score_tracking(final, frames),
        live=score_tracking(live, frames),
        detector={
            run.info.camera: score_detector(truth[run.info.camera], run.detections) for run in runs
        },
        dropped=dict(sorted(dropped.items())),
        not_run=tuple(sorted(set(truth) - {r.info.camera for r in runs})),
        unfinished=tuple(r.info.camera for r in runs if not r.info.ended),
    )


def _check(truth: Mapping[str, CameraTruth], runs: Sequence[Run]) -> None:
    seen: set[str] = set()
    for run in runs:
        camera = run.info.camera
        if camera not in truth:
            known = ", ".join(sorted(truth))
            raise InputError(f"a run is of camera {camera!r}, the clip has truth for: {known}")
        if camera in seen:
            raise InputError(f"two runs are of camera {camera!r}: give one run per camera")
        if run.info.view not in ("aerial", "ground"):
            raise InputError(f"the run of camera {camera!r} says view {run.info.view!r}")
        seen.add(camera)


def _keys(run: Run) -> list[TrackKey]:
    """The tracklet of each tracked box."""
    return [run.key(int(track)) for track in run.tracks.identity]


def _live(run: Run, fps: float, said: Lineage) -> list[str | None]:
    """The identity that each box's tracklet had at the time of the box."""
    offset_ns = np.rint((run.tracks.frame - 1) * 1e9 / fps).astype(np.int64)
    pairs = zip(_keys(run), run.info.start_ns + offset_ns, strict=True)
    return [said.at_emission(key, int(moment)) for key, moment in pairs]


def _boxes(
    truth: Mapping[str, CameraTruth], run: Run, identity: Sequence[str | None]
) -> TrackedBoxes:
    """Tracked boxes labelled by identity; a tracklet without one keeps an id of its own."""
    keys = _keys(run)
    labels: list[Hashable] = [
        key if name is None else name for key, name in zip(keys, identity, strict=True)
    ]
    rows = run.tracks
    return TrackedBoxes(truth[run.info.camera], rows.frame, rows.box_xyxy, labels, keys)


def read_fps(clip: Path, camera: str) -> float:
    """Frames per second of a clip's camera, from its ``calib.json``.

    Raises:
        InputError: there is none.
    """
    return read_poses(clip / "calib.json", camera).fps


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line; ``run`` of the parsed arguments does it."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score recorded runs and the journal against a clip's truth",
        description="Scores what the chain concluded about a clip against the clip's truth.",
    )
    parser.add_argument("clip", type=Path, metavar="CLIP_DIR", help="clip with gt/ and calib.json")
    parser.add_argument(
        "--run",
        dest="runs",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="DIR",
        help="directories that skyreid-edge run --record wrote, one per camera",
    )
    parser.add_argument("--journal", type=Path, required=True, help="the server's journal")
    parser.add_argument(
        "--authority", type=Path, help="folder of the site's authority, where devices seal"
    )
    parser.add_argument(
        "--fpir",
        type=float,
        default=MatchingOptions().fpir,
        help="matching.fpir of the server that made the journal, to print beside what was measured",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.set_defaults(run=run)


def score(
    clip: Path,
    runs: Iterable[Path],
    journal: Path,
    authority: Path | None = None,
    fpir: float = MatchingOptions().fpir,
) -> Report:
    """Recorded runs and the journal against the truth of their clip.

    Raises:
        SkyreidError: one of them cannot be read, or they do not belong together.
    """
    truth = read_truth(clip)
    recorded = [read_recording(path, authority) for path in runs]
    _check(truth, recorded)
    fps = {r.info.camera: read_fps(clip, r.info.camera) for r in recorded}
    decided = lineage_of(read_decisions(journal))
    return evaluate(truth, fps, recorded, read_keys(journal), decided, fpir)


def run(arguments: argparse.Namespace) -> int:
    """Do what the parsed arguments say; the report goes to stdout."""
    report = score(
        arguments.clip, arguments.runs, arguments.journal, arguments.authority, arguments.fpir
    )
    text = json.dumps(as_json(report)) + "\n" if arguments.json else as_table(report)
    sys.stdout.write(text)
    return 0
