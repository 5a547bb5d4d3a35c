"""Detector families: how the outputs of a graph are named, read and compared.

A bundle says in its manifest which family it is of; nothing is ever guessed from a shape. A new
family is a row of `FAMILIES`, and a file beside ``heatmap.py`` where it is read in another way than
``boxes.py`` reads. That its graph takes uint8 pictures [N, H, W, 3] RGB, whole or scaled into a
fixed size, is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from skyreid.bundle.boxes import DETR, NMS_IN_GRAPH, YOLOV8, YOLOX
from skyreid.bundle.detections import Detections, Float32
from skyreid.bundle.heatmap import Heatmap
from skyreid.bundle.manifest import DetectorSpec
from skyreid.contract.errors import BundleError


class Family(Protocol):
    """What all detectors of a family have in common."""

    @property
    def name(self) -> str:
        """As the manifest has it."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's float32 outputs, first axis the picture."""
        ...

    @property
    def score_min(self) -> float:
        """Default of a detector's score threshold."""
        ...

    @property
    def iou_max(self) -> float:
        """Of two boxes with a higher IoU the one with the lower score goes."""
        ...

    def shapes(self, height: int, width: int, spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs for one picture of that size, without the picture's axis.

        Raises:
            BundleError: `spec` is none of the family.
        """
        ...

    def decode(
        self, outputs: Mapping[str, Float32], spec: DetectorSpec, score_min: float
    ) -> Detections:
        """One picture's outputs, without their first axis, as boxes in pixels of the input.

        They may reach out of it and overlap, and are in any order; scores are at least `score_min`.
        """
        ...

    def apart(self, name: str, found: Float32, wanted: Mapping[str, Float32]) -> Float32 | None:
        """How far an output is from a reference's, element by element, where that is special.

        Args:
            name: of the output.
            found: float32 [N, ...].
            wanted: the reference's outputs, and what else it knows.

        Returns:
            None: the plain difference will do.
        """
        ...


_ALL: tuple[Family, ...] = (Heatmap(), YOLOX, YOLOV8, DETR, NMS_IN_GRAPH)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}


def family_of(spec: DetectorSpec) -> Family:
    """The family of a detector; raises `BundleError` where this version does not know it."""
    if spec.family not in FAMILIES:
        raise BundleError(
            f"detector family {spec.family!r} is unknown, this version has: "
            f"{', '.join(sorted(FAMILIES))}; update skyreid, or export the model again"
        )
    return FAMILIES[spec.family]
