"""Detector families of other projects: box and score a row, as their wrapped files give them.

How the files of each come (cells decoded or not, objectness and classes apart, queries, rows that
were suppressed already) was settled in the graph when a file was wrapped (``export/foreign.py``):

* ``boxes`` float32 [N, rows, 4], x0, y0, x1, y1 in pixels of the input;
* ``scores`` float32 [N, rows], that somebody is there and is a person, 0 to 1.

What is left to tell them apart is how many rows there are, and what has to be suppressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skyreid.bundle.detections import Detections, Float32
from skyreid.bundle.manifest import DetectorSpec

STRIDES = (8, 16, 32)
P6_STRIDES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Boxes:
    """See `family.Family`."""

    name: str
    iou_max: float
    """1 where suppression was part of the file: nothing is suppressed again."""
    score_min: float
    """Low on purpose: the tracker makes use of weak boxes."""
    outputs: tuple[str, ...] = ("boxes", "scores")

    def shapes(self, height: int, width: int, spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
        """See `family.Family.shapes`."""
        strides = P6_STRIDES if spec.align % 64 == 0 else STRIDES
        rows = spec.rows or cell_count(height, width, strides)
        return {"boxes": (rows, 4), "scores": (rows,)}

    def decode(
        self, outputs: Mapping[str, Float32], spec: DetectorSpec, score_min: float
    ) -> Detections:
        """See `family.Family.decode`."""
        chosen = outputs["scores"] >= score_min
        return Detections(outputs["boxes"][chosen], outputs["scores"][chosen])

    def apart(self, name: str, found: Float32, wanted: Mapping[str, Float32]) -> Float32 | None:
        """See `family.Family.apart`: nothing of its own."""
        return None


YOLOX = Boxes("yolox", iou_max=0.5, score_min=0.1)
"""Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430."""
YOLOV8 = Boxes("yolov8", iou_max=0.5, score_min=0.1)
"""Jocher et al., Ultralytics YOLOv8 (2023); v9 and v11 are published in the same form."""
DETR = Boxes("detr", iou_max=0.8, score_min=0.2)
"""Carion et al., arXiv 2005.12872; RT-DETR, arXiv 2304.08069. One query is one person, but for a
few that two queries see."""
NMS_IN_GRAPH = Boxes("nms-in-graph", iou_max=1.0, score_min=0.1)
"""Any detector whose file ends with its own suppression."""


def cell_count(height: int, width: int, strides: tuple[int, ...]) -> int:
    """Cells of all strides together."""
    return sum((height // stride) * (width // stride) for stride in strides)
