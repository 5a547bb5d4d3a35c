"""What pixels say: quality of crops, how much each counts, colours to follow by, or that none are.

Colours are not re-identification: enough to tell two who cross apart from one frame to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.detections import Detections, Float32, Float64, area, intersection
from skyreid.contract.sighting import Modality
from skyreid.edge.video.frame import Frame

UInt8 = NDArray[np.uint8]

BORDER_PX = 2.0
"""A box that ends this close to the frame's border is taken to be cut by it."""
ROWS, COLUMNS = 6, 2
SIZE = 3 * ROWS * COLUMNS
"""Numbers per person."""
_SIDE, _END = 0.2, 0.06  # cut off left and right, top and bottom: background

GRID_PX, ACROSS, DOWN = 160, 16, 9
"""At most so many pixels across are looked at for whether there are colours, in so many cells: the
mean of a cell has a tenth of the noise."""
COLOURED = 3
"""So many cells must have colours: fewer may be a clock or a lamp in a grey picture."""
GREY_MOST, COLOUR_LEAST = 1.0, 2.0
"""Up to so much a picture is grey, from so much on in colour, in steps of 8 bits; in between it is
what those before it were. Measured: docs/decisions/modality-is-said.md."""
STEADY_S = 1.0
"""A camera has gone over to the other once all its pictures say so for so long."""

NEAREST = 3
"""A crop looks like others if it does like so many of them: who turns round is like the latest."""


@dataclass(frozen=True)
class QualityOptions:
    """What makes a crop good. See ``quality``."""

    height_min_px: float = 24.0
    """Lower boxes are worth nothing."""
    aspect_max: float = 6.0
    """Boxes that are more than this times as high as wide, or half as wide as that, are worth
    nothing: not a person alone."""
    side_good_px: float = 64.0
    """From this root of the area on, size does not limit the quality."""
    border_factor: float = 0.4
    """A person who is cut by the frame's border counts this much."""
    behind_factor: float = 0.3
    """How much of the occlusion factor a person behind this one takes."""
    sharpness_good: float = 0.1
    """See ``sharpness``; blur does not limit the quality from here on."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What the quality of the crops of one frame is made of, each [N], 0 to 1."""

    size: Float64
    border: Float64
    free: Float64
    score: Float64

    @property
    def product(self) -> Float64:
        """Quality without the sharpness, which needs the pixels."""
        result: Float64 = self.size * self.border * self.free * self.score
        return result

    def weakest(self, row: int) -> str:
        """What limits the quality of one box most, in two or three words."""
        limits = {
            "size or shape": self.size[row],
            "cut by the border": self.border[row],
            "covered": self.free[row],
            "unsure detection": self.score[row],
        }
        return min(limits, key=lambda name: float(limits[name]))


def measure(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    width: int,
    height: int,
    options: QualityOptions,
) -> Measures:
    """Geometry's part of the quality of every box of a frame.

    ``quality = size * border * free * score * sharp`` with

    * size: root of the area over ``side_good_px``, at most 1; 0 below the least height or with an
      aspect that no person alone has;
    * border: ``border_factor`` where the box touches the frame's border, else 1;
    * free: 1 - the fraction of the box that nearer people cover - ``behind_factor`` times that
      which farther ones do, at least 0. Nearer is who stands lower in the picture;
    * score: the detector's;
    * sharp: see ``sharpness``.

    Args:
        boxes: [N, 4] x0, y0, x1, y1 of everybody in the frame.
        scores: [N] of the detector, 0 to 1.
        width: of the frame in pixels.
        height: of the frame in pixels.
        options: what makes a crop good.
    """
    o = options
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    aspect = sides[:, 1] / np.maximum(sides[:, 0], 1e-9)
    person = (sides[:, 1] >= o.height_min_px) & (aspect <= o.aspect_max)
    person &= aspect >= 2 / o.aspect_max
    size = np.where(person, np.minimum(np.sqrt(area(boxes)) / o.side_good_px, 1.0), 0.0)
    limit = np.array([width, height])
    cut = (boxes[:, :2] <= BORDER_PX).any(1) | (boxes[:, 2:] >= limit - BORDER_PX).any(1)
    covered = intersection(boxes, boxes) / np.maximum(area(boxes), 1e-9)[:, None]
    np.fill_diagonal(covered, 0.0)
    nearer = boxes[None, :, 3] >= boxes[:, None, 3]
    taken = (covered * np.where(nearer, 1.0, o.behind_factor)).sum(1)
    return Measures(
        size,
        np.where(cut, o.border_factor, 1.0),
        np.clip(1 - taken, 0.0, 1.0),
        np.clip(scores.astype(np.float64), 0.0, 1.0),
    )


def sharpness(picture: UInt8, options: QualityOptions) -> float:
    """How sharp a crop uint8 [h, w, 3] RGB is, 0 to 1.

    Variance of the Laplacian over the variance of the brightness (so that contrast does not count),
    on a common height of 96 px at most, relative to ``sharpness_good``.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if grey.shape[0] > 96:
        scale = 96 / grey.shape[0]
        size = max(1, round(grey.shape[1] * scale)), 96
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    contrast = _variance(grey) + 1.0
    edges = _variance(cv2.Laplacian(grey, cv2.CV_32F))
    return min(1.0, edges / contrast / options.sharpness_good)


def _variance(values: NDArray[Any]) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0]) ** 2


@dataclass(frozen=True)
class Judged:
    """What became of one crop of one frame."""

    quality: float
    """0 to 1; without the sharpness where its pixels were not looked at."""
    kept: bool
    why: str
    """Why it was not kept, in two or three words."""


@dataclass(eq=False)
class Crop:
    """Somebody's picture, uint8 [h, w, 3] RGB, and its embedding once there was need of it."""

    captured_at_ns: int
    quality: float
    picture: UInt8
    embedding: Float32 | None = None
    modality: Modality = Modality.UNKNOWN

    def looks_like(self, others: Sequence[Crop], like_min: float) -> bool:
        """Whether it may show whom others show: the mean cosine to the nearest of them says so."""
        known = [c.embedding for c in others if c.embedding is not None]
        if self.embedding is None or not known:
            return False
        return float(np.sort(np.stack(known) @ self.embedding)[-NEAREST:].mean()) >= like_min


def aggregate(crops: Sequence[Crop]) -> tuple[Float32, float]:
    """Mean of the embeddings of crops by their quality, L2-normalised [D], and its spread.

    The spread is the mean cosine of the embeddings to the aggregate.
    """
    weights = np.array([c.quality for c in crops])
    vectors = np.stack([c.embedding for c in crops if c.embedding is not None])
    mean = (vectors * weights[:, None]).sum(0)
    unit = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return unit, float((vectors @ unit).mean())


def with_looks(picture: NDArray[np.uint8], found: Detections) -> Detections:
    """The same people, with what each of them looks like in the RGB picture uint8 [H, W, 3]."""
    return Detections(found.boxes, found.scores, describe(picture, found.boxes))


def describe(picture: NDArray[np.uint8], boxes: NDArray[np.floating]) -> Float32:
    """Mean colour of the cells of a 6 x 2 grid on each box, float32 [N, 36] in CIE L*a*b*.

    Args:
        picture: RGB uint8 [H, W, 3].
        boxes: [N, 4] x0, y0, x1, y1 in its pixels.
    """
    height, width = picture.shape[:2]
    if not len(boxes):
        return np.zeros((0, SIZE), np.float32)
    cells = np.empty((len(boxes) * ROWS, COLUMNS, 3), np.uint8)
    for index, (left, top, right, bottom) in enumerate(_insides(boxes, width, height)):
        inside, into = picture[top:bottom, left:right], cells[ROWS * index : ROWS * (index + 1)]
        cv2.resize(inside, (COLUMNS, ROWS), into, 0, 0, cv2.INTER_AREA)
    lab = cv2.cvtColor(cells.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    return np.asarray(lab, np.float32).reshape(-1, SIZE)


def _insides(
    boxes: NDArray[np.floating], width: int, height: int
) -> Iterator[tuple[int, int, int, int]]:
    """Boxes without their edges, in whole pixels; a pixel a cell where there are any."""
    last_left, last_top = max(width - COLUMNS, 0), max(height - ROWS, 0)
    for x0, y0, x1, y1 in boxes.tolist():  # few boxes: numpy takes longer to begin
        beside, above = _SIDE * (x1 - x0), _END * (y1 - y0)
        left = min(max(round(x0 + beside), 0), last_left)
        top = min(max(round(y0 + above), 0), last_top)
        right = min(max(round(x1 - beside), left + COLUMNS), width)
        bottom = min(max(round(y1 - above), top + ROWS), height)
        yield left, top, right, bottom


class Seeing:
    """What a camera's pixels are: what somebody said, or else colour or grey, as measured."""

    def __init__(self, said: Modality) -> None:
        self._measured = said is Modality.UNKNOWN
        self._since_ns: int | None = None
        self.modality = said
        """Until the first picture that is plainly one or the other: ``UNKNOWN``."""

    @property
    def steady(self) -> bool:
        """False while the camera may be going over: nobody knows what a crop is then."""
        return self._since_ns is None

    def note(self, frame: Frame) -> None:
        """Take in the next frame."""
        if not self._measured:
            return
        much, found = chroma(frame), self.modality
        if much <= GREY_MOST:
            found = Modality.GREY
        elif much >= COLOUR_LEAST:
            found = Modality.COLOUR
        if found is not self.modality and self._since_ns is None:
            self._since_ns = frame.captured_at_ns
        begun_ns, first = self._since_ns, self.modality is Modality.UNKNOWN
        if begun_ns is None or first or frame.captured_at_ns - begun_ns >= STEADY_S * 1e9:
            self.modality = found
        if found is self.modality:
            self._since_ns = None


def chroma(frame: Frame) -> float:
    """How much colour a picture has: the ``COLOURED``-th most of its cells', in steps of 8 bits.

    That of a cell is the larger of |U - 128| and |V - 128|, of the mean U and V in it: noise is
    as often below as above.
    """
    planes: tuple[NDArray[Any], ...]
    if frame.planes is not None:
        planes, less = frame.planes.chroma, 128
    else:
        step = -(-frame.width // GRID_PX)
        planes = (cv2.transform(frame.rgb()[::step, ::step].astype(np.float32), _TO_CHROMA),)
        less = 0
    step = -(-planes[0].shape[1] // GRID_PX)
    cells = [
        cv2.resize(
            plane[::step, ::step].astype(np.float32), (ACROSS, DOWN), interpolation=cv2.INTER_AREA
        )
        for plane in planes
    ]
    much = np.abs(np.concatenate([of.reshape(ACROSS * DOWN, -1) for of in cells], 1) - less).max(1)
    return float(np.sort(much)[-COLOURED])


_TO_CHROMA = 224 / 255 * np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
"""RGB to U and V less 128, BT.601, limited range."""
