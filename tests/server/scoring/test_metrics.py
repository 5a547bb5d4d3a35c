"""The numbers of the report, against cases by hand and against naive loops."""

import itertools
from collections.abc import Hashable

import numpy as np

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.recording import MotRows
from skyreid.server.scoring.metrics import score_cross_view, score_detector
from skyreid.server.scoring.truth import CameraTruth

FIRST, SECOND, NOBODY = [0.0, 0, 40, 100], [200.0, 0, 240, 100], [400.0, 0, 440, 100]


def rows(boxes: np.ndarray) -> MotRows:
    """Detections of frame 1, the first one the surest."""
    count = len(boxes)
    frame, identity = np.ones(count, np.int64), np.full(count, -1)
    return MotRows(frame, identity, boxes, np.linspace(0.9, 0.5, count), np.ones(count))


def test_a_box_on_a_dont_care_person_is_neither_right_nor_wrong():
    truth = CameraTruth(
        np.array([1, 1]), np.array([1, 2]), np.array([FIRST, SECOND]), np.array([True, False])
    )
    boxes = np.array([FIRST, SECOND, NOBODY])

    score = score_detector(truth, rows(boxes))

    assert (score.recall, score.precision) == (1.0, 0.5)


def test_a_second_box_on_a_dont_care_person_is_wrong():
    truth = CameraTruth(np.array([1]), np.array([2]), np.array([SECOND]), np.array([False]))
    boxes = np.array([SECOND, SECOND]) + np.array([[0.0], [1.0]])

    score = score_detector(truth, rows(boxes))

    assert (score.recall, score.precision) == (None, 0.0)


def test_cross_view_agrees_with_a_loop_over_all_pairs():
    rng = np.random.default_rng(7)
    keys = [TrackKey(f"dev-{c}", "b1", c, t) for c in ("cam1", "cam6") for t in range(12)]
    identity: dict[Hashable, str] = {k: f"I{rng.integers(5)}" for k in keys if rng.random() < 0.8}
    person: dict[Hashable, int | None] = {
        k: (None if rng.random() < 0.2 else int(rng.integers(4))) for k in keys
    }
    aerial, ground = keys[:12], keys[12:]
    pairs = right = possible = 0
    for a, g in itertools.product(aerial, ground):
        together = a in identity and g in identity and identity[a] == identity[g]
        same = person[a] is not None and person[a] == person[g]
        pairs += together
        right += together and same
        possible += same

    score = score_cross_view(identity, person, aerial, ground)

    assert (score.pairs, score.right, score.possible) == (pairs, right, possible)
    assert pairs > right > 0
