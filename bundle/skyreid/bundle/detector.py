"""Pictures to people: the only padding, letterboxing, decoding and clipping there is.

Suppression follows (``detections.py``). Beside ``embedder.py``. A device, training's evaluation
and every gate look through this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle, open_bundle
from skyreid.bundle.detections import Detections, Float32, clip, join, suppress
from skyreid.bundle.family import Family, family_of
from skyreid.bundle.manifest import DetectorSpec, Fit
from skyreid.bundle.runner import ON_CPU, Execution, Outputs, self_test, start
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import BundleError
from skyreid.contract.input_spec import InputSpec

UInt8 = NDArray[np.uint8]

GREY = 114
"""Of what is filled up around a picture."""

Run = Callable[[UInt8], Outputs]
"""uint8 [N, H, W, 3] RGB of a size that the network takes -> float32 outputs by name."""


class Detector:
    """Finds people in pictures of any size."""

    def __init__(
        self,
        run: Run,
        spec: DetectorSpec,
        size: InputSpec,
        *,
        score_min: float | None = None,
        close: Callable[[], None] = lambda: None,
        cut: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up.

        Args:
            run: the network.
            spec: its family, and how its outputs are read.
            size: of its input; 0 x 0 = any multiple of ``spec.align``.
            score_min: detections below it are dropped; None = what ``spec`` says.
            close: frees the network.
            cut: asks a call of it that another thread is in to end; none comes afterwards.

        Raises:
            BundleError: the family is unknown.
        """
        self._run, self._spec, self._size, self.close = run, spec, size, close
        self._least_px = spec.least_side_px
        self.cut = cut
        self._family: Family = family_of(spec)
        self._score_min = spec.score_min if score_min is None else score_min

    def find(self, picture: UInt8) -> Detections:
        """People in an RGB picture uint8 [H, W, 3], boxes in its pixels and inside it, best first.

        The same in training's evaluation and on a device, whatever runs the network.
        """
        height, width = picture.shape[:2]
        looks, scale = [self._look(picture)], 1
        while self._is_large(picture):
            picture, scale = half(picture), 2 * scale
            found = self._look(picture)
            tall = found.boxes[:, 3] - found.boxes[:, 1] >= self._spec.half_height_px
            looks.append(Detections(scale * found.boxes[tall], found.scores[tall]))
        return suppress(clip(join(*looks), width, height), self._family.iou_max)

    def _is_large(self, picture: UInt8) -> bool:
        """Whether people in a picture may be too large, and a network takes it at half its size."""
        height, width = picture.shape[:2]
        wide = 0 < self._spec.half_from_px <= width
        return bool(wide and min(height, width) >= 2 * self._least_px)

    def _look(self, picture: UInt8) -> Detections:
        """One pass of the network: boxes in the picture's pixels, overlapping, in any order."""
        canvas, placement = place(picture, self._size, self._spec.align, self._spec.fit)
        outputs = {name: values[0] for name, values in self._run(canvas[None]).items()}
        found = self._family.decode(outputs, self._spec, self._score_min)
        return Detections(placement.undo(found.boxes), found.scores)

    def require_shapes(self, name: str) -> None:
        """Run a blank picture and hold the outputs against the family.

        Raises:
            BundleError: they are not the family's; `name` is in the message.
        """
        side = self._spec.least_side_px
        height, width = self._size.height or side, self._size.width or side
        outputs = self._run(np.full((1, height, width, 3), GREY, np.uint8))
        found = {key: tuple(values.shape) for key, values in outputs.items()}
        shapes = self._family.shapes(height, width, self._spec)
        if found != {key: (1, *shape) for key, shape in shapes.items()}:
            raise BundleError(
                f"{name} is no detector of family {self._family.name}: for {height} x {width} "
                f"pixels it gives {_said(found)}, the family {_said(shapes)} a picture; export it "
                "again, as what it is"
            )


def open_detector(
    path: Path,
    *,
    score_min: float | None = None,
    threads: int = 1,
    trust: Trust = ANYONE,
    execution: Execution = ON_CPU,
) -> Detector:
    """Open a detector bundle, directory or zip, and let it prove itself on its golden pictures.

    Args:
        path: of the bundle.
        score_min: detections below it are dropped; None = the bundle's own.
        threads: CPU threads of one call.
        trust: whose bundles are accepted.
        execution: where the model runs.

    Raises:
        PlatformError: ONNX Runtime, or what `execution` asks for, is not installed.
        BundleError: it is no detector bundle, its outputs are not its family's, or it is not signed
            as `trust` asks.
        GateError: the self-test failed.
    """
    if path.suffix.lower() == ".onnx":
        raise BundleError(
            f"{path} is a bare .onnx file, which says neither its family nor its threshold and "
            f"cannot be signed: wrap it once, skyreid-export bundle {path.name} --kind detector "
            "--family yolox --golden PICTURES --out DIRECTORY"
        )
    return start_detector(
        open_bundle(path, trust), score_min=score_min, threads=threads, execution=execution
    )


def start_detector(
    bundle: Bundle,
    *,
    score_min: float | None = None,
    threads: int = 1,
    execution: Execution = ON_CPU,
) -> Detector:
    """`open_detector` of a bundle that is open already."""
    spec = bundle.manifest.detector
    if bundle.manifest.kind != "detector" or spec is None:
        raise BundleError(
            f"bundle {bundle.path} holds an embedder, not a detector; "
            "give it as the embedder, and a detector bundle here"
        )
    family_of(spec)  # before an engine is built for minutes
    runner = start(bundle, threads=threads, execution=execution)
    detector = Detector(
        runner.run,
        spec,
        bundle.manifest.input,
        score_min=score_min,
        close=runner.close,
        cut=runner.cut,
    )
    detector.require_shapes(f"bundle {bundle.path}")
    self_test(bundle, runner)
    return detector


def half(picture: UInt8) -> UInt8:
    """A picture at half its size, each pixel the mean of four; an odd last row or column goes."""
    height, width = picture.shape[:2]
    even = picture[: height // 2 * 2, : width // 2 * 2]
    return np.asarray(cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA))


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network's input."""

    across: float = 1.0
    """Scale of the columns, input to picture."""
    down: float = 1.0
    """The same of the rows."""
    left: int = 0
    """Columns of grey before it."""
    top: int = 0

    def undo(self, boxes: Float32) -> Float32:
        """Boxes [N, 4] of the input, in pixels of the picture."""
        if self == Placement():
            return boxes
        corner = np.array([self.left, self.top] * 2, np.float32)
        scale = np.array([self.across, self.down] * 2, np.float32)
        result: Float32 = ((boxes - corner) / scale).astype(np.float32)
        return result


def place(
    picture: UInt8, size: InputSpec, align: int, fit: Fit = "corner"
) -> tuple[UInt8, Placement]:
    """A picture as the network takes it, filled up with grey.

    Where the input has a size, the picture is scaled into it (bilinear) as `fit` says; else it
    stays as it is, and both sides grow right and bottom to multiples of `align`.

    Args:
        picture: uint8 [H, W, 3] RGB.
        size: of the input; 0 x 0 = any.
        align: see ``DetectorSpec``.
        fit: the same.

    Returns:
        uint8 [h, w, 3], and where the picture lies in it.
    """
    height, width = picture.shape[:2]
    if not (size.height and size.width):
        return _filled(picture, 0, 0, -height % align, -width % align), Placement()
    if fit == "stretch":
        stretched = cv2.resize(picture, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(stretched), Placement(size.width / width, size.height / height)
    scale = min(size.height / height, size.width / width)
    height, width = max(1, int(height * scale)), max(1, int(width * scale))
    scaled = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR))
    below, beside = size.height - height, size.width - width
    top, left = (below // 2, beside // 2) if fit == "centre" else (0, 0)
    canvas = _filled(scaled, top, left, below - top, beside - left)
    return canvas, Placement(scale, scale, left, top)


def _filled(picture: UInt8, top: int, left: int, below: int, beside: int) -> UInt8:
    """The picture with rows and columns of grey around it."""
    if not (top or left or below or beside):
        return picture
    return np.pad(picture, ((top, below), (left, beside), (0, 0)), constant_values=GREY)


def _said(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
