import numpy as np

from skyreid.bundle.detections import Detections
from skyreid.edge.people.tiling import lay_tiles, merge_tiles, tiled


def found(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def test_tiles_cover_the_frame_and_overlap() -> None:
    covered = np.zeros((720, 1280), int)
    for x0, y0, x1, y1 in lay_tiles(1280, 720, 2, 3, 0.2):
        covered[y0:y1, x0:x1] += 1
    assert covered.min() == 1
    assert covered.max() == 4


def test_a_part_at_a_seam_gives_way_to_the_whole_even_when_it_scores_more() -> None:
    left, right = (0, 0, 60, 100), (40, 0, 100, 100)
    merged = merge_tiles(
        [(left, found((50, 10, 60, 60, 0.9))), (right, found((10, 10, 40, 60, 0.6)))], 100, 100, 0.5
    )
    np.testing.assert_allclose(merged.boxes, [[50, 10, 80, 60]])


def test_a_part_at_a_seam_stays_when_nobody_saw_the_whole() -> None:
    left, right = (0, 0, 60, 100), (40, 0, 100, 100)
    merged = merge_tiles([(left, found((50, 10, 60, 60, 0.9))), (right, found())], 100, 100, 0.5)
    assert len(merged) == 1


def test_a_detector_is_run_over_tiles_and_as_it_is_where_there_is_one() -> None:
    class Corner:
        """Somebody is in the bottom right corner of whatever is shown."""

        def find(self, picture: np.ndarray) -> Detections:
            height, width = picture.shape[:2]
            return found((width - 20, height - 40, width - 8, height - 8, 0.9))

    picture = np.zeros((100, 200, 3), np.uint8)
    corner = Corner()
    assert tiled(corner, (1, 1)) is corner
    merged = tiled(corner, (1, 2)).find(picture)
    np.testing.assert_allclose(merged.boxes, [[92, 60, 104, 92], [180, 60, 192, 92]])
