"""The YOLOX family of detectors, from an ONNX file that the user names.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430. The input is BGR 0..255, scaled
into the top left corner of a canvas of grey 114; the output has one row per cell: centre, size,
objectness and class probabilities, where centre and size are either decoded already or relative to
the cell (``(p + cell) * stride`` and ``exp(p) * stride``), which the file does not say and
``_is_raw`` finds out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import BundleError, PlatformError
from skyreid.edge.people.detections import Detections, Float32, clip, suppress

STRIDES = (8, 16, 32)
P6_STRIDES = (8, 16, 32, 64)
PERSON = 0
"""Column of the person class: the first, as in COCO."""
GREY = 114


class YoloxNetwork:
    """Finds people in a picture of any size with a YOLOX ONNX file on the CPU."""

    def __init__(
        self, path: Path, *, score_min: float, iou_max: float = 0.5, threads: int = 1
    ) -> None:
        """Load the file and check that it is a YOLOX.

        Args:
            path: the ONNX file.
            score_min: detections below it are dropped.
            iou_max: of two boxes with a higher IoU the one with the lower score goes.
            threads: CPU threads of one call.

        Raises:
            PlatformError: ONNX Runtime is not installed.
            BundleError: the file is missing, does not load or is no YOLOX.
        """
        self._session: Any = _open(path, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        found = ", ".join(f"{v.name} {v.type} {v.shape}" for v in [*inputs, *outputs])
        refusal = BundleError(
            f"{path} is no YOLOX detector: expected one float input [1, 3, height, width] and one "
            f"output [1, cells, 5 + classes], it has {found}; give a YOLOX export or a detector "
            "bundle"
        )
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            raise refusal
        _, channels, height, width = inputs[0].shape
        if channels != 3 or not isinstance(height, int) or not isinstance(width, int):
            raise refusal
        self._height, self._width = height, width
        self._input = inputs[0].name
        blank = self._run(np.full((1, 3, height, width), GREY, np.float32))
        layouts = [
            s for s in (STRIDES, P6_STRIDES) if _cells(height, width, s) == blank.shape[-2:][0]
        ]
        if len(outputs) != 1 or blank.ndim != 3 or blank.shape[2] < 6 or not layouts:
            raise refusal
        self._grid, self._stride = grid(height, width, layouts[0])
        self._raw = _is_raw(blank[0])
        self._score_min, self._iou_max = score_min, iou_max

    def find(self, picture: NDArray[np.uint8]) -> Detections:
        """People in an RGB picture uint8 [H, W, 3], boxes in its pixels."""
        height, width = picture.shape[:2]
        canvas, scale = letterbox(picture, self._height, self._width)
        rows = self._run(canvas)[0]
        scores = rows[:, 4] * rows[:, 5 + PERSON]
        chosen = scores >= self._score_min
        rows = rows[chosen]
        if self._raw:
            rows = decode(rows, self._grid[chosen], self._stride[chosen])
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        boxes = np.concatenate([centre - half, centre + half], 1) / np.float32(scale)
        found = Detections(boxes.astype(np.float32), scores[chosen].astype(np.float32))
        return suppress(clip(found, width, height), self._iou_max)

    def _run(self, canvas: Float32) -> Float32:
        output: Float32 = self._session.run(None, {self._input: canvas})[0]
        return output


def letterbox(picture: NDArray[np.uint8], height: int, width: int) -> tuple[Float32, float]:
    """RGB uint8 [h, w, 3] -> BGR float32 [1, 3, height, width], and the scale that was applied."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    canvas = np.full((height, width, 3), GREY, np.uint8)
    canvas[: size[1], : size[0]] = small
    planes = canvas[:, :, ::-1].transpose(2, 0, 1)[None]  # RGB HWC -> BGR NCHW
    return np.ascontiguousarray(planes, np.float32), scale


def grid(height: int, width: int, strides: tuple[int, ...]) -> tuple[Float32, Float32]:
    """Cell columns and rows [cells, 2] and strides [cells, 1], in the order of the output."""
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], 1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def decode(rows: Float32, cells: Float32, strides: Float32) -> Float32:
    """Raw rows [N, 5 + classes] -> rows whose first four are centre and size in input pixels."""
    decoded = rows.copy()
    decoded[:, :2] = (rows[:, :2] + cells) * strides
    decoded[:, 2:4] = np.exp(rows[:, 2:4]) * strides
    return decoded


def _cells(height: int, width: int, strides: tuple[int, ...]) -> int:
    return sum((height // stride) * (width // stride) for stride in strides)


def _is_raw(rows: Float32) -> bool:
    """Whether centres are relative to their cell: then they do not spread over the picture."""
    return bool(np.percentile(np.abs(rows[:, :2]), 90) < 2 * STRIDES[0])


def _open(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise PlatformError("onnxruntime is not installed: pip install 'skyreid[edge]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong with the file is said in one line of our own
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own tree has no public base class
        reason = "does not exist" if not path.exists() else f"does not load: {error}"
        raise BundleError(f"detector {path} {reason}") from error
