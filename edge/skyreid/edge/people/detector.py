"""The detector of the device: a network that finds people, run over the frame or over its tiles."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import ON_CPU, Execution
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import BundleError
from skyreid.edge.people.colours import describe
from skyreid.edge.people.detections import Detections
from skyreid.edge.people.heatmap import HeatmapNetwork
from skyreid.edge.people.tiling import cut_out, lay_tiles, merge_tiles
from skyreid.edge.people.yolox import YoloxNetwork
from skyreid.edge.video.frame import Frame

log = logging.getLogger(__name__)

YOLOX_SCORE_MIN = 0.1
"""Default for a YOLOX file. Low on purpose: the tracker makes use of weak boxes."""


class Network(Protocol):
    """Finds people in one picture."""

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        """RGB uint8 [H, W, 3] of any size -> boxes in its pixels."""
        ...


class Detector:
    """Runs a network over a frame, whole or tile by tile."""

    def __init__(
        self,
        network: Network,
        *,
        tiles: tuple[int, int] = (1, 1),
        overlap: float = 0.2,
        iou_max: float = 0.5,
    ) -> None:
        """Set up.

        Args:
            network: what finds people in a picture.
            tiles: rows and columns of tiles.
            overlap: fraction of a tile that its neighbour covers too; at least a person's size.
            iou_max: when tiles are merged, of two boxes with a higher IoU the weaker one goes.
        """
        self._network, self._tiles = network, tiles
        self._overlap, self._iou_max = overlap, iou_max

    def detect(self, frame: Frame) -> Detections:
        """People of a frame, boxes in its pixels, best first."""
        return self.find(frame.rgb())

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        """People of an RGB picture uint8 [H, W, 3], with what they look like."""
        found = self._boxes(picture)
        return Detections(found.boxes, found.scores, describe(picture, found.boxes))

    def _boxes(self, picture: NDArray[np.uint8]) -> Detections:
        if self._tiles == (1, 1):
            return self._network.find(picture)
        height, width = picture.shape[:2]
        tiles = lay_tiles(width, height, *self._tiles, self._overlap)
        found = [(tile, self._network.find(cut_out(picture, tile))) for tile in tiles]
        return merge_tiles(found, width, height, self._iou_max)


def open_detector(
    path: Path,
    *,
    score_min: float | None = None,
    tiles: tuple[int, int] = (1, 1),
    threads: int = 1,
    trust: Trust = ANYONE,
    execution: Execution = ON_CPU,
) -> Detector:
    """Open a YOLOX ``.onnx`` file or a detector bundle (directory or zip).

    Args:
        path: the file or directory.
        score_min: detections below it are dropped; None = the bundle's own, or
            ``YOLOX_SCORE_MIN``.
        tiles: rows and columns of tiles.
        threads: CPU threads of one call.
        trust: whose bundles are accepted.
        execution: where a bundle's model runs; a bare ``.onnx`` file runs on the CPU.

    Raises:
        PlatformError: ONNX Runtime, or what `execution` asks for, is not installed.
        BundleError: the file or directory is no detector, or not signed as `trust` asks; a bare
            ``.onnx`` file never is.
        GateError: a bundle's self-test failed.
    """
    network: Network
    if path.suffix.lower() == ".onnx":
        if trust.require_signature:
            raise BundleError(
                f"{path} is a bare .onnx file and trust.require_signature is set: "
                "only a bundle can be signed"
            )
        score = YOLOX_SCORE_MIN if score_min is None else score_min
        if execution.kind == "tensorrt":
            log.warning("%s is no bundle: it runs by ONNX Runtime on the CPU", path)
        network = YoloxNetwork(path, score_min=score, threads=threads)
    else:
        bundle = open_bundle(path, trust)
        network = HeatmapNetwork(bundle, score_min=score_min, threads=threads, execution=execution)
    return Detector(network, tiles=tiles)
