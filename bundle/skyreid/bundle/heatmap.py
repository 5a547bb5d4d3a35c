"""Detector family ``heatmap``, this project's own: peaks of a heatmap, and the box at each peak.

Zhou et al., "Objects as Points", arXiv 1904.07850, with four distances to the edges as in FCOS
(Tian et al., arXiv 1904.01355). Only peaks are non-zero: the graph has done that.

* ``heat`` float32 [N, h, w], scores 0 to 1, zero where there is no peak;
* ``box`` float32 [N, 4, h, w], distances in pixels from the cell's centre ``(x + .5) * stride`` to
  the left, top, right and bottom edge.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skyreid.bundle.detections import Detections, Float32
from skyreid.bundle.manifest import DetectorSpec
from skyreid.contract.errors import BundleError

SURFACE = "surface"
"""Beside a reference's outputs: the heat before its peaks were picked, float32 [N, h, w]."""


class Heatmap:
    """See `family.Family`."""

    name = "heatmap"
    outputs = ("heat", "box")
    score_min = 0.3
    iou_max = 0.6

    def shapes(self, height: int, width: int, spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
        """See `family.Family.shapes`."""
        if spec.stride < 1:
            raise BundleError(
                f"stride {spec.stride}: a heatmap's cells have a size, and only the checkpoint it "
                "is exported from says which: export that"
            )
        rows, columns = height // spec.stride, width // spec.stride
        return {"heat": (rows, columns), "box": (4, rows, columns)}

    def decode(
        self, outputs: Mapping[str, Float32], spec: DetectorSpec, score_min: float
    ) -> Detections:
        """See `family.Family.decode`."""
        heat, box = outputs["heat"], outputs["box"]
        rows, columns = np.nonzero((heat >= score_min) & (heat > 0))
        x = (columns.astype(np.float32) + np.float32(0.5)) * spec.stride
        y = (rows.astype(np.float32) + np.float32(0.5)) * spec.stride
        left, top, right, bottom = box[:, rows, columns]
        boxes = np.stack([x - left, y - top, x + right, y + bottom], 1)
        return Detections(boxes.astype(np.float32), heat[rows, columns].astype(np.float32))

    def apart(self, name: str, found: Float32, wanted: Mapping[str, Float32]) -> Float32 | None:
        """See `family.Family.apart`.

        Two neighbours that are equal but for rounding may swap their peak: where only one side has
        a peak, the difference is how far the surface is from such a tie.
        """
        surface = wanted.get(SURFACE)
        if name != "heat" or surface is None:
            return None
        lonely = (found == 0) != (wanted["heat"] == 0)
        tie = np.abs(surface - _highest_neighbour(surface))
        result: Float32 = np.where(lonely, tie, np.abs(found - wanted["heat"])).astype(np.float32)
        return result


def _highest_neighbour(surface: Float32) -> Float32:
    """Maximum over the eight cells around each cell of [N, h, w]."""
    padded = np.pad(surface, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    h, w = surface.shape[1:]
    around = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    best: Float32 = np.max([padded[:, y : y + h, x : x + w] for y, x in around], axis=0)
    return best
