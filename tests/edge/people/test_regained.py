"""Who was lost and is found again goes on in the tracklet that they had; nobody else does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from skyreid.bundle.detections import Detections
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.recording import Recorder, RunInfo, read_mot
from skyreid.contract.sighting import MAX_PAUSES, Ground, Kind, Sighting, View
from skyreid.contract.sighting_wire import decode_sighting, encode_sighting
from skyreid.edge.people.collector import Collector
from skyreid.edge.people.options import CollectorOptions
from skyreid.edge.people.regained import KEPT_S, Known, Locate, RegainTuning, Spot, Trail, regained
from skyreid.edge.people.tracker import Tracker
from skyreid.edge.sighter import Follower, Seen
from skyreid.edge.video.frame import Frame

FPS = 8
LIKE = 0.3
SPEC = InputSpec(height=32, width=16)
NOISE = np.random.default_rng(0).integers(60, 255, (240, 480), np.uint8)
RED, BLUE, GREEN = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
People = Mapping[int, Sequence[float]]
"""Left edges of boxes, and the colour of whoever is in each."""


def embed(crops: np.ndarray) -> np.ndarray:
    """By colour alone."""
    vectors = crops.reshape(len(crops), -1, 3).mean(1).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


@dataclass
class Scene:
    """Finds whoever is there, and tells what it is made to believe about poses: nothing."""

    people: People

    def detect(self, frame: Frame) -> Detections:
        boxes = np.array([[x, 40, x + 50, 160] for x in self.people], np.float32).reshape(-1, 4)
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32))

    def frame(self, number: int) -> Frame:
        picture = np.zeros((240, 480, 3), np.uint8)
        for x, colour in self.people.items():
            part = np.s_[30:170, max(x - 10, 0) : x + 60]
            picture[part] = NOISE[part][..., None] * np.array(colour)
        return Frame.of_rgb(picture, number=number, captured_at_ns=10**9 + number * 10**9 // FPS)


def play(
    frames: Sequence[People], like_min: float | None = LIKE, recorder: Recorder | None = None
) -> tuple[list[Seen], Follower]:
    scene = Scene({})

    def follow() -> tuple[Tracker, Collector]:
        collector = Collector(
            embed,
            SPEC,
            camera="cam1",
            view=View.GROUND,
            options=CollectorOptions.model_validate({"crops_min": 2}),
            like_min=like_min,
        )
        return Tracker(), collector

    whole = Follower("cam1", scene, follow, recorder=recorder)
    seen = []
    for number, people in enumerate(frames, 1):
        scene.people = people
        seen.append(whole.look(scene.frame(number)))
    return [*seen, whole.finish()], whole


def sightings(seen: Sequence[Seen]) -> list[Sighting]:
    return [statement.sighting for each in seen for statement in each.statements]


def colour_of(said: Sighting) -> str:
    return "RGB"[int(said.embedding.argmax())]


def in_order(seen: Sequence[Seen]) -> None:
    """Each revision once and in order, and nothing older than the watermark before it."""
    revisions: dict[int, int] = {}
    watermark_ns = 0
    for each in seen:
        for said in (s.sighting for s in each.statements):
            assert said.revision == revisions.get(said.track, 0) + 1
            assert said.captured_at_ns >= watermark_ns
            revisions[said.track] = said.revision
        watermark_ns = each.watermark_ns


@pytest.mark.parametrize("away", [6, 10, 16, 24])
def test_who_comes_back_within_seconds_goes_on_also_after_their_last_word(away: int) -> None:
    """6 frames: the tracker would go on by itself; it gives up after a second."""
    seen, whole = play([{50: RED}] * 24 + [{}] * away + [{50: RED}] * 24)
    said = sightings(seen)
    assert {s.track for s in said} == {1}
    assert [t.number for t in whole.tracks] == [1]
    assert said[-1].kind is Kind.END
    assert {s.first_seen_ns for s in said} == {said[0].first_seen_ns}
    assert sum(s.kind is Kind.NEW for s in said) == 1
    assert (Kind.END in [s.kind for s in said[:-1]]) == (away > FPS)
    in_order(seen)


def frame_ns(number: int, fps: float = FPS) -> int:
    return 10**9 + round(number * 10**9 / fps)


@pytest.mark.parametrize("away", [1, 4, 5, 6, 16, 24])
def test_who_was_hidden_for_longer_than_half_a_second_has_a_pause(away: int) -> None:
    """From the first frame without them; also where the tracker went on by itself."""
    seen, _ = play([{50: RED}] * 24 + [{}] * away + [{50: RED}] * 24)
    said = sightings(seen)
    assert {s.track for s in said} == {1}
    told = [(p.begin_ns, p.end_ns) for p in said[-1].pauses]
    assert told == ([(frame_ns(25), frame_ns(25 + away))] if away > FPS / 2 else [])
    for each in said:  # nothing is a pause before it is over
        assert all(p.end_ns <= each.captured_at_ns for p in each.pauses)
        again = decode_sighting(encode_sighting(each), 3)
        assert len(again.pauses) == len(each.pauses)


def test_each_time_somebody_is_hidden_is_a_pause_also_those_before_they_went_on() -> None:
    frames = [{50: RED}] * 16 + [{}] * 6 + [{50: RED}] * 8 + [{}] * 12 + [{50: RED}] * 16
    seen, _ = play(frames)
    last = sightings(seen)[-1]
    assert [(p.begin_ns, p.end_ns) for p in last.pauses] == [
        (frame_ns(17), frame_ns(23)),
        (frame_ns(31), frame_ns(43)),
    ]
    assert last.first_seen_ns == frame_ns(1)


@pytest.mark.parametrize("fps", [1.25, 8.0])
def test_where_no_frame_was_looked_at_nobody_was_missed(fps: float) -> None:
    """A device that looks once a second, and a stream that stood still for three."""
    trail = Trail()
    for number in range(6):
        trail.note(spot(number / fps + (3 if number > 3 else 0), 0.0))
    assert trail.pauses == ()


def test_of_more_pauses_than_a_sighting_says_the_shortest_are_left_out() -> None:
    trail, at_s = Trail(), 0.0
    for number in range(MAX_PAUSES + 8):
        trail.note(spot(at_s, 0.0))
        trail.miss(round((at_s + 0.125) * 1e9))
        at_s += 0.9 if number % 5 == 0 else 2.0
    trail.note(spot(at_s, 0.0))
    assert len(trail.pauses) == MAX_PAUSES
    assert {p.end_ns - p.begin_ns for p in trail.pauses} == {1_875_000_000}


def test_somebody_else_at_the_same_place_is_another_tracklet() -> None:
    seen, _ = play([{50: RED}] * 24 + [{}] * 12 + [{50: BLUE}] * 24)
    assert {(s.track, colour_of(s)) for s in sightings(seen)} == {(1, "R"), (2, "B")}
    in_order(seen)


def test_who_comes_back_later_or_farther_than_anybody_walks_is_another_tracklet() -> None:
    for frames in (
        [{50: RED}] * 24 + [{}] * round(FPS * (KEPT_S + 1)) + [{50: RED}] * 24,
        [{50: RED}] * 24 + [{}] * 10 + [{400: RED}] * 24,
    ):
        seen, _ = play(frames)
        assert {s.track for s in sightings(seen)} == {1, 2}


def test_who_is_still_in_the_picture_is_nobody_s_past() -> None:
    seen, _ = play([{50: RED}] * 24 + [{50: RED, 150: RED}] * 24)
    assert {s.track for s in sightings(seen)} == {1, 2}


def test_nobody_was_last_seen_earlier_than_they_were() -> None:
    """A second box of somebody, in three of their last five frames, ends before they do."""
    frames = [{50: RED}] * 19 + [{50: RED, 100: RED}] * 3 + [{50: RED}] * 2 + [{}] * 24
    seen, _ = play(frames)
    said = sightings(seen)
    assert {s.track for s in said} == {1}
    assert said[-1].captured_at_ns == 10**9 + 24 * 10**9 // FPS
    in_order(seen)


def test_two_who_are_alike_and_were_both_lost_stay_apart() -> None:
    """Which of them it is nobody knows."""
    seen, _ = play([{50: RED, 110: RED}] * 24 + [{}] * 12 + [{80: RED}] * 24)
    assert {s.track for s in sightings(seen)} == {1, 2, 3}


def test_two_who_are_lost_and_come_back_have_their_own_tracklets_again() -> None:
    seen, _ = play([{50: RED, 110: BLUE}] * 24 + [{}] * 12 + [{50: BLUE, 110: RED}] * 24)
    said = sightings(seen)
    by_track = {t: {colour_of(s) for s in said if s.track == t} for t in {s.track for s in said}}
    assert by_track in ({1: {"R"}, 2: {"B"}}, {1: {"B"}, 2: {"R"}})
    in_order(seen)


def test_who_goes_on_in_another_s_boxes_is_not_taken_for_them_and_may_be_an_earlier_one() -> None:
    """Red is lost, blue is followed, red goes on in blue's boxes: red's tracklet, not blue's."""
    frames = [{50: RED, 110: BLUE}] * 24 + [{110: BLUE}] * 12 + [{110: RED}] * 24
    seen, _ = play(frames)
    said = sightings(seen)
    by_track = {t: {colour_of(s) for s in said if s.track == t} for t in {s.track for s in said}}
    assert sorted(by_track.values(), key=min) == [{"B"}, {"R"}]
    assert sum(s.cut for s in seen) == 1
    in_order(seen)


def test_a_model_that_does_not_say_how_cosines_are_spread_finds_nobody_again() -> None:
    seen, _ = play([{50: RED}] * 24 + [{}] * 12 + [{50: RED}] * 24, like_min=None)
    assert {s.track for s in sightings(seen)} == {1, 2}


def test_numbers_stay_unique_over_a_restart() -> None:
    _, whole = play([{50: RED}] * 24 + [{}] * 12 + [{50: RED}] * 24)
    whole.restart()
    scene = Scene({50: RED})
    whole._detector = scene
    said = [whole.look(scene.frame(number)) for number in range(100, 130)]
    assert {s.track for s in sightings(said)}.isdisjoint({1, 2})


def test_a_recording_has_everybody_under_the_number_that_they_are_told_by(tmp_path: Path) -> None:
    """Also the frames before it was known who it is, and who was never told of."""
    info = RunInfo(
        site="s", device="d", boot="1-0", camera="cam1", view="ground", source="x", start_ns=0,
        model_key="m",
    )  # fmt: skip
    two: People = {50: RED, 300: BLUE}
    alone: list[People] = [*[{50: RED}] * 24, *[{}] * 12]
    frames = [*alone, *[two] * 20, *[{**two, 400: GREEN}] * 4, *[two] * 20]
    with Recorder(tmp_path, info) as recorder:
        seen, _ = play(frames, recorder=recorder)
    rows = read_mot(tmp_path / "tracks" / "cam1.txt")
    left = {number: set(rows.box_xyxy[rows.identity == number, 0]) for number in rows.identity}
    assert all(len(edges) == 1 for edges in left.values())
    assert left[1] == {50.0}
    assert {300.0} in left.values()
    assert {400.0} in left.values()
    assert rows.frame[rows.identity == 1].max() == len(frames)
    assert len(rows.frame) == len({(f, n) for f, n in zip(rows.frame, rows.identity, strict=True)})
    again = rows.frame[(rows.identity == 1) & (rows.frame > 30)]
    assert again.min() <= 40  # 36 without, and three until it is believed
    assert {s.track for s in sightings(seen)} <= set(left)


def test_a_tracker_lets_nobody_have_two_tracks_of_one_number() -> None:
    tracker, boxes = Tracker(), np.array([[50, 40, 100, 160], [300, 40, 350, 160]], np.float32)
    for step in range(4):
        tracker.update(Detections(boxes[:1], np.array([0.9], np.float32)), step / FPS)
    for step in range(4, 8):
        tracks = tracker.update(Detections(boxes[1:], np.array([0.9], np.float32)), step / FPS)
    assert [t.number for t in tracks] == [1, 2]
    tracker.go_on_as(2, 1)
    tracks = tracker.update(Detections(boxes[1:], np.array([0.9], np.float32)), 1.0)
    assert [(t.number, t.detected) for t in tracks] == [(1, True)]
    with pytest.raises(KeyError, match="7"):
        tracker.go_on_as(7, 1)


# --- whom it can be ------------------------------------------------------------------------------

HERE = np.array([1.0, 0.0], np.float32)
T = RegainTuning()


def spot(time_s: float, x: float) -> Spot:
    """``x`` in metres, by `place`."""
    return Spot(round(time_s * 1e9), (100 * x, 0.0, 100 * x + 50, 100.0), None)


def place(at: Spot) -> Ground | None:
    return Ground(at.box_xyxy[0] / 100, 0.0, 0.01, 0.0, 0.01)


def nowhere(at: Spot) -> Ground | None:
    return None


def known(times_s: Sequence[float], xs: Sequence[float], look: np.ndarray = HERE) -> Known:
    trail = Trail()
    for t, x in zip(times_s, xs, strict=True):
        trail.note(spot(t, x))
    return Known(trail, look)


WALKS = known((0, 0.5, 1.0), (0.0, 0.7, 1.4))
"""1.4 m/s towards the right."""


def pairs(
    new: Sequence[Known], lost: Sequence[Known], locate: Locate = place
) -> list[tuple[int, int]]:
    return regained(new, lost, locate, LIKE, T)


def test_where_somebody_would_have_walked_to_decides() -> None:
    for later_s in (0.2, 1.0, 3.0, KEPT_S):
        there = known((1 + later_s,), (1.4 + 1.4 * later_s,))
        assert pairs([there], [WALKS]) == [(0, 0)]
    assert pairs([known((1.2,), (4.4,))], [WALKS]) == []  # 15 m/s
    assert pairs([known((1.1 + KEPT_S,), (1.4,))], [WALKS]) == []


def test_without_a_place_the_picture_decides() -> None:
    assert pairs([known((2.0,), (1.9,))], [WALKS], nowhere) == [(0, 0)]
    assert pairs([known((2.0,), (9.0,))], [WALKS], nowhere) == []


def test_a_track_may_have_gone_on_for_half_a_second_in_a_passer_by_s_boxes() -> None:
    assert pairs([known((0.6, 1.1), (1.2, 1.5))], [WALKS]) == [(0, 0)]
    assert pairs([known((0.4, 1.1), (1.2, 1.5))], [WALKS]) == []


def test_the_looks_must_be_alike_and_no_other_who_can_be_it_nearly_so() -> None:
    def look(cosine: float) -> np.ndarray:
        return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)

    new = [known((2.0,), (2.8,))]
    least = LIKE + T.like_more + T.like_more_each_s
    assert pairs(new, [replace(WALKS, look=look(least + 0.01))]) == [(0, 0)]
    assert pairs(new, [replace(WALKS, look=look(least - 0.01))]) == []
    other = known((0, 0.5, 1.0), (0.5, 1.2, 1.9), look(0.95))
    assert pairs(new, [WALKS, other]) == []  # 1.0 and .95: either
    assert pairs(new, [WALKS, replace(other, look=look(0.8))]) == [(0, 0)]
    far = known((0, 0.5, 1.0), (30.5, 31.2, 31.9), look(0.95))
    assert pairs(new, [WALKS, far]) == [(0, 0)]
    assert pairs([*new, known((2.0,), (3.2,), look(0.95))], [WALKS]) == []
    # Two parts of one person, who were never seen at once, are no rivals: the later one has it,
    # also where it is less alike. The earlier would span the later, and be somebody else by that.
    earlier = known((-2.0, -1.5), (-2.8, -2.1), look(0.95))
    assert pairs(new, [earlier, WALKS]) == [(0, 1)]
    like_the_earlier = [replace(new[0], look=look(0.95))]
    assert pairs(like_the_earlier, [earlier, WALKS]) == [(0, 1)]


def in_turns(*stretches: tuple[float, ...], look: np.ndarray = HERE) -> Known:
    """Seen at these times, 1.4 m/s towards the right; missed an eighth of a second after each."""
    trail = Trail()
    for times_s in stretches:
        for t in times_s:
            trail.note(spot(t, 1.4 * t))
        trail.miss(round((times_s[-1] + 0.125) * 1e9))
    return Known(trail, look)


def test_two_who_took_turns_may_be_one_and_two_who_were_seen_at_once_are_not() -> None:
    look = np.array([0.95, np.sqrt(1 - 0.95**2)], np.float32)
    new = [known((4.5,), (6.3,))]
    first = in_turns((0.0, 0.5, 1.0), (3.0, 3.5, 4.0))
    between = in_turns((1.5, 2.0, 2.5), look=look)
    assert pairs(new, [first, between]) == [(0, 0)]
    beside = in_turns((1.5, 2.0, 2.5, 3.0, 3.5, 4.0), look=look)
    assert pairs(new, [first, beside]) == []  # 1.0 and .95: either


def test_somebody_lost_is_not_who_was_followed_in_the_boxes_beside_them() -> None:
    """Shorter than what may be a passer-by's, but long before the lost one's last."""
    lost = in_turns(tuple(np.arange(0, 4.1, 0.5).tolist()))
    assert pairs([in_turns((1.0, 1.25))], [lost]) == []
    assert pairs([in_turns((1.0,), (3.75, 4.5))], [lost]) == [(0, 0)]
    assert pairs([in_turns((1.0, 1.5), (3.75, 4.5))], [lost]) == []


def test_in_a_crowd_nobody_is_placed_who_looks_like_somebody_else() -> None:
    """Each lost one costs three places; of a hundred only who may be it, or a rival, is asked."""
    asked: list[Spot] = []

    def counting(at: Spot) -> Ground | None:
        asked.append(at)
        return place(at)

    like = HERE * np.float32(LIKE + T.like_more - T.margin - 0.01)
    crowd = [known((0, 0.5, 1.0), (0.0, 0.7, 1.4), like) for _ in range(100)]
    assert pairs([known((2.0,), (2.8,))], [*crowd, WALKS], counting) == [(0, 100)]
    assert len(asked) == 3
