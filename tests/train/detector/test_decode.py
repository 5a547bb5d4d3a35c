import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.train.detector.decode import decode, iou


def naive(heat, box, score_min, overlap_max):
    found = []
    for y in range(heat.shape[0]):
        for x in range(heat.shape[1]):
            if heat[y, x] >= score_min:
                left, top, right, bottom = (float(v) for v in box[:, y, x])
                cx, cy = x * 4 + 2, y * 4 + 2
                found.append((float(heat[y, x]), (cx - left, cy - top, cx + right, cy + bottom)))
    found.sort(key=lambda f: -f[0])
    kept = []
    for score, b in found:
        if all(naive_iou(b, other) <= overlap_max for _, other in kept):
            kept.append((score, b))
    return kept


def naive_iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / max(areas - w * h, 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.floats(0.2, 0.9))
def test_decode_agrees_with_a_plain_loop(seed: int, score_min: float, overlap_max: float) -> None:
    random = np.random.default_rng(seed)
    heat = random.random((9, 7), np.float32) * (random.random((9, 7)) < 0.4)
    heat = heat.astype(np.float32)
    box = random.uniform(1, 20, (4, 9, 7)).astype(np.float32)
    boxes, scores = decode(heat, box, score_min=np.float32(score_min), overlap_max=overlap_max)
    wanted = naive(heat, box, np.float32(score_min), overlap_max)
    np.testing.assert_allclose(scores, [s for s, _ in wanted])
    np.testing.assert_allclose(boxes, np.reshape([b for _, b in wanted], (-1, 4)), rtol=1e-5)


def test_nothing_above_the_score_gives_empty_arrays() -> None:
    boxes, scores = decode(
        np.zeros((4, 4), np.float32), np.ones((4, 4, 4), np.float32), score_min=0.1
    )
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


def test_iou_of_nothing_with_something_has_no_rows() -> None:
    assert iou(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32)).shape == (0, 3)
