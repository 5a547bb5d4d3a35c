import numpy as np

from skyreid.edge.people.heatmap import decode


def test_peaks_become_the_boxes_around_their_cells() -> None:
    rng = np.random.default_rng(1)
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
    found = decode(heat, box, 4, 0.3)
    rows = np.concatenate([found.boxes, found.scores[:, None]], 1)
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
