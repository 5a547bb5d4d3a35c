"""Files that say of each box its score and its class: by output names, boxes as corners in pixels.

RT-DETR's own export (labels, boxes, scores), MMDeploy's (dets with the score in their fifth column,
labels), and the four outputs of TensorRT's EfficientNMS (num_dets, boxes, scores, classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.family import Family
from skyreid.export.foreign import Answers, Floats, Tail

_PARTS = {
    "count": ("num_dets", "num_detections", "num", "det_num", "valid_detections"),
    "boxes": ("dets", "boxes", "det_boxes", "detection_boxes", "bboxes", "nmsed_boxes"),
    "scores": ("scores", "det_scores", "detection_scores", "nmsed_scores"),
    "labels": ("labels", "classes", "det_classes", "detection_classes", "nmsed_classes"),
}
"""What the exporters call their outputs."""


def read(answers: Answers, family: Family) -> dict[str, Floats]:
    """See `Foreign.read`."""
    at = _places(answers, family)
    boxes, labels = answers.outputs[at["boxes"]], answers.outputs[at["labels"]]
    scores = answers.outputs[at["scores"]] if "scores" in at else boxes[..., 4]
    if not (scores.min() >= 0 and scores.max() <= 1):
        raise answers.refusal(family, "its scores are not probabilities, 0 to 1")
    if (labels != np.round(labels)).any():
        raise answers.refusal(family, "its labels are no whole numbers")
    mine = np.abs(labels - answers.declared.person) < 0.5
    if "count" in at:
        counts = answers.outputs[at["count"]].reshape(-1, 1)
        mine &= np.arange(boxes.shape[1])[None] < counts
    return {"boxes": boxes[..., :4], "scores": (scores * mine).astype(np.float32)}


def tail(outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
    """See `Foreign.tail`."""
    made, at = Tail(), _places(answers, family)
    boxes, rows = outputs[at["boxes"]], answers.outputs[at["boxes"]].shape[1]
    if "scores" in at:
        made.add("Identity", [boxes], "boxes")
        scores = outputs[at["scores"]]
    else:
        made.add("Identity", [made.columns(boxes, "corners", [0, 1, 2, 3])], "boxes")
        scores = made.columns(boxes, "score", 4)
    scores = only(made, scores, outputs[at["labels"]], answers.declared.person)
    if "count" in at:
        order = made.constant("tail/order", np.arange(rows, dtype=np.float32)[None])
        shape = made.constant("tail/one", np.array([1, 1], np.int64))
        count = made.add("Reshape", [outputs[at["count"]], shape], "tail/count")
        valid = made.add("Less", [order, count], "tail/valid")
        valid = made.add("Cast", [valid], "tail/counts", to=1)
        scores = made.add("Mul", [scores, valid], "tail/counted")
    made.add("Identity", [scores], "scores")
    return made


def only(made: Tail, scores: str, labels: str, person: int) -> str:
    """Scores [N, K], 0 where the label [N, K] is another one."""
    wanted = made.constant("tail/wanted", np.array(person, np.float32))
    near = made.constant("tail/near", np.array(0.5, np.float32))
    away = made.add("Sub", [labels, wanted], "tail/away")
    away = made.add("Abs", [away], "tail/apart")
    mine = made.add("Less", [away, near], "tail/mine")
    mine = made.add("Cast", [mine], "tail/mine_float", to=1)
    return made.add("Mul", [scores, mine], "tail/only")


def _places(answers: Answers, family: Family) -> dict[str, int]:
    """Which output is which, by its name, its shape held against the others'."""
    found: dict[str, int] = {}
    for index, name in enumerate(answers.names):
        for part, known in _PARTS.items():
            if name.lower() in known and part not in found:
                found[part] = index
    boxes = answers.outputs[found["boxes"]] if "boxes" in found else np.zeros(0)
    columns = 4 if "scores" in found else 5
    whole = {"boxes", "labels"} <= set(found) and len(found) == len(answers.outputs)
    if not whole or boxes.ndim != 3 or boxes.shape[2] != columns or not _fit(answers, found):
        raise answers.refusal(
            family,
            "expected outputs named labels, boxes [1, K, 4] and scores, or dets [1, K, 5] and "
            f"labels, with or without num_dets; they are named {', '.join(answers.names)}",
        )
    return found


def _fit(answers: Answers, found: dict[str, int]) -> bool:
    """Whether labels and scores have a number for each box, and the count is one."""
    shape: dict[str, NDArray[np.float32]] = {n: answers.outputs[i] for n, i in found.items()}
    pictures, rows = shape["boxes"].shape[:2]
    per_box = all(shape[n].shape == (pictures, rows) for n in ("labels", "scores") if n in shape)
    return per_box and ("count" not in shape or shape["count"].size == pictures)
