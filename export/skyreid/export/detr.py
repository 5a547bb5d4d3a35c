"""DETR files as they are published, and what makes family ``detr`` of them.

Carion et al., arXiv 2005.12872; RT-DETR, arXiv 2304.08069, D-FINE, RF-DETR. A row is a query. They
come in three forms:

* two outputs: class logits [1, Q, C] and boxes [1, Q, 4], centre and size as parts of the input
  (Hugging Face's exporter, and the authors' without their post-processing);
* one output [1, Q, 4 + C]: the same boxes beside probabilities (Ultralytics' exporter);
* labels [1, Q], boxes [1, Q, 4] and scores [1, Q], corners in pixels of what a second input
  ``orig_target_sizes`` (width, height) says (the authors' of RT-DETR and D-FINE).

The input is RGB 0..1, and pictures are stretched into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from skyreid.bundle.family import Family
from skyreid.export import labelled
from skyreid.export.declared import Declared
from skyreid.export.foreign import (
    Answers,
    Floats,
    Foreign,
    Tail,
    corners,
    require_person,
)

Form = Literal["two", "one", "labelled"]
_SLACK = 0.5
"""How far a box of parts may reach out of the picture."""


class ForeignDetr(Foreign):
    """See `Foreign`."""

    declared = Declared(channels="rgb", range="1", fit="stretch", scores="sigmoid")
    wants_size = True

    def read(self, answers: Answers, family: Family) -> dict[str, Floats]:
        """See `Foreign.read`."""
        form = _form(answers, family)
        if form == "labelled":
            return labelled.read(answers, family)
        boxes, scores = _boxes(answers, form), _scores(answers, form)
        require_person(answers, family, scores.shape[2])
        if boxes.min() < -_SLACK or boxes.max() > 1 + _SLACK:
            raise answers.refusal(family, "its boxes are no parts of the input, 0 to 1")
        probable = bool(scores.min() >= 0 and scores.max() <= 1)
        if form == "one":
            if not probable:
                raise answers.refusal(family, "its classes are not probabilities, 0 to 1")
        elif answers.declared.scores == "plain":
            if not probable:
                raise answers.refusal(family, "its classes are logits: --scores sigmoid")
        elif probable:
            raise answers.refusal(family, "its classes are probabilities: --scores plain")
        size = np.array([answers.width, answers.height] * 2, np.float32)
        person = answers.declared.person
        if form == "two" and answers.declared.scores == "softmax":
            grown = np.exp(scores - scores.max(2, keepdims=True))
            scores = (grown / grown.sum(2, keepdims=True)).astype(np.float32)
        elif form == "two" and answers.declared.scores == "sigmoid":
            scores = (1 / (1 + np.exp(-scores))).astype(np.float32)
        return {"boxes": corners(boxes * size), "scores": scores[..., person]}

    def tail(self, outputs: Sequence[str], answers: Answers, family: Family) -> Tail:
        """See `Foreign.tail`."""
        form, person = _form(answers, family), answers.declared.person
        if form == "labelled":
            return labelled.tail(outputs, answers, family)
        tail = Tail()
        if form == "one":
            (boxes,) = outputs
            score = tail.columns(boxes, "person", 4 + person)
        else:
            at = _boxes_at(answers)
            boxes, scores = outputs[at], outputs[1 - at]
            if answers.declared.scores == "softmax":
                scores = tail.add("Softmax", [scores], "tail/probabilities", axis=2)
            score = tail.columns(scores, "person", person)
            if answers.declared.scores == "sigmoid":
                score = tail.add("Sigmoid", [score], "tail/probability")
        across = np.array([answers.width, answers.height], np.float32)
        centre = tail.scaled(tail.columns(boxes, "centre", [0, 1]), "middle", across)
        size = tail.scaled(tail.columns(boxes, "size", [2, 3]), "sides", across)
        tail.corners(centre, size, "boxes")
        tail.add("Identity", [score], "scores")
        return tail


FOREIGN = ForeignDetr()


def _form(answers: Answers, family: Family) -> Form:
    shapes = [values.shape for values in answers.outputs]
    if len(shapes) == 3:
        return "labelled"
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] >= 5:
        return "one"
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        fours = [shape[2] == 4 for shape in shapes]
        if shapes[0][1] == shapes[1][1] and sum(fours) == 1:
            return "two"
    raise answers.refusal(
        family,
        "expected logits [1, Q, C] and boxes [1, Q, 4], one output [1, Q, 4 + C], or labels, boxes "
        "and scores",
    )


def _boxes_at(answers: Answers) -> int:
    """Which of the two outputs has the boxes."""
    return int(answers.outputs[1].shape[2] == 4)


def _boxes(answers: Answers, form: Form) -> Floats:
    return answers.outputs[0][..., :4] if form == "one" else answers.outputs[_boxes_at(answers)]


def _scores(answers: Answers, form: Form) -> Floats:
    if form == "one":
        return answers.outputs[0][..., 4:]
    return answers.outputs[1 - _boxes_at(answers)]
