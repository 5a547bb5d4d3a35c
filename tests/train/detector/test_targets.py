import numpy as np
import torch

from skyreid.bundle.heatmap import Heatmap
from skyreid.train.detector.inference import spec_of
from skyreid.train.detector.losses import box_loss, heat_loss
from skyreid.train.detector.targets import draw_targets

BOXES = np.array([[20, 30, 60, 150], [100, 40, 131, 75], [140, 90, 175, 170]], np.float32)
NONE_IGNORED = np.zeros(3, bool)


def test_decoding_the_targets_returns_the_boxes() -> None:
    drawn = draw_targets(BOXES, NONE_IGNORED, 192, 192)
    peaks = {"heat": np.where(drawn.heat == 1, np.float32(1), np.float32(0)), "box": drawn.box}
    found = Heatmap().decode(peaks, spec_of(0.5), 0.5)
    boxes, scores = found.boxes, found.scores
    order = np.argsort(boxes[:, 0])
    np.testing.assert_allclose(boxes[order], BOXES, atol=1e-4)
    assert (scores == 1).all()


def test_a_perfect_answer_has_no_box_loss_and_hardly_any_heat_loss() -> None:
    drawn = draw_targets(BOXES, NONE_IGNORED, 192, 192)
    heat, box = torch.from_numpy(drawn.heat)[None], torch.from_numpy(drawn.box)[None]
    weight, box_weight = (
        torch.from_numpy(drawn.weight)[None],
        torch.from_numpy(drawn.box_weight)[None],
    )
    assert box_loss(box, box, box_weight) < 1e-6
    assert box_loss(box * 1.3, box, box_weight) > 0.1
    sure = torch.where(heat == 1, 12.0, -12.0)
    assert heat_loss(sure, heat, weight) < 1e-4
    assert heat_loss(-sure, heat, weight) > 5


def test_each_person_weighs_the_same_in_the_box_loss() -> None:
    drawn = draw_targets(BOXES, NONE_IGNORED, 192, 192)
    shares = [
        drawn.box_weight[int(y0) // 4 : int(y1) // 4 + 1, int(x0) // 4 : int(x1) // 4 + 1].sum()
        for x0, y0, x1, y1 in BOXES
    ]
    np.testing.assert_allclose(shares, 1, atol=0.05)


def test_ignored_people_ask_nothing_of_their_cells_unless_somebody_visible_stands_there() -> None:
    boxes = np.array([[20, 20, 60, 140], [44, 20, 84, 140]], np.float32)
    drawn = draw_targets(boxes, np.array([True, False]), 160, 160)
    assert (drawn.heat == 1).sum() == 1
    assert drawn.weight[10, 7] == 0  # on the ignored one
    assert drawn.weight[20, 16] == 1  # the visible one's centre
    assert drawn.weight[39, 39] == 1  # background
    logits = torch.full((1, 40, 40), -12.0)
    heat, weight = torch.from_numpy(drawn.heat)[None], torch.from_numpy(drawn.weight)[None]
    before = heat_loss(logits, heat, weight)
    logits[0, 10, 7] = 12.0
    assert heat_loss(logits, heat, weight) == before


def test_a_picture_without_people_is_all_background() -> None:
    drawn = draw_targets(np.zeros((0, 4), np.float32), np.zeros(0, bool), 64, 64)
    assert drawn.heat.max() == 0
    assert drawn.weight.min() == 1
    weight = torch.from_numpy(drawn.box_weight)[None]
    assert box_loss(torch.ones(1, 4, 16, 16), torch.ones(1, 4, 16, 16), weight) == 0
