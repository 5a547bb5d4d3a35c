"""Tracks in which somebody else goes on: cut there, and no sighting mixes two people."""

import itertools
from collections.abc import Sequence

import numpy as np

from skyreid.bundle.detections import Detections
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import Kind, Sighting, View
from skyreid.edge.people.collector import Collector
from skyreid.edge.people.options import CollectorOptions
from skyreid.edge.people.tracker import Tracker
from skyreid.edge.sighter import Follower, Seen
from skyreid.edge.video.frame import Frame

FPS = 8
NOISE = np.random.default_rng(0).integers(60, 255, (200, 200), np.uint8)
LIKE = 0.55
SPEC = InputSpec(height=32, width=16)


def embed(crops: np.ndarray) -> np.ndarray:
    """By colour alone."""
    vectors = crops.reshape(len(crops), -1, 3).mean(1).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def frame(number: int, colour: Sequence[float]) -> Frame:
    picture = (NOISE[..., None] * np.array(colour)).astype(np.uint8)
    return Frame.of_rgb(picture, number=number, captured_at_ns=10**9 + number * 10**9 // FPS)


class OneBox:
    """Finds one person who stands still, whoever that is."""

    def __init__(self) -> None:
        self.missing = False

    def detect(self, frame: Frame) -> Detections:
        boxes = np.array([[50, 40, 100, 160]], np.float32)[: 0 if self.missing else 1]
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32))


RED, BLUE, GREEN = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)


def follower(**options: float) -> Follower:
    chosen = CollectorOptions.model_validate(options)

    def follow() -> tuple[Tracker, Collector]:
        collector = Collector(
            embed, SPEC, camera="cam1", view=View.GROUND, options=chosen, like_min=LIKE
        )
        return Tracker(), collector

    return Follower("cam1", OneBox(), follow)


def play(colours: Sequence[Sequence[float]], **options: float) -> tuple[list[Seen], Follower]:
    whole = follower(**options)
    seen = [whole.look(frame(n, colour)) for n, colour in enumerate(colours, 1)]
    return [*seen, whole.finish()], whole


def sightings(seen: Sequence[Seen]) -> list[Sighting]:
    return [statement.sighting for each in seen for statement in each.statements]


def colour_of(said: Sighting) -> str:
    assert said.embedding.max() > 0.999, "of two people"
    return "RGB"[int(said.embedding.argmax())]


def test_where_somebody_else_goes_on_the_track_ends_and_another_begins() -> None:
    seen, _ = play([RED] * 30 + [BLUE] * 30)
    said = sightings(seen)
    assert {(s.track, colour_of(s)) for s in said} == {(1, "R"), (2, "B")}
    first = [s for s in said if s.track == 1]
    second = [s for s in said if s.track == 2]
    assert [first[-1].kind, second[0].kind, second[-1].kind] == [Kind.END, Kind.NEW, Kind.END]
    assert [s.revision for s in second] == list(range(1, len(second) + 1))
    assert first[-1].captured_at_ns < second[0].first_seen_ns
    assert sum(s.cut for s in seen) == 1
    # It is known within a second and a half of the change, and goes on with the crops from then.
    assert second[0].captured_at_ns <= 10**9 + (30 + 12) * 10**9 // FPS
    assert second[0].crops >= 2


def test_one_odd_crop_changes_nothing_and_is_in_nobody_s_embedding() -> None:
    for length in (1, 3):
        seen, _ = play([RED] * 20 + [BLUE] * length + [RED] * 20)
        said = sightings(seen)
        assert {(s.track, colour_of(s)) for s in said} == {(1, "R")}
        assert sum(s.cut for s in seen) == 0


def test_of_a_track_that_begins_with_somebody_else_only_that_crop_is_left_out() -> None:
    seen, _ = play([BLUE] * 3 + [RED] * 30)
    assert {(s.track, colour_of(s)) for s in sightings(seen)} == {(1, "R")}


def test_who_turns_round_step_by_step_stays_the_same_person() -> None:
    angles = np.linspace(0, np.pi / 2, 40)
    seen, _ = play([(float(np.cos(a)), float(np.sin(a)), 0.0) for a in angles])
    assert {s.track for s in sightings(seen)} == {1}
    assert sum(s.cut for s in seen) == 0


def test_a_track_that_ends_in_doubt_says_only_what_was_sure() -> None:
    seen, _ = play([RED] * 20 + [BLUE] * 5)
    assert {(s.track, colour_of(s)) for s in sightings(seen)} == {(1, "R")}
    assert sightings(seen)[-1].kind is Kind.END


def test_a_model_that_does_not_say_how_cosines_are_spread_cuts_nobody() -> None:
    collector = Collector(embed, SPEC, camera="cam1", view=View.GROUND)
    whole = Follower("cam1", OneBox(), lambda: (Tracker(), collector))
    seen = [whole.look(frame(n, RED if n < 20 else BLUE)) for n in range(1, 60)]
    assert sum(s.cut for s in seen) == 0


def test_a_third_person_is_a_third_tracklet() -> None:
    seen, whole = play([RED] * 24 + [BLUE] * 24 + [GREEN] * 24)
    assert {(s.track, colour_of(s)) for s in sightings(seen)} == {(1, "R"), (2, "B"), (3, "G")}
    assert sum(s.cut for s in seen) == 2
    assert [t.number for t in whole.tracks] == [3]


def test_no_statement_is_older_than_the_watermark_before_it() -> None:
    seen, _ = play([RED] * 21 + [BLUE] * 30 + [RED] * 25)
    for before, after in itertools.pairwise(seen):
        for statement in after.statements:
            assert statement.sighting.captured_at_ns >= before.watermark_ns


def test_few_crops_are_embedded_more_than_are_kept() -> None:
    """In the long run one a look: of what is not among the best only the newest is compared."""
    asked: list[int] = []

    def counting(crops: np.ndarray) -> np.ndarray:
        asked.append(len(crops))
        return embed(crops)

    collector = Collector(counting, SPEC, camera="cam1", view=View.GROUND, like_min=LIKE)
    whole = Follower("cam1", OneBox(), lambda: (Tracker(), collector))
    for number in range(1, 20 * FPS):
        whole.look(frame(number, RED))
    asked.clear()
    for number in range(20 * FPS, 40 * FPS):
        whole.look(frame(number, RED))
    assert sum(asked) <= 22


def test_what_was_cut_is_counted_over_a_restart_and_no_number_comes_twice() -> None:
    whole = follower()
    seen = [whole.look(frame(n, RED if n < 20 else BLUE)) for n in range(1, 33)]
    seen.append(whole.restart())
    seen += [whole.look(frame(n, RED)) for n in range(33, 60)] + [whole.finish()]
    assert sum(s.cut for s in seen) == 1
    said = sightings(seen)
    assert [s.kind for s in said].count(Kind.NEW) == len({s.track for s in said}) == 3
