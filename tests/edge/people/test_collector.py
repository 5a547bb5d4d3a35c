import numpy as np

from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import Kind, Sighting, View
from skyreid.edge.people.collector import Collector, Statement
from skyreid.edge.people.quality import QualityOptions, measure
from skyreid.edge.people.tracker import Track
from skyreid.edge.video.frame import Frame

PICTURE = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)


def embed(crops: np.ndarray) -> np.ndarray:
    vectors = crops.reshape(len(crops), -1, 3).mean(1).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def play(seen: list[bool], *, confirmed_from: int = 2) -> list[list[Sighting]]:
    """One person at 8 fps; False: not detected; the track is gone after the list."""
    collector = Collector(embed, InputSpec(height=32, width=16), camera="cam1", view=View.GROUND)
    said: list[list[Statement]] = []
    box = np.array([50, 40, 100, 160], np.float32)
    for index, detected in enumerate([*seen, None]):
        frame = Frame.of_rgb(PICTURE, number=index + 1, captured_at_ns=10**9 + index * 125_000_000)
        track = Track(7, box, 0.9, index + 1, index / 8, index >= confirmed_from, bool(detected))
        said.append(collector.update(frame, [] if detected is None else [track]))
    return [[s.sighting for s in each] for each in (*said, collector.finish())]


def test_a_tracklet_is_new_then_updated_once_a_second_then_ended() -> None:
    said = [s for frame in play([True] * 24) for s in frame]
    assert [s.kind for s in said] == [Kind.NEW, Kind.UPDATE, Kind.UPDATE, Kind.END]
    assert [s.revision for s in said] == [1, 2, 3, 4]
    assert {s.track for s in said} == {7}
    assert {s.first_seen_ns for s in said} == {10**9}
    assert said[2].captured_at_ns - said[1].captured_at_ns >= 10**9
    assert all(abs(float(np.linalg.norm(s.embedding)) - 1) < 1e-5 for s in said)


def test_the_last_word_carries_the_last_frame_with_a_detection() -> None:
    said = [s for frame in play([True] * 10 + [False] * 5) for s in frame]
    assert said[-1].kind is Kind.END
    assert said[-1].captured_at_ns == 10**9 + 9 * 125_000_000


def test_a_track_that_was_never_confirmed_is_never_spoken_of() -> None:
    assert not [s for frame in play([True] * 6, confirmed_from=99) for s in frame]


def test_quality_falls_with_size_border_cover_and_score() -> None:
    def quality(*boxes: tuple[float, float, float, float], score: float = 0.9) -> float:
        array = np.array(boxes, np.float32)
        scores = np.full(len(array), score)
        return float(measure(array, scores, 400, 400, QualityOptions()).product[0])

    good = quality((100, 100, 140, 200))
    assert quality((100, 100, 120, 150)) < good
    assert quality((0, 100, 40, 200)) < good
    assert quality((100, 100, 140, 200), score=0.5) < good
    behind = quality((100, 100, 140, 200), (120, 90, 160, 190))
    before = quality((100, 100, 140, 200), (120, 110, 160, 210))
    assert before < behind < good
    assert quality((100, 100, 110, 120)) == 0.0


def test_what_became_of_each_crop_is_said() -> None:
    collector = Collector(embed, InputSpec(height=32, width=16), camera="cam1", view=View.GROUND)

    def why(boxes: dict[int, tuple[int, int, int, int]], time_s: float, score: float = 0.9):
        frame = Frame.of_rgb(PICTURE, captured_at_ns=int((1 + time_s) * 1e9))
        tracks = [
            Track(number, np.array(box, np.float32), score, 5, 1.0, True, True)
            for number, box in boxes.items()
        ]
        collector.update(frame, tracks)
        return {n: "kept" if j.kept else j.why for n, j in collector.judged.items()}

    good = {1: (50, 40, 100, 160)}
    assert why(good, 0.0) == {1: "kept"}
    assert why(good, 0.1) == {1: "just kept one"}
    assert why({2: (50, 40, 56, 60)}, 1.0) == {2: "size or shape"}
    assert why({3: (0, 60, 30, 120)}, 2.0, score=0.5) == {3: "cut by the border"}
    assert why(good, 3.0, score=0.1) == {1: "unsure detection"}
    crowd = {4: (50, 40, 100, 160), 5: (55, 45, 105, 165)}
    assert why(crowd, 4.0)[4] == "covered"
    flat = np.full_like(PICTURE, (60, 90, 140))
    collector.update(
        Frame.of_rgb(flat, captured_at_ns=int(6e9)),
        [Track(6, np.array(good[1], np.float32), 0.9, 5, 1.0, True, True)],
    )
    assert collector.judged[6].why == "blurred"
    collector.update(Frame.of_rgb(flat, captured_at_ns=int(7e9)), [])
    assert collector.judged == {}
