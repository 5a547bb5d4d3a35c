"""Cut a frame into overlapping tiles for a detector whose input is too small for distant people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections, area, intersection, nobody, suppress

Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the frame; x1 and y1 are exclusive."""

SEAM_PX = 3.0
"""A box that ends this close to an inner border of its tile is taken to be cut by it."""
PART_MIN = 0.6
"""A cut box is a part of another one when this fraction of its area lies inside that one."""


class Finder(Protocol):
    """Finds people in a picture: a detector, or one that is run over tiles."""

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        """RGB uint8 [H, W, 3] of any size -> boxes in its pixels, best first."""
        ...


class Tiled:
    """Runs a detector over a picture tile by tile."""

    def __init__(
        self, finder: Finder, tiles: tuple[int, int], *, overlap: float = 0.2, iou_max: float = 0.5
    ) -> None:
        """Set up.

        Args:
            finder: what finds people in a tile.
            tiles: rows and columns of tiles.
            overlap: fraction of a tile that its neighbour covers too; at least a person's size.
            iou_max: when tiles are merged, of two boxes with a higher IoU the weaker one goes.
        """
        self._finder, self._tiles = finder, tiles
        self._overlap, self._iou_max = overlap, iou_max

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        """See `Finder.find`."""
        height, width = picture.shape[:2]
        tiles = lay_tiles(width, height, *self._tiles, self._overlap)
        found = [(tile, self._finder.find(cut_out(picture, tile))) for tile in tiles]
        return merge_tiles(found, width, height, self._iou_max)


def tiled(finder: Finder, tiles: tuple[int, int]) -> Finder:
    """A detector run over rows and columns of tiles; itself where there is one."""
    return finder if tiles == (1, 1) else Tiled(finder, tiles)


def lay_tiles(width: int, height: int, rows: int, columns: int, overlap: float) -> list[Tile]:
    """Tiles of equal size that cover the frame, row by row.

    Args:
        width: of the frame in pixels.
        height: of the frame in pixels.
        rows: number of tiles one above the other.
        columns: number of tiles side by side.
        overlap: fraction of a tile that its neighbour covers too, 0 to below 1.
    """
    return [
        (x0, y0, x1, y1)
        for y0, y1 in _spans(height, rows, overlap)
        for x0, x1 in _spans(width, columns, overlap)
    ]


def merge_tiles(
    found: Sequence[tuple[Tile, Detections]], width: int, height: int, iou_max: float
) -> Detections:
    """One frame's detections from those of its tiles (boxes in pixels of the tile).

    A box cut by an inner border gives way to a whole one that holds most of it; then the rest
    goes through non-maximum suppression.
    """
    if not found:
        return nobody()
    shifted, cut = [], []
    for (x0, y0, x1, y1), detections in found:
        boxes = detections.boxes + np.array([x0, y0, x0, y0], np.float32)
        shifted.append(boxes)
        cut.append(
            ((boxes[:, 0] <= x0 + SEAM_PX) & (x0 > 0))
            | ((boxes[:, 1] <= y0 + SEAM_PX) & (y0 > 0))
            | ((boxes[:, 2] >= x1 - SEAM_PX) & (x1 < width))
            | ((boxes[:, 3] >= y1 - SEAM_PX) & (y1 < height))
        )
    boxes, at_seam = np.concatenate(shifted), np.concatenate(cut)
    scores = np.concatenate([detections.scores for _, detections in found])
    whole, part = boxes[~at_seam], np.zeros(len(boxes), bool)
    for index in np.flatnonzero(at_seam):  # one by one: many boxes must not make a square of them
        mine = boxes[index : index + 1]
        part[index] = (intersection(mine, whole) >= PART_MIN * np.maximum(area(mine), 1e-9)).any()
    return suppress(Detections(boxes[~part], scores[~part]), iou_max)


def cut_out(picture: NDArray[np.uint8], tile: Tile) -> NDArray[np.uint8]:
    """The tile's pixels, a view of the picture."""
    x0, y0, x1, y1 = tile
    return picture[y0:y1, x0:x1]


def _spans(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    if count == 1:
        return [(0, length)]
    side = min(length, int(np.ceil(length / (count - (count - 1) * overlap))))
    starts = np.linspace(0, length - side, count).round().astype(int)
    return [(int(start), int(start) + side) for start in starts]
