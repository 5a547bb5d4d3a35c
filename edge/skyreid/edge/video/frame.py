"""One decoded picture of a camera, in the planes the decoder wrote; colours are made on demand.

Converting whole frames to RGB costs more CPU than decoding them, so a frame keeps views of the
decoder's memory and converts only what is asked for. The views are valid until ``release()``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.sighting import Clock

UInt8 = NDArray[np.uint8]


def _nothing() -> None:
    return None


@dataclass(frozen=True, eq=False)
class Planes:
    """The memory of a 4:2:0 picture; rows may be longer than the picture (strided views).

    ``luma`` is uint8 [H, W]. ``nv12``: ``chroma`` is one uint8 [ceil(H/2), ceil(W/2), 2] array of
    U, V pairs. ``i420``: two uint8 [ceil(H/2), ceil(W/2)] arrays, U and V.
    """

    layout: Literal["nv12", "i420"]
    luma: UInt8
    chroma: tuple[UInt8, ...]

    def rgb(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """A region as uint8 [y1 - y0, x1 - x0, 3] RGB; equals the same region of the whole frame.

        BT.601 with limited range, which is what an untagged stream means here and what training
        saw. A stream tagged BT.709 comes out with slightly shifted saturated colours.
        """
        import cv2

        # A chroma sample covers 2x2 pixels: convert from an even corner, cut off afterwards.
        left, top = x0 & ~1, y0 & ~1
        columns, rows = (x1 - left + 1) // 2, (y1 - top + 1) // 2
        luma = self.luma[top : top + 2 * rows, left : left + 2 * columns]
        if luma.shape != (2 * rows, 2 * columns):  # a frame of odd size: repeat its last row/column
            missing = (2 * rows - luma.shape[0], 2 * columns - luma.shape[1])
            luma = np.pad(luma, ((0, missing[0]), (0, missing[1])), mode="edge")
        area = np.s_[top // 2 : top // 2 + rows, left // 2 : left // 2 + columns]
        if self.layout == "nv12":
            pairs = self.chroma[0][area]
        else:
            pairs = np.stack([self.chroma[0][area], self.chroma[1][area]], -1)
        picture: UInt8 = cv2.cvtColorTwoPlane(
            np.ascontiguousarray(luma), np.ascontiguousarray(pairs), cv2.COLOR_YUV2RGB_NV12
        )
        return np.ascontiguousarray(picture[y0 - top : y1 - top, x0 - left : x1 - left])


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of one camera."""

    number: int
    """From 1, counting every decoded frame of the source."""
    captured_at_ns: int
    """UTC, nanoseconds; strictly increasing from frame to frame."""
    clock: Clock
    clock_error_ms: int
    width: int
    height: int
    planes: Planes | None = None
    """None only in a frame made by ``of_rgb``."""
    picture: UInt8 | None = None
    """The RGB picture of a frame made by ``of_rgb``."""
    release: Callable[[], None] = field(default=_nothing, repr=False)
    """Gives the memory back to the decoder; the planes must not be touched afterwards."""

    def rgb(self) -> UInt8:
        """The whole frame, uint8 [H, W, 3] RGB, owned by the caller."""
        return self.crop(0, 0, self.width, self.height)

    def crop(self, x0: int, y0: int, x1: int, y1: int) -> UInt8:
        """Region with x1 and y1 exclusive, uint8 [y1 - y0, x1 - x0, 3] RGB, owned by the caller.

        Raises:
            ValueError: the region is empty or reaches outside the frame.
        """
        if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
            raise ValueError(
                f"region {(x0, y0, x1, y1)} is not inside a {self.width}x{self.height} frame"
            )
        if self.planes is not None:
            return self.planes.rgb(x0, y0, x1, y1)
        if self.picture is None:
            raise ValueError("a frame without planes and without a picture")
        return self.picture[y0:y1, x0:x1].copy()

    @classmethod
    def of_rgb(
        cls,
        picture: UInt8,
        *,
        number: int = 1,
        captured_at_ns: int = 1,
        clock: Clock = Clock.FILE,
        clock_error_ms: int = 0,
    ) -> Frame:
        """A frame from an RGB picture uint8 [H, W, 3], for tests and tools without a decoder."""
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"expected uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
        height, width = picture.shape[:2]
        return cls(number, captured_at_ns, clock, clock_error_ms, width, height, picture=picture)
