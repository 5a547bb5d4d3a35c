from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import BundleError
from skyreid.edge.people.detector import open_detector
from skyreid.edge.people.yolox import STRIDES, decode, grid


def test_decoding_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    cells, strides = grid(64, 96, STRIDES)
    rows = rng.normal(0, 1, (len(cells), 7)).astype(np.float32)
    decoded = decode(rows, cells, strides)
    index = 0
    for stride in STRIDES:
        for y in range(64 // stride):
            for x in range(96 // stride):
                raw = rows[index]
                expected = [
                    (raw[0] + x) * stride,
                    (raw[1] + y) * stride,
                    np.exp(raw[2]) * stride,
                    np.exp(raw[3]) * stride,
                    *raw[4:],
                ]
                np.testing.assert_allclose(decoded[index], expected, rtol=1e-5)
                index += 1
    assert index == len(rows)


def test_people_of_a_real_frame_are_found_where_they_are(shared: Path) -> None:
    detector = open_detector(shared / "media" / "yolox_nano.onnx", score_min=0.4)
    video = cv2.VideoCapture(str(shared / "media" / "vtest.mp4"))
    video.set(cv2.CAP_PROP_POS_FRAMES, 150)
    ok, picture = video.read()
    assert ok
    found = detector.find(np.ascontiguousarray(picture[:, :, ::-1]))
    assert 5 <= len(found) <= 12
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (sides[:, 1] > sides[:, 0]).all()  # upright
    assert found.looks is not None
    assert found.looks.shape == (len(found), 36)


def test_a_file_that_is_no_detector_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(BundleError, match="does not load"):
        open_detector(path)
    with pytest.raises(BundleError, match="does not exist"):
        open_detector(tmp_path / "absent.onnx")
