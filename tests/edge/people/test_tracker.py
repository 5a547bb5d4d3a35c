from collections.abc import Sequence

import numpy as np
import pytest

from skyreid.bundle.detections import Detections, nobody
from skyreid.edge.people.options import TrackerOptions
from skyreid.edge.people.tracker import Track, Tracker

Person = tuple[float, float, float, float]  # x, y at time 0 and velocity, px and px/s


def box(person: Person, time_s: float, height: float = 100.0) -> list[float]:
    x, y = person[0] + person[2] * time_s, person[1] + person[3] * time_s
    return [x - 0.2 * height, y - height, x + 0.2 * height, y]


def detections(boxes: Sequence[Sequence[float]], score: float = 0.9) -> Detections:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(array, np.full(len(array), score, np.float32))


def numbers(tracks: Sequence[Track]) -> list[int]:
    return [t.number for t in tracks if t.detected and t.confirmed]


def test_a_track_is_confirmed_after_the_third_detection_and_numbers_start_at_one() -> None:
    tracker = Tracker(TrackerOptions(hits_min=3))
    seen = [tracker.update(detections([box((100, 200, 50, 0), i / 8)]), i / 8) for i in range(4)]
    assert [t[0].confirmed for t in seen] == [False, False, True, True]
    assert [t[0].number for t in seen] == [1, 1, 1, 1]
    assert [t[0].hits for t in seen] == [1, 2, 3, 4]
    assert seen[3][0].age_s == pytest.approx(3 / 8)


@pytest.mark.parametrize("fps", [25.0, 8.0, 4.0])
def test_walkers_keep_their_numbers_at_any_frame_rate(fps: float) -> None:
    people: list[Person] = [(100, 300, 60, 0), (500, 320, -60, 5), (300, 600, 0, -40)]
    tracker = Tracker()
    for index in range(int(3 * fps)):
        time_s = index / fps
        tracks = tracker.update(detections([box(p, time_s) for p in people]), time_s)
    assert numbers(tracks) == [1, 2, 3]
    for track, person in zip(tracks, people, strict=True):
        np.testing.assert_allclose(track.box_xyxy, box(person, time_s), atol=6)


def test_two_people_who_pass_each_other_are_not_swapped() -> None:
    left: Person = (200, 300, 80, 0)
    right: Person = (400, 315, -80, 0)
    tracker = Tracker()
    order = []
    for index in range(24):
        time_s = index / 8
        tracks = tracker.update(detections([box(left, time_s), box(right, time_s)]), time_s)
        order.append({t.number: float(t.box_xyxy[0]) for t in tracks})
    assert set(order[-1]) == {1, 2}
    assert order[0][1] < order[0][2]
    assert order[-1][1] > order[-1][2]  # they went on walking the way they went


def test_who_was_not_seen_for_a_moment_keeps_the_number() -> None:
    person: Person = (200, 300, 80, 0)
    tracker = Tracker(TrackerOptions(lost_max_s=1.0))
    for index in range(24):
        time_s = index / 8
        hidden = 10 <= index < 15
        tracks = tracker.update(nobody() if hidden else detections([box(person, time_s)]), time_s)
        assert len(tracks) == 1
        assert tracks[0].detected is not hidden
    assert numbers(tracks) == [1]


def test_who_was_away_too_long_comes_back_under_a_new_number() -> None:
    person: Person = (200, 300, 0, 0)
    tracker = Tracker(TrackerOptions(lost_max_s=0.5))
    for index in range(5):
        tracker.update(detections([box(person, 0)]), index / 8)
    assert tracker.update(nobody(), 2.0) == []
    tracks = tracker.update(detections([box(person, 0)]), 2.125)
    assert [t.number for t in tracks] == [2]


@pytest.mark.parametrize("gap_s", [1.5, 3600.0])
def test_nobody_is_followed_over_a_gap_in_the_video(gap_s: float) -> None:
    person: Person = (200, 300, 0, 0)
    tracker = Tracker(TrackerOptions(lost_max_s=1.0))
    for index in range(9):
        tracks = tracker.update(detections([box(person, 0)]), index / 8)
    assert numbers(tracks) == [1]
    tracks = tracker.update(detections([box(person, 0)]), 1.0 + gap_s)
    assert [t.number for t in tracks] == [2]


def test_few_frames_a_second_are_no_gaps() -> None:
    person: Person = (200, 300, 0, 0)
    tracker = Tracker(TrackerOptions(lost_max_s=1.0))
    tracks = []
    for index in range(9):
        tracks = tracker.update(detections([box(person, 0)]), 2.0 * index)
    assert len(tracks) == 1
    assert tracks[0].hits >= 8


def test_a_weak_detection_continues_a_track_and_starts_none() -> None:
    person: Person = (200, 300, 40, 0)
    tracker = Tracker(TrackerOptions(score_high=0.5, score_low=0.1))
    for index in range(4):
        tracker.update(detections([box(person, index / 8)]), index / 8)
    weak = detections([box(person, 0.5), [600, 100, 640, 200]], score=0.2)
    tracks = tracker.update(weak, 0.5)
    assert numbers(tracks) == [1]
    assert len(tracks) == 1
    below = detections([box(person, 0.625)], score=0.05)
    assert not tracker.update(below, 0.625)[0].detected


def test_a_false_detection_of_one_frame_is_forgotten() -> None:
    tracker = Tracker()
    tracker.update(detections([[100, 100, 140, 200]]), 0.0)
    assert tracker.update(nobody(), 0.125) == []


def test_looks_decide_who_is_seen_when_one_of_two_is_hidden() -> None:
    """The hidden one must not take the visible one's detections."""
    red, blue = np.full(36, 30, np.float32), np.full(36, 60, np.float32)
    front: Person = (200, 305, 0, 0)
    back: Person = (150, 300, 40, 0)  # walks behind the one in front and stops there
    tracker = Tracker()
    for index in range(16):
        time_s = min(index / 8, 1.2)
        both = np.array([box(front, time_s), box(back, time_s)], np.float32)
        scores = np.array([0.9, 0.9], np.float32)
        seen = slice(0, 2) if index < 9 else slice(0, 1)
        looks = np.stack([red, blue])[seen]
        tracks = tracker.update(Detections(both[seen], scores[seen], looks), index / 8)
    assert numbers(tracks) == [1]


def test_who_looks_wholly_different_is_not_the_same_person() -> None:
    person: Person = (200, 300, 0, 0)
    tracker = Tracker()
    for index in range(6):
        shade = np.full((1, 36), 20.0 if index < 5 else 80.0, np.float32)
        found = detections([box(person, 0)])
        tracks = tracker.update(Detections(found.boxes, found.scores, shade), index / 8)
    assert [t.number for t in tracks if t.detected] == [2]


def test_a_camera_that_turns_is_followed_when_its_motion_is_told() -> None:
    """People stand, the picture jumps 60 px a frame to and fro: only its motion explains it."""
    shifts = [0, 60, 0, 60, 0, 60, 0, 60]
    kept: dict[bool, set[int]] = {}
    for told in (True, False):
        tracker = Tracker()
        kept[told] = set()
        for index, shift in enumerate(shifts):
            jump = shift - shifts[index - 1] if index else 0
            motion = np.array([[1.0, 0, jump], [0, 1, 0], [0, 0, 1]]) if told else None
            boxes = [box((200 + shift, 300, 0, 0), 0), box((262 + shift, 300, 0, 0), 0)]
            tracks = tracker.update(detections(boxes), index / 8, motion)
            kept[told] |= {t.number for t in tracks if t.detected and t.box_xyxy[0] < 200 + shift}
    assert kept[True] == {1}
    assert kept[False] != {1}


def test_tracks_are_the_same_on_every_run() -> None:
    rng = np.random.default_rng(3)
    corners = [rng.uniform(0, 500, (12, 2)) for _ in range(20)]
    frames = [detections(np.hstack([c, np.add(c, (40, 100))]).tolist()) for c in corners]

    def run() -> list[tuple[int, bytes]]:
        tracker = Tracker()
        return [
            (t.number, t.box_xyxy.tobytes())
            for index, found in enumerate(frames)
            for t in tracker.update(found, index / 8)
        ]

    assert run() == run()


@pytest.mark.parametrize(("beside_px", "jump_px"), [(12, 6), (16, 8), (20, 10), (24, 12)])
def test_whoever_was_hidden_does_not_take_the_box_of_whoever_is_seen(
    beside_px: float, jump_px: float
) -> None:
    """Two stand close, one of them behind the other for a while; then the box in front jumps."""
    tracker = Tracker()
    for index in range(19):
        time_s = index / 10
        seen = [box((300 + (jump_px if index == 18 else 0), 300, 0, 0), time_s)]
        if index < 12:
            seen.append(box((300 + beside_px, 304, 0, 0), time_s))
        tracks = tracker.update(detections(seen), time_s)
    assert numbers(tracks) == [1]


@pytest.mark.parametrize("step_px", [1.0, 2.0])
def test_a_couple_in_one_box_is_neither_of_them_once_they_part(step_px: float) -> None:
    tracker = Tracker()
    together = set()
    for index in range(32):
        time_s = index / 10
        gap = max(0.0, step_px * (index - 15))
        left, right = box((300 - gap, 300, 20, 0), time_s), box((330 + gap, 300, 20, 0), time_s)
        both = [left[0], left[1], right[2], right[3]]
        tracks = tracker.update(detections([both] if index < 18 else [left, right]), time_s)
        together |= set(numbers(tracks)) if index < 18 else set()
    assert together == {1}
    assert sorted(numbers(tracks)) == [2, 3]


def test_somebody_who_steps_out_from_behind_another_ends_nobody() -> None:
    tracker = Tracker()
    for index in range(30):
        time_s = index / 10
        seen = [box((300, 300, 0, 0), time_s)]
        if index >= 12:
            seen.append(box((300, 296, 60, 0), time_s - 1.0))
        tracks = tracker.update(detections(seen), time_s)
    assert numbers(tracks) == [1, 2]
