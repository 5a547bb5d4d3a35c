"""The detector that is evaluated is the one that is served, at sizes of every kind."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.bundle.detector import open_detector
from skyreid.edge.people.tiling import tiled
from skyreid.train.detector.clips import read_frames
from skyreid.train.detector.command import open_model

FRAMES = 12


def scaled(video: Path, out: Path, width: int, height: int) -> Path:
    """The middle of every eighth frame of a clip, scaled to another size, people in their shape."""
    written = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"mp4v"), 8.0, (width, height))
    for _, frame in taken(video, 8):
        bgr = np.ascontiguousarray(frame[:, :, ::-1])
        scale = max(width / bgr.shape[1], height / bgr.shape[0])
        large = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        left, top = (large.shape[1] - width) // 2, (large.shape[0] - height) // 2
        written.write(np.ascontiguousarray(large[top : top + height, left : left + width]))
    written.release()
    return out


def taken(video: Path, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    for count, (number, frame) in enumerate(read_frames(video, step)):
        if count == FRAMES:
            return
        yield number, frame


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (854, 480), (720, 1280)])
def test_evaluation_and_device_give_the_same_boxes_on_every_frame(
    repository: Path, tmp_path: Path, width: int, height: int
) -> None:
    video = scaled(repository / "examples/clip/cam6.mp4", tmp_path / "cam6.mp4", width, height)
    bundle = repository / "examples/bundle/detector"
    detect, score_min = open_model(bundle)
    device = tiled(open_detector(bundle), (1, 1))
    people = 0
    for number, frame in taken(video):
        assert frame.shape == (height, width, 3)
        evaluated, served = detect(frame), device.find(frame)
        sure = evaluated.scores >= score_min
        np.testing.assert_array_equal(evaluated.boxes[sure], served.boxes, f"frame {number}")
        np.testing.assert_array_equal(evaluated.scores[sure], served.scores)
        people += len(served)
    assert number == FRAMES
    assert people > FRAMES
