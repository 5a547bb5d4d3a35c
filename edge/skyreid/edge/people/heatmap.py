"""This project's own detector: a bundle whose model gives a heatmap of people and their boxes.

Zhou et al., "Objects as Points", arXiv 1904.07850, with four distances to the edges as in FCOS
(Tian et al., arXiv 1904.01355). Only peaks are non-zero: the graph has done that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle
from skyreid.bundle.runner import ON_CPU, Execution, self_test, start
from skyreid.contract.errors import BundleError
from skyreid.edge.people.detections import Detections, Float32, clip, suppress

GREY = 114


class HeatmapNetwork:
    """Finds people in a picture of any size with a detector bundle."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        score_min: float | None = None,
        iou_max: float = 0.6,
        threads: int = 1,
        execution: Execution = ON_CPU,
    ) -> None:
        """Load the bundle's model and let it prove itself on the golden pictures.

        Args:
            bundle: a verified bundle of kind ``detector``.
            score_min: detections below it are dropped; None = what the bundle says.
            iou_max: of two boxes with a higher IoU the one with the lower score goes.
            threads: CPU threads of one call.
            execution: where the model runs.

        Raises:
            GateError: the self-test failed.
            BundleError: the bundle is no detector, or its outputs are not ``heat`` and ``box``.
        """
        spec = bundle.manifest.detector
        if bundle.manifest.kind != "detector" or spec is None:
            raise BundleError(
                f"bundle {bundle.path} is a {bundle.manifest.kind}, not a detector; "
                "give it as the embedder, and a detector bundle or a YOLOX .onnx here"
            )
        self._runner = start(bundle, threads=threads, execution=execution)
        self._stride, self._align = spec.stride, spec.align
        self._score_min = spec.score_min if score_min is None else score_min
        self._iou_max = iou_max
        side = 4 * self._align
        outputs = self._runner.run(np.full((1, side, side, 3), GREY, np.uint8))
        shapes = {name: list(value.shape) for name, value in outputs.items()}
        cells = side // self._stride
        if shapes != {"heat": [1, cells, cells], "box": [1, 4, cells, cells]}:
            raise BundleError(
                f"bundle {bundle.path}: expected outputs heat and box at stride {self._stride}, "
                f"the model gives {shapes}; export the detector again"
            )
        self_test(bundle, self._runner)

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        """People in an RGB picture uint8 [H, W, 3], boxes in its pixels."""
        height, width = picture.shape[:2]
        outputs = self._runner.run(_pad(picture, self._align)[None])
        found = decode(outputs["heat"][0], outputs["box"][0], self._stride, self._score_min)
        return suppress(clip(found, width, height), self._iou_max)


def decode(heat: Float32, box: Float32, stride: int, score_min: float) -> Detections:
    """Peaks to boxes.

    Args:
        heat: [h, w] scores, zero where there is no peak.
        box: [4, h, w] distances in pixels from the cell's centre ``(x + .5) * stride`` to the
            left, top, right and bottom edge.
        stride: pixels of the input per cell.
        score_min: peaks below it are dropped.
    """
    rows, columns = np.nonzero((heat >= score_min) & (heat > 0))
    x = (columns.astype(np.float32) + np.float32(0.5)) * stride
    y = (rows.astype(np.float32) + np.float32(0.5)) * stride
    left, top, right, bottom = box[:, rows, columns]
    boxes = np.stack([x - left, y - top, x + right, y + bottom], 1)
    return Detections(boxes.astype(np.float32), heat[rows, columns].astype(np.float32))


def _pad(picture: NDArray[np.uint8], align: int) -> NDArray[np.uint8]:
    """Fill up right and bottom with grey until both sides are multiples of ``align``."""
    below, beside = -picture.shape[0] % align, -picture.shape[1] % align
    if not below and not beside:
        return picture
    return np.pad(picture, ((0, below), (0, beside), (0, 0)), constant_values=GREY)
