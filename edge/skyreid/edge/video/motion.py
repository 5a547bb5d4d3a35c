"""Camera motion, seen: how the picture of what stands still moves, from the pictures alone.

Corners of a small grey picture are followed (Lucas and Kanade, IJCAI 1981, by pyramids) and the
homography of the ground is fitted through them with RANSAC, so that people who walk are outvoted.
They are followed from a picture that is kept for a while, not from frame to frame: errors of a
twentieth of a pixel would add up to more than a hovering drone moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.edge.video.frame import Planes

UInt8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]

_WIDTH_PX = 320
"""Of the small picture."""
_CORNERS, _CORNERS_MIN = 80, 12
_KEPT_SHARE = 0.1
"""Of the picture's width: what has moved farther is followed from a new picture ..."""
_LEFT_SHARE = 0.6
"""... and where fewer of the corners are left than this."""
_AGREE_SHARE = 0.4
"""So many of the corners must move as one."""
_SIZES = (0.2, 5.0)
"""Times its area that a picture may become."""
_ONE_PX = 1.5
"""What is farther from where it should be moves by itself."""


class Seen(Protocol):
    """What is asked of a frame: see `Frame`."""

    @property
    def planes(self) -> Planes | None:
        """As the decoder wrote them."""
        ...

    @property
    def picture(self) -> UInt8 | None:
        """RGB, where it came so."""
        ...


@dataclass(frozen=True, eq=False)
class _Kept:
    """The picture from which corners are followed."""

    grey: UInt8
    corners: NDArray[np.float32]


class PictureMotion:
    """Follows the picture of one camera."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._now: NDArray[np.float32] | None = None
        self._before = np.eye(3)
        self._path = np.zeros(3)

    def clear(self) -> None:
        """Begin anew with the next frame."""
        self._kept = self._now = None

    def step(self, frame: Seen) -> tuple[Float64, bool] | None:
        """Take in a frame.

        Returns:
            How far the picture has moved until now, frame by frame, [3] as `middle_motion` has it,
            and whether it is counted anew: the frame before could not be followed into this one.
            None where there is nothing to follow.
        """
        grey = small(frame)
        if grey is None:
            return None
        kept = self._kept
        if kept is not None and kept.grey.shape == grey.shape:
            followed = self._follow(kept, grey)
            if followed is not None:
                moved, left = followed
                height, width = grey.shape
                # From the frame before; what the kept picture is off by falls out.
                by = moved @ np.linalg.inv(self._before)
                self._path = self._path + middle_motion(by, width, height)
                self._before = moved
                far = np.abs(middle_motion(moved, width, height)).max() > _KEPT_SHARE
                if far or left < _LEFT_SHARE * len(kept.corners):
                    self._keep(grey)
                return self._path, False
        self._path = np.zeros(3)
        return (self._path, True) if self._keep(grey) else None

    def _keep(self, grey: UInt8) -> bool:
        import cv2

        corners = cv2.goodFeaturesToTrack(grey, _CORNERS, 0.02, grey.shape[1] / 25)
        enough = corners is not None and len(corners) >= _CORNERS_MIN
        self._kept = _Kept(grey, corners) if enough else None
        self._now = corners if enough else None
        self._before = np.eye(3)
        return enough

    def _follow(self, kept: _Kept, grey: UInt8) -> tuple[Float64, int] | None:
        """The homography [3, 3] from the kept picture, and how many corners say so."""
        import cv2

        guess = self._now
        flow = cv2.OPTFLOW_USE_INITIAL_FLOW
        now, found, _ = cv2.calcOpticalFlowPyrLK(
            *(kept.grey, grey, kept.corners, None if guess is None else guess.copy()),
            winSize=(15, 15),
            maxLevel=2,
            flags=flow if guess is not None else 0,
        )
        good = found[:, 0] == 1
        if good.sum() < _CORNERS_MIN:
            return None
        fitted, inside = cv2.findHomography(kept.corners[good], now[good], cv2.RANSAC, _ONE_PX)
        if fitted is None or inside.sum() < max(_CORNERS_MIN, _AGREE_SHARE * good.sum()):
            return None
        if not _SIZES[0] < float(np.linalg.det(fitted)) < _SIZES[1]:
            return None  # no picture grows or shrinks so
        if not good.all():  # where a corner was lost it is looked for where it should be
            now[~good] = cv2.perspectiveTransform(kept.corners[~good], fitted)
        self._now = now
        return fitted, int(inside.sum())


def middle_motion(homography: Float64, width_px: int, height_px: int) -> Float64:
    """How far the middle of a picture moves right and down, and how the picture turns clockwise.

    Args:
        homography: [3, 3], of pixels before to pixels after.
        width_px: of the picture.
        height_px: of the picture.

    Returns:
        [3] in widths of the picture, and radians.
    """
    middle = np.array([width_px / 2, height_px / 2, 1.0])
    there = homography @ middle
    x, y = there[:2] / there[2]
    jacobian = (homography[:2, :2] - np.outer([x, y], homography[2, :2])) / there[2]
    angle = np.arctan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1])
    return np.array([(x - middle[0]) / width_px, (y - middle[1]) / width_px, angle])


def small(frame: Seen) -> UInt8 | None:
    """The frame's brightness, uint8 [h, 320]; None where it has no picture."""
    import cv2

    if frame.planes is not None:
        luma = frame.planes.luma
    elif frame.picture is not None:
        luma = cv2.cvtColor(frame.picture, cv2.COLOR_RGB2GRAY)
    else:
        return None
    height = max(16, round(luma.shape[0] * _WIDTH_PX / luma.shape[1]))
    shrunk: UInt8 = cv2.resize(luma, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    return shrunk
