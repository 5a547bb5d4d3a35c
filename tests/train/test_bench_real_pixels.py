"""How well pairs are told apart in videos without labels, and what would make it look better."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import real_pixels
import separation
from numpy.typing import NDArray
from separation import Pairs

from skyreid.bundle.detections import Detections
from skyreid.contract.errors import InputError


def pairs(same: list[float], different: list[float]) -> Pairs:
    """Each pair of its own tracklets."""
    scores = np.array([*same, *different], np.float32)
    one = np.arange(len(scores))
    return Pairs(scores, one, np.where(one < len(same), one, one + 100))


def test_rates_are_those_of_every_threshold_and_equal_scores_are_one() -> None:
    false, hits = separation.roc(pairs([0.9, 0.5, 0.5], [0.5, 0.1]))
    assert false.tolist() == [0, 0, 0.5, 1]
    assert hits.tolist() == pytest.approx([0, 1 / 3, 1, 1])
    assert separation.equal_error_rate(*separation.roc(pairs([0.9] * 4, [0.1] * 4))) == 0
    upside_down = separation.roc(pairs([0.1] * 4, [0.9] * 4))
    assert separation.equal_error_rate(*upside_down) == 1


def test_an_interval_is_over_tracklets_and_not_over_their_crops() -> None:
    random = np.random.default_rng(1)
    means = random.normal(0.6, 0.25, 12)  # twelve tracklets, 400 pairs of crops each
    same = np.repeat(means, 400) + random.normal(0, 0.02, 4800)
    one = np.repeat(np.arange(12), 400)
    strangers = random.normal(0.2, 0.2, 4800)
    whole = Pairs(
        np.concatenate([same, strangers]).astype(np.float32),
        np.concatenate([one, one]),
        np.concatenate([one, (one + random.integers(1, 12, 4800)) % 12]),
    )
    low, high = separation.interval(separation.drawn_error_rates(whole))
    assert low < separation.equal_error_rate(*separation.roc(whole)) < high
    assert high - low > 0.05
    unbound = Pairs(
        whole.scores, np.arange(9600), np.where(whole.same, 0, 10_000) + np.arange(9600)
    )
    narrow = separation.interval(separation.drawn_error_rates(unbound, 100))
    assert narrow[1] - narrow[0] < (high - low) / 2


def test_two_models_over_the_same_pairs_meet_the_same_draws() -> None:
    random = np.random.default_rng(2)
    scores = np.concatenate([random.normal(0.5, 0.2, 60), random.normal(0.2, 0.2, 200)])
    one = np.concatenate([np.arange(60), random.integers(0, 60, 200)])
    other = np.concatenate([np.arange(60), (one[60:] + random.integers(1, 60, 200)) % 60])
    ours = Pairs(scores.astype(np.float32), one, other)
    worse = Pairs(np.where(ours.same, ours.scores - 0.1, ours.scores), one, other)
    less = separation.drawn_error_rates(worse) - separation.drawn_error_rates(ours)
    assert separation.interval(less)[0] > 0  # although the two intervals overlap
    assert (
        separation.interval(separation.drawn_error_rates(worse))[0]
        < (separation.interval(separation.drawn_error_rates(ours))[1])
    )
    assert separation.drawn_error_rates(ours).tolist() == (
        separation.drawn_error_rates(ours).tolist()
    )


def test_what_a_camera_does_to_all_its_pictures_is_taken_away() -> None:
    random = np.random.default_rng(3)
    people = random.normal(0, 1, (20, 8))
    shared = 4 * np.ones(8)
    rows = {}
    for number, person in enumerate(people):
        raw = shared + person + random.normal(0, 0.05, (6, 8))
        rows[number] = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    together = {(a, b) for a in range(20) for b in range(a + 1, 20)}
    before = separation.halves(rows, together)
    after = separation.halves(separation.centred(rows), together)
    assert before.scores[~before.same].mean() > 0.8
    assert abs(after.scores[~after.same].mean()) < 0.15
    assert after.scores[after.same].min() > 0.9


class Walker:
    """Finds somebody who walks, in step with the frames, and a board that never moves."""

    def __init__(self, *, walks: bool = True) -> None:
        self.frame, self.walks = 0, walks

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        self.frame += 1
        x = 10.0 + self.walks * 2 * (self.frame % 41)
        rows = np.array([(x, 20, x + 30, 110), (150, 15, 185, 115)], np.float32)
        return Detections(rows, np.array([0.9, 0.9], np.float32))


def video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (352, 128))
    for _ in range(frames):
        writer.write(np.full((128, 352, 3), 90, np.uint8))
    writer.release()
    return path


def test_a_board_that_is_taken_for_a_person_is_not_judged(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", 40)
    clip = real_pixels.follow(path, Walker(), every_s=0.5, margin=0.0, first=7)
    assert (list(clip.tracklets), clip.still) == ([7], 1)
    assert clip.together == set()
    with pytest.raises(InputError, match="2 people are found and none of them moves"):
        real_pixels.follow(path, Walker(walks=False), every_s=0.5, margin=0.0, first=0)


def test_a_row_of_each_clip_and_of_all_and_the_difference_from_the_first_bundle(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Two(Walker):
        def find(self, picture: NDArray[np.uint8]) -> Detections:
            found = super().find(picture)
            one = found.boxes[0]
            other = np.array([330 - one[2], 15, 350 - one[0], 115], np.float32)
            return Detections(np.stack([one, other]), found.scores)

    monkeypatch.setattr(real_pixels, "open_detector", lambda path: Two())
    shipped = repository / "examples/bundle/vdt-tiny"
    (tmp_path / "copy").symlink_to(shipped)
    clips = [str(video(tmp_path / name, 40)) for name in ("a.mp4", "b.mp4")]
    monkeypatch.setattr(
        "sys.argv",
        [
            *("real_pixels", str(shipped), str(tmp_path / "copy"), "--clips", *clips),
            *("--detector", "any", "--plot", str(tmp_path / "roc.svg")),
        ],
    )
    assert real_pixels.main() == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["bundle"], row["clip"]) for row in rows] == [
        (bundle, clip) for bundle in ("vdt-tiny", "copy") for clip in ("a.mp4", "b.mp4", "all")
    ]
    assert rows[2]["tracklets"] == rows[0]["tracklets"] + rows[1]["tracklets"]
    counted = [row["crops_centred"]["same"] for row in rows]
    assert counted[2] == counted[0] + counted[1] > 0
    assert "crops" in rows[1]
    assert "crops" not in rows[2]  # of two cameras, on two scales
    assert "against" not in rows[0]
    same = {"eer": 0.0, "eer_interval": [0.0, 0.0]}
    assert rows[5]["against"]["bundle"] == "vdt-tiny"
    assert rows[5]["against"]["halves_centred"] == same
    assert "vdt-tiny, halves, centred" in (tmp_path / "roc.svg").read_text()
