"""Score matching alone on recorded runs of a clip: pairs across views, with and without poses.

::

    python bench/matching.py CLIP RUN... [--no-pose] [--gap S] [--fpir 0.01] [--bundle DIR] [--json]

RUN is one recorded run (``skyreid-edge run --record``, or ``bench/truth_sightings.py``), or a
folder of them. Sightings are fed in order of capture and decided as they come, like live.
``accepted`` counts tentative links as none; ``live`` is the identity at first assignment. With a
``--gap`` the second half of the clip comes so many seconds later, as other tracklets; counted are
then pairs of one from before and one from after it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.recording import MotRows, read_mot, read_run, read_sightings
from skyreid.contract.sighting import Sighting, View
from skyreid.server.app import score_priors
from skyreid.server.matching.identity import Decision
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals
from skyreid.server.scoring.metrics import (
    TrackedBoxes,
    majority_person,
    score_cross_view,
    score_tracking,
)
from skyreid.server.scoring.truth import CameraTruth, match, read_truth

Told = tuple[str, str, str, Sighting]
Boxes = tuple[CameraTruth, MotRows, list[TrackKey]]
"""A camera's truth, the boxes that were tracked, and whose tracklet's each is."""


def read(
    clip: Path, runs: Iterable[Path]
) -> tuple[list[Told], dict[TrackKey, int | None], list[Boxes]]:
    """Sightings in order of capture, whom most boxes of each tracklet show, and the boxes."""
    told: list[Told] = []
    person: dict[TrackKey, int | None] = {}
    boxes: list[Boxes] = []
    truth = read_truth(clip)
    for run in runs:
        info, tracks = read_run(run), read_mot(run / "tracks" / f"{read_run(run).camera}.txt")
        found = match(truth[info.camera], tracks.frame, tracks.box_xyxy)
        for batch in read_sightings(run):
            told += [(batch.device, batch.boot, batch.model.key, s) for s in batch.sightings]
        for number in {s.track for device, _, _, s in told if device == info.device}:
            key = TrackKey(info.device, info.boot, info.camera, number)
            rows = tracks.identity == number
            person[key] = majority_person(truth[info.camera], found, rows)
        keys = [TrackKey(info.device, info.boot, info.camera, int(n)) for n in tracks.identity]
        boxes.append((truth[info.camera], tracks, keys))
    told.sort(key=lambda row: (row[3].captured_at_ns, row[0], row[3].seq))
    return told, person, boxes


def idf1(boxes: list[Boxes], names: Mapping[TrackKey, str]) -> float:
    """Of all cameras as one sequence; a tracklet that was never told of is nobody's."""
    cameras = [
        TrackedBoxes(truth, rows.frame, rows.box_xyxy, [names.get(k, k) for k in keys], keys)
        for truth, rows, keys in boxes
    ]
    frames = max(int(truth.frame.max()) for truth, _, _ in boxes)
    return round(score_tracking(cameras, frames).idf1, 3)


def decide(
    told: list[Told], options: MatchingOptions, priors: Mapping[str, Normals]
) -> tuple[Matcher, list[Decision]]:
    """All decisions, made as the sightings come in."""
    matcher, made = Matcher(options, priors=priors), []
    batch_ns = round(options.batch_s * 1e9)
    horizon_ns = told[0][3].captured_at_ns
    for device, boot, model, sighting in told:
        if sighting.captured_at_ns > horizon_ns + batch_ns:
            horizon_ns = sighting.captured_at_ns - 1
            made += matcher.advance(horizon_ns)
        matcher.add(device, boot, model, sighting)
    made += matcher.advance(None)
    return matcher, [applied.decision for applied in made]


def measure(
    names: Mapping[Hashable, str], person: Mapping[Hashable, int | None], view: Mapping
) -> dict[str, float | int]:
    """Pairs of one aerial and one ground tracklet."""
    above = [key for key in person if view[key] is View.AERIAL]
    below = [key for key in person if view[key] is View.GROUND]
    score = score_cross_view(names, person, above, below)
    return {
        "pairs": score.pairs,
        "precision": round(score.right / max(score.pairs, 1), 3),
        "recall": round(score.right / max(score.possible, 1), 3),
    }


def cut(
    told: list[Told], person: Mapping[TrackKey, int | None], gap_s: float
) -> tuple[list[Told], dict[TrackKey, int | None], set[TrackKey]]:
    """The second half that much later; which tracklets are its."""
    middle_ns = (told[0][3].captured_at_ns + told[-1][3].captured_at_ns) // 2
    gap_ns = round(gap_s * 1e9)
    out: list[Told] = []
    whose: dict[TrackKey, int | None] = {}
    later: set[TrackKey] = set()
    for device, boot, model, s in told:
        before = TrackKey(device, boot, s.camera, s.track)
        if s.captured_at_ns >= middle_ns:
            boot += "-later"
            first_ns = max(s.first_seen_ns, middle_ns) + gap_ns
            pauses = tuple(p.later(gap_ns) for p in s.pauses if p.begin_ns >= middle_ns)
            last_ns = s.captured_at_ns + gap_ns
            s = replace(s, first_seen_ns=first_ns, captured_at_ns=last_ns, pauses=pauses)
            later.add(TrackKey(device, boot, s.camera, s.track))
        whose[TrackKey(device, boot, s.camera, s.track)] = person[before]
        out.append((device, boot, model, s))
    return out, whose, later


def across(
    names: Mapping[TrackKey, str], person: Mapping[TrackKey, int | None], later: set[TrackKey]
) -> dict[str, int]:
    """Pairs of a tracklet before and one after a gap."""
    pairs = [(a, b) for a in person.keys() - later for b in later]
    one = {pair for pair in pairs if names[pair[0]] == names[pair[1]]}
    possible = {(a, b) for a, b in pairs if person[a] is not None and person[a] == person[b]}
    return {"possible": len(possible), "joined": len(one), "right": len(one & possible)}


def report(
    told: list[Told],
    person: dict[TrackKey, int | None],
    boxes: list[Boxes],
    options: MatchingOptions,
    priors: Mapping[str, Normals],
) -> dict[str, object]:
    """Everything measured of one run of the matcher."""
    begin = time.process_time()
    matcher, log = decide(told, options, priors)
    seconds = time.process_time() - begin
    state = matcher.state
    view = {TrackKey(d, b, s.camera, s.track): s.view for d, b, _, s in told}
    sure = {}
    for key, name in state.tracks.items():
        link = state.identities[name].members[key]
        tentative = link is not None and link.state == "tentative"
        sure[key] = f"{name}/{key}" if tentative else name
    first = {d.tracks[0]: d.identity for d in log if d.kind == "assign"}
    return {
        "sightings": len(told),
        "tracklets": len(person),
        "people": len({p for p in person.values() if p is not None}),
        "identities": len(state.identities),
        "cross_view": measure(state.tracks, person, view),
        "accepted": measure(sure, person, view),
        "live": measure(first, person, view),
        "idf1": idf1(boxes, state.tracks),
        "idf1_live": idf1(boxes, first),
        "decisions": dict(sorted(Counter(d.kind for d in log).items())),
        "cpu_ms_per_sighting": round(1000 * seconds / len(told), 2),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--no-pose", action="store_true", help="forget positions on the ground")
    parser.add_argument("--gap", type=float, help="seconds between the clip's two halves")
    parser.add_argument("--fpir", type=float, default=MatchingOptions().fpir)
    parser.add_argument("--bundle", type=Path, help="its score priors start the calibration")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folders = []
    for path in args.runs:
        inside = sorted(p.parent for p in path.glob("*/run.json"))
        folders += [path] if (path / "run.json").exists() else inside
    told, person, boxes = read(args.clip, folders)
    if args.no_pose:
        told = [(d, b, m, replace(s, ground=None)) for d, b, m, s in told]
    options, priors = MatchingOptions(fpir=args.fpir), score_priors(args.bundle)
    found: Mapping[str, object]
    if args.gap is None:
        found = report(told, person, boxes, options, priors)
    else:
        told, person, later = cut(told, person, args.gap)
        found = across(decide(told, options, priors)[0].state.tracks, person, later)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
