"""The report against the truth: small worlds whose numbers can be worked out by hand."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.camera import CameraModel, CameraPoses, write_poses
from skyreid.contract.errors import InputError, PlatformError
from skyreid.contract.identity_event import Match, TrackKey
from skyreid.contract.recording import MotRows, Recorder, RunInfo
from skyreid.contract.sighting import (
    Box,
    Clock,
    Kind,
    Lane,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import encode_batch, encode_sighting
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.scoring.command import Run, add_parser, evaluate
from skyreid.server.scoring.lineage import Lineage
from skyreid.server.scoring.report import Report, as_json, as_table
from skyreid.server.scoring.truth import CameraTruth
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived

FRAMES = 20
FPS = 10.0
START_NS = 1_000_000_000_000
CAMERAS = {"cam1": "aerial", "cam6": "ground"}


def box(person: int, frame: int) -> list[float]:
    """Where a person stands: 40 x 100 px, people far apart, walking to the right."""
    x = 200.0 * person + frame
    return [x, 300.0, x + 40.0, 400.0]


def rows(entries: Sequence[tuple[int, int, list[float]]]) -> MotRows:
    table = sorted(entries, key=lambda e: e[0])
    return MotRows(
        np.array([e[0] for e in table], np.int64),
        np.array([e[1] for e in table], np.int64),
        np.array([e[2] for e in table], float).reshape(-1, 4),
        np.ones(len(table)),
        np.ones(len(table)),
    )


def truth_of(entries: Sequence[tuple[int, int, list[float], bool]]) -> CameraTruth:
    frame, person, boxes, cared = zip(*sorted(entries, key=lambda e: e[0]), strict=True)
    return CameraTruth(
        np.array(frame), np.array(person), np.array(boxes, float), np.array(cared, bool)
    )


def walkers(people: Sequence[int] = (1, 2)) -> dict[str, CameraTruth]:
    entries = [(f, p, box(p, f), True) for f in range(1, FRAMES + 1) for p in people]
    return {camera: truth_of(entries) for camera in CAMERAS}


def run_of(camera: str, tracks: MotRows, sighted: Sequence[int] | None = None) -> Run:
    info = RunInfo(
        site="s",
        device=f"dev-{camera}",
        boot="b1",
        camera=camera,
        view=CAMERAS[camera],
        source="x.mp4",
        start_ns=START_NS,
        model_key="k",
        ended=True,
        dropped={"quality": 3},
    )
    known = sorted(set(tracks.identity.tolist())) if sighted is None else sighted
    return Run(info, tracks, tracks, frozenset(range(len(known))), frozenset(known))


def perfect_tracks(people: Sequence[int] = (1, 2)) -> MotRows:
    return rows([(f, p, box(p, f)) for f in range(1, FRAMES + 1) for p in people])


def key(camera: str, track: int) -> TrackKey:
    return TrackKey(f"dev-{camera}", "b1", camera, track)


def said(names: Mapping[TrackKey, str]) -> Lineage:
    return Lineage({k: ((START_NS, name),) for k, name in names.items()})


def report_of(
    runs: Sequence[Run],
    lineage: Lineage,
    truth: Mapping[str, CameraTruth] | None = None,
    stored: frozenset[tuple[str, str, int]] = frozenset(),
) -> Report:
    return evaluate(truth or walkers(), dict.fromkeys(CAMERAS, FPS), runs, stored, lineage)


def perfect_lineage() -> Lineage:
    return said({key(c, p): f"P{p}" for c in CAMERAS for p in (1, 2)})


def perfect_runs() -> list[Run]:
    return [run_of(camera, perfect_tracks()) for camera in CAMERAS]


def test_a_perfect_chain_scores_one_everywhere():
    every = frozenset((f"dev-{c}", "b1", seq) for c in CAMERAS for seq in (0, 1))
    report = as_json(report_of(perfect_runs(), perfect_lineage(), stored=every))

    assert [report[k] for k in ("idf1", "idf1_live", "hota", "assa")] == [1.0] * 4
    assert report["cross_view"] == {
        "pairs": 2,
        "right": 2,
        "possible": 2,
        "precision": 1.0,
        "recall": 1.0,
    }
    assert report["detector"] == {c: {"recall": 1.0, "precision": 1.0} for c in CAMERAS}
    assert (report["sightings"], report["sightings_missing"]) == (4, 0)
    assert (report["identities"], report["tracklets"]) == (2, 4)
    assert report["dropped"] == {"quality": 6}


def test_identities_that_differ_between_the_views_halve_idf1():
    lineage = said({key(c, p): f"{c}-{p}" for c in CAMERAS for p in (1, 2)})

    report = report_of(perfect_runs(), lineage)

    # Each person has two identities of 20 boxes; only one of them may be the person's.
    assert report.final.idf1 == pytest.approx(0.5)
    assert report.final.assa == pytest.approx(0.5)
    assert (report.cross_view.pairs, report.cross_view.precision) == (0, None)
    assert report.cross_view.recall == 0.0


def test_identities_swapped_for_a_quarter_of_the_boxes_cost_a_quarter():
    swapped = rows(
        [
            (f, p if f <= FRAMES // 2 else 3 - p, box(p, f))
            for f in range(1, FRAMES + 1)
            for p in (1, 2)
        ]
    )
    runs = [run_of("cam1", perfect_tracks()), run_of("cam6", swapped)]

    report = report_of(runs, perfect_lineage())

    assert report.final.idf1 == pytest.approx(0.75)
    assert {c: s.recall for c, s in report.detector.items()} == {"cam1": 1.0, "cam6": 1.0}


def test_a_tracklet_without_an_identity_keeps_an_id_of_its_own():
    lineage = said({key("cam1", 1): "P1", key("cam6", 1): "P1", key("cam1", 2): "P2"})

    report = report_of(perfect_runs(), lineage)

    assert report.final.idf1 == pytest.approx(0.75)
    assert report.cross_view.recall == 0.5


def test_a_correction_that_came_later_counts_at_the_end_but_not_live():
    right = START_NS + int((FRAMES // 2) / FPS * 1e9)  # from frame 11 on
    steps: dict[TrackKey, tuple[tuple[int, str], ...]] = {
        k: ((START_NS, f"P{k.track}"),) for k in (key(c, p) for c in CAMERAS for p in (1, 2))
    }
    steps[key("cam6", 1)] = ((START_NS, "X"), (right, "P1"))

    report = report_of(perfect_runs(), Lineage(steps))

    assert report.final.idf1 == 1.0
    # 10 of 80 boxes stood under X, which is nobody else's: 10 missed and 10 too many.
    assert report.live.idf1 == pytest.approx(70 / 80)


def test_two_tracklets_of_one_camera_under_one_identity_are_paid_for():
    one_name = said({key(c, p): "P1" for c in CAMERAS for p in (1, 2)})

    report = report_of(perfect_runs(), one_name)

    # P1 holds one box a frame and camera (40); the 40 boxes beside it are of nobody's identity.
    assert report.final.idf1 == pytest.approx(0.75)
    assert report.cross_view.precision == 0.5


def test_tracking_leaves_dont_care_people_out():
    entries = [(f, p, box(p, f), p == 1) for f in range(1, FRAMES + 1) for p in (1, 2)]
    truth = {camera: truth_of(entries) for camera in CAMERAS}

    report = report_of(perfect_runs(), perfect_lineage(), truth)

    assert report.final.idf1 == 1.0
    # A half-hidden person is still that person: the pair across the views is right.
    assert report.cross_view.right == 2


def test_a_pair_with_a_tracklet_that_is_nobody_is_wrong():
    ghost = rows([(f, 9, [900.0, 10.0, 940.0, 110.0]) for f in range(1, FRAMES + 1)])
    runs = [run_of("cam1", ghost), run_of("cam6", perfect_tracks())]
    lineage = said({key("cam1", 9): "P1", key("cam6", 1): "P1", key("cam6", 2): "P2"})

    score = report_of(runs, lineage).cross_view

    assert (score.pairs, score.right, score.possible) == (1, 0, 0)
    assert (score.precision, score.recall) == (0.0, None)


def test_recall_counts_only_tracklets_that_have_a_sighting():
    runs = [run_of("cam1", perfect_tracks(), sighted=[1]), run_of("cam6", perfect_tracks())]

    score = report_of(runs, perfect_lineage()).cross_view

    assert (score.pairs, score.possible) == (1, 1)


def test_sightings_that_the_journal_lacks_are_counted():
    stored = frozenset({("dev-cam1", "b1", 0), ("dev-cam1", "b1", 77), ("dev-cam6", "b2", 0)})

    report = report_of(perfect_runs(), perfect_lineage(), stored=stored)

    assert (report.sightings, report.missing) == (1, 3)


def test_two_runs_of_one_camera_are_refused():
    runs = [run_of("cam1", perfect_tracks()), run_of("cam1", perfect_tracks())]
    with pytest.raises(InputError, match="two runs are of camera 'cam1'"):
        report_of(runs, perfect_lineage())


def test_a_run_of_a_camera_without_truth_is_refused():
    with pytest.raises(InputError, match="truth for: cam6"):
        report_of([run_of("cam1", perfect_tracks())], said({}), {"cam6": walkers()["cam6"]})


def test_nothing_tracked_scores_zero_and_says_there_were_no_boxes():
    report = as_json(report_of([run_of(c, rows([])) for c in CAMERAS], said({})))

    assert [report[k] for k in ("idf1", "hota", "assa")] == [0.0] * 3
    assert report["detector"]["cam1"] == {"recall": 0.0, "precision": None}
    assert report["cross_view"]["precision"] is None


def test_the_table_is_for_people_and_fits_a_terminal():
    table = as_table(report_of(perfect_runs(), perfect_lineage()))

    assert "precision 100.0%" in table
    assert "cam6" in table
    assert "quality 6" in table
    assert max(map(len, table.splitlines())) <= 100


def sighting(camera: str, track: int, seq: int) -> Sighting:
    x0, y0, x1, y1 = box(track, FRAMES)
    return Sighting(
        seq=seq,
        camera=camera,
        view=View.of(CAMERAS[camera]),
        track=track,
        revision=0,
        kind=Kind.END,
        first_seen_ns=START_NS,
        captured_at_ns=START_NS + int((FRAMES - 1) / FPS * 1e9),
        clock=Clock.FILE,
        clock_error_ms=0,
        box=Box(x0, y0, x1, y1, 1280, 720),
        quality=0.9,
        crops=4,
        embedding=np.eye(1, 8, track, dtype=np.float32)[0],
        spread=0.9,
    )


def record(directory: Path, camera: str) -> list[Sighting]:
    """A recorded run of a perfect edge process."""
    info = run_of(camera, perfect_tracks()).info
    sightings = [sighting(camera, track, seq) for seq, track in enumerate((1, 2), 1)]
    with Recorder(directory, info) as recorder:
        for frame in range(1, FRAMES + 1):
            boxes = np.array([box(1, frame), box(2, frame)])
            recorder.detections(frame, boxes, np.ones(2))
            recorder.tracks(frame, [(p, box(p, frame), 1.0) for p in (1, 2)])
        for one in sightings:
            model = ModelRef("k", 8, "00", "m")
            recorder.sighting(
                encode_batch(
                    SightingBatch("s", info.device, info.boot, Lane.LIVE, START_NS, model, (one,))
                )
            )
        recorder.close(frames=FRAMES, sightings=2, dropped={"quality": 1})
    return sightings


@pytest.fixture
def chain(tmp_path: Path) -> list[str]:
    """Arguments of the command for a clip, two runs and a journal that agree with each other."""
    clip, journal_path = tmp_path / "clip", tmp_path / "journal.db"
    (clip / "gt").mkdir(parents=True)
    model = CameraModel(np.eye(3), np.eye(3), np.zeros(3), 1280, 720)
    poses = {c: CameraPoses(View.of(v), FPS, (1,), (model,)) for c, v in CAMERAS.items()}
    write_poses(clip / "calib.json", poses)
    journal = Journal(journal_path, "s", pictures_max_bytes=1 << 20)
    for camera in CAMERAS:
        lines = [
            f"{f},{p},{box(p, f)[0]},{box(p, f)[1]},40,100,1,1,1.0"
            for f in range(1, FRAMES + 1)
            for p in (1, 2)
        ]
        (clip / "gt" / f"{camera}.txt").write_text("\n".join(lines) + "\n")
        device = f"dev-{camera}"
        stored = [
            Arrived(device, "b1", 1, "k", 8, START_NS, one, encode_sighting(one))
            for one in record(tmp_path / camera, camera)
        ]
        journal.store(stored[: 1 if camera == "cam6" else 2])
    link = Match("accepted", 0.9, key("cam1", 1), ())
    journal.decide(
        [
            Applied(Decision("assign", START_NS, "P1", (key("cam1", 1),)), ()),
            Applied(Decision("assign", START_NS, "P2", (key("cam1", 2),)), ()),
            Applied(Decision("assign", START_NS, "P1", (key("cam6", 1),), match=link), ()),
        ],
        START_NS,
    )
    journal.close()
    runs = [str(tmp_path / camera) for camera in CAMERAS]
    return ["evaluate", str(clip), "--run", *runs, "--journal", str(journal_path)]


def call(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parser.parse_args(arguments)
    code: int = parsed.run(parsed)
    return code


def test_the_command_joins_runs_journal_and_truth(
    chain: list[str], capfd: pytest.CaptureFixture[str]
):
    assert call([*chain, "--json"]) == 0

    printed = capfd.readouterr()
    report = json.loads(printed.out)
    assert printed.err == ""
    assert (report["sightings"], report["sightings_missing"]) == (3, 1)
    assert (report["identities"], report["tracklets"]) == (2, 4)
    assert report["cross_view"]["precision"] == 1.0
    assert report["cross_view"]["recall"] == 0.5
    assert report["idf1"] == report["idf1_live"] == 0.75
    # One link, of two tracklets of one person, said to be right by .9; the third founded somebody.
    for said in report["confidence"].values():
        assert [(b["n"], b["stated"], b["right"]) for b in said["bins"] if b["n"]] == [(1, 0.9, 1)]
        assert said["ece"] == said["cross_view"]["ece"] == 0.1
    rates = {"fpir": 0.0, "fnir": 0.0, "first": 2, "again": 1}
    assert report["open_set"] == {"configured": 0.01, **rates, "told": rates}
    assert report["dropped"] == {"quality": 2}
    assert report["cameras_unfinished"] == []


def test_the_command_prints_a_table_without_json(
    chain: list[str], capfd: pytest.CaptureFixture[str]
):
    assert call(chain) == 0
    printed = capfd.readouterr().out
    assert "3 sightings in the journal, 1 missing" in printed
    assert "strangers taken for somebody, configured 1.0%" in printed
    assert "0.900 to 0.950" in printed


def test_a_journal_that_is_not_there_is_named(chain: list[str]):
    with pytest.raises(InputError, match=r"nowhere\.db"):
        call([*chain[:-1], "nowhere.db"])


def test_without_trackeval_the_command_names_the_extra(
    chain: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(PlatformError, match="pip install trackeval"):
        call(chain)
