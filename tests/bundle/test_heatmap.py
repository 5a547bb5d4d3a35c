import numpy as np
import pytest

from skyreid.bundle.heatmap import SURFACE, Heatmap
from skyreid.bundle.manifest import DetectorSpec

SPEC = DetectorSpec(stride=4, align=16, score_min=0.3)


@pytest.mark.parametrize("seed", range(3))
def test_peaks_become_the_boxes_around_their_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heat = np.where(rng.random((6, 9)) < 0.2, rng.random((6, 9)), 0).astype(np.float32)
    box = rng.uniform(1, 30, (4, 6, 9)).astype(np.float32)
    expected = [
        [
            4 * x + 2 - box[0, y, x],
            4 * y + 2 - box[1, y, x],
            4 * x + 2 + box[2, y, x],
            4 * y + 2 + box[3, y, x],
            heat[y, x],
        ]
        for y in range(6)
        for x in range(9)
        if heat[y, x] >= 0.3
    ]
    found = Heatmap().decode({"heat": heat, "box": box}, SPEC, 0.3)
    rows = np.concatenate([found.boxes, found.scores[:, None]], 1)
    np.testing.assert_allclose(rows, np.reshape(expected, (-1, 5)), rtol=1e-5)


def test_nothing_above_the_score_is_nobody() -> None:
    blank = {"heat": np.zeros((4, 4), np.float32), "box": np.ones((4, 4, 4), np.float32)}
    found = Heatmap().decode(blank, SPEC, 0.0)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_only_the_heat_knows_of_ties_and_only_beside_its_surface() -> None:
    heat = np.zeros((1, 3, 3), np.float32)
    assert Heatmap().apart("box", heat, {"heat": heat, SURFACE: heat}) is None
    assert Heatmap().apart("heat", heat, {"heat": heat}) is None
    assert Heatmap().apart("heat", heat, {"heat": heat, SURFACE: heat}) is not None
