"""Detector family ``yolox``: a box and a score for every cell, as a wrapped YOLOX file gives them.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430. What differs from file to file
(cells that are decoded or not, objectness and classes apart) was settled in the graph when the file
was wrapped (``export/yolox.py``).

* ``boxes`` float32 [N, cells, 4], x0, y0, x1, y1 in pixels of the input;
* ``scores`` float32 [N, cells], that somebody is there and is a person, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from skyreid.bundle.detections import Detections, Float32
from skyreid.bundle.manifest import DetectorSpec

STRIDES = (8, 16, 32)
P6_STRIDES = (8, 16, 32, 64)


class Yolox:
    """See `family.Family`."""

    name = "yolox"
    outputs = ("boxes", "scores")
    score_min = 0.1
    """Low on purpose: the tracker makes use of weak boxes."""
    iou_max = 0.5

    def shapes(self, height: int, width: int, spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
        """See `family.Family.shapes`."""
        cells = cell_count(height, width, P6_STRIDES if spec.align % 64 == 0 else STRIDES)
        return {"boxes": (cells, 4), "scores": (cells,)}

    def decode(
        self, outputs: Mapping[str, Float32], spec: DetectorSpec, score_min: float
    ) -> Detections:
        """See `family.Family.decode`."""
        chosen = outputs["scores"] >= score_min
        return Detections(outputs["boxes"][chosen], outputs["scores"][chosen])

    def apart(self, name: str, found: Float32, wanted: Mapping[str, Float32]) -> Float32 | None:
        """See `family.Family.apart`: nothing of its own."""
        return None


def cell_count(height: int, width: int, strides: tuple[int, ...]) -> int:
    """Cells of all strides together."""
    return sum((height // stride) * (width // stride) for stride in strides)
