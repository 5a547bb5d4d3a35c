import numpy as np
import pytest

from skyreid.edge.people.detections import Detections, clip, iou, suppress


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32)


def naive_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_iou_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 7), random_boxes(rng, 5)
    expected = [[naive_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_a_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 30), rng.random(30).astype(np.float32)
    kept: list[int] = []
    for index in np.argsort(-scores):
        if all(naive_iou(boxes[index], boxes[other]) <= 0.3 for other in kept):
            kept.append(int(index))
    found = suppress(Detections(boxes, scores), 0.3)
    np.testing.assert_array_equal(found.boxes, boxes[kept])
    np.testing.assert_array_equal(found.scores, scores[kept])


def test_boxes_are_cut_off_at_the_frame_and_those_outside_are_dropped() -> None:
    boxes = np.array([[-5, -5, 10, 10], [90, 90, 120, 130], [200, 0, 210, 10]], np.float32)
    found = clip(Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32)), 100, 100)
    np.testing.assert_array_equal(found.boxes, [[0, 0, 10, 10], [90, 90, 100, 100]])
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
