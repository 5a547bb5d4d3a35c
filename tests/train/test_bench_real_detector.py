from pathlib import Path

import cv2
import numpy as np
import pytest
import real_detector
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections


class Fixed:
    """Finds the same in every picture."""

    def __init__(self, *rows: tuple[float, ...]) -> None:
        self.rows = np.array(rows, np.float32).reshape(-1, 5)

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        return Detections(self.rows[:, :4], self.rows[:, 4])


def video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (160, 96))
    for _ in range(frames):
        writer.write(np.full((96, 160, 3), 90, np.uint8))
    writer.release()
    return path


SURE, UNSURE = (10, 10, 40, 80, 0.9), (60, 10, 90, 80, 0.3)


def test_the_reference_is_the_truth_and_its_doubts_are_dont_cares(tmp_path: Path) -> None:
    clip = video(tmp_path / "a.mp4", 21)
    truth = real_detector.look(Fixed(SURE, UNSURE), clip)
    assert sorted(truth) == [1, 11, 21]
    found = Fixed((*SURE[:4], 0.6), (*UNSURE[:4], 0.8), (100, 20, 140, 90, 0.7))
    tally, false, missed = real_detector.against(found, clip, truth, 0.5)
    assert tally.people == 3
    assert tally.rates(0.5) == (1.0, 0.5)  # the third box is false, the second neither
    assert [m.weight for m in false] == pytest.approx([0.7] * 3)
    assert missed == []
    _, _, missed = real_detector.against(found, clip, truth, 0.65)
    assert [m.weight for m in missed] == [70.0] * 3


def test_false_boxes_are_counted_where_nothing_was_trained_on(tmp_path: Path) -> None:
    clip = video(tmp_path / "nobody.mp4", 90)
    # of frames 1, 11, ... 81 those after the 60th
    false, frames = real_detector.false_boxes(Fixed(SURE, UNSURE), clip)
    assert (len(false), frames) == (6, 3)
    assert {m.weight for m in false} == {np.float32(SURE[4]), np.float32(UNSURE[4])}


def test_nobody_is_known_by_the_head_that_a_sheet_shows() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (96, 160, 3)).astype(np.uint8)
    people = np.array([SURE[:4], (-9, -9, 30, 20), (150, 90, 170, 120), (5, 5, 5, 5)], np.float32)
    shown = real_detector.without_heads(frame, people)
    assert len(np.unique(shown[10:31, 10:40].reshape(-1, 3), axis=0)) <= 9 + 4  # a neighbour's too
    np.testing.assert_array_equal(shown[31:90, 40:], frame[31:90, 40:])


def test_a_run_prints_every_number_and_keeps_what_the_reference_saw(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip, shipped = video(tmp_path / "a.mp4", 11), repository / "examples/bundle/detector"
    monkeypatch.setattr(real_detector, "SIZES_PX", ((64, 64),))
    given = [str(shipped), "--reference", str(shipped), "--clips", str(clip), "--empty", str(clip)]
    kept, sheet = tmp_path / "truth.json", tmp_path / "sheet.png"
    given += ["--truth", str(kept), "--sheet", str(sheet)]
    assert real_detector.main(given) == 0
    said = capsys.readouterr().out
    for part in ("AP", "recall", "precision", "best F1", "false boxes a frame", "ms a frame"):
        assert part in said
    assert cv2.imread(str(sheet)) is not None
    monkeypatch.setattr(real_detector, "look", None)  # the second run needs no reference
    assert real_detector.main(given) == 0
