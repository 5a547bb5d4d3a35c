import numpy as np

from skyreid.train.detector.clips import People
from skyreid.train.detector.crops import CropRules, cut

RULES = CropRules(height_px=96, width_px=128)


def marked() -> tuple[np.ndarray, People]:
    """A grey frame with one bright box where its one person is."""
    frame = np.full((360, 480, 3), 90, np.uint8)
    frame[100:180, 200:240] = 250
    return frame, People(np.array([[200, 100, 240, 180]], np.float32), np.ones(1, np.float32))


def test_boxes_follow_the_pixels_through_scale_cut_and_mirror() -> None:
    frame, people = marked()
    seen = 0
    for seed in range(40):
        picture, boxes, ignored = cut(frame, people, RULES, np.random.default_rng(seed))
        assert picture.shape == (96, 128, 3)
        assert picture.dtype == np.uint8
        if not len(boxes) or ignored[0]:
            continue
        seen += 1
        x0, y0, x1, y1 = boxes[0].round().astype(int)
        assert 0 <= x0 < x1 <= 128
        assert 0 <= y0 < y1 <= 96
        inside = np.zeros((96, 128), bool)
        inside[y0:y1, x0:x1] = True
        bright = picture.mean(2)
        assert np.median(bright[inside]) > np.median(bright[~inside]) + 40
        threshold = (np.median(bright[inside]) + np.median(bright[~inside])) / 2
        assert ((bright > threshold) == inside).mean() > 0.97
    assert seen > 20


def test_people_who_are_hidden_or_mostly_cut_away_are_ignored() -> None:
    frame, people = marked()
    hidden = People(people.boxes, np.array([0.1], np.float32))
    for seed in range(20):
        _, boxes, ignored = cut(frame, hidden, RULES, np.random.default_rng(seed))
        assert ignored.all()
        _, boxes, ignored = cut(frame, people, RULES, np.random.default_rng(seed))
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert (areas[~ignored] > 0.25 * 40 * 80 * 0.7**2).all()


def test_the_same_random_state_gives_the_same_picture() -> None:
    frame, people = marked()
    first = cut(frame, people, RULES, np.random.default_rng(3))
    again = cut(frame, people, RULES, np.random.default_rng(3))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
