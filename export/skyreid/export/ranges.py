"""The ranges of activations on real pictures, which others call calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from skyreid.contract.errors import InputError
from skyreid.export.crops import Pictures
from skyreid.export.int8 import quantised_inputs

Method = Literal["percentile", "minmax"]
PERCENTILE = 99.99
_BATCH = 16


def measure(
    data: bytes,
    pictures: NDArray[np.uint8],
    method: Method,
    percentile: float = PERCENTILE,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """The range of every activation that a Linear reads.

    Args:
        data: serialised fp32 ONNX.
        pictures: uint8 [N, H, W, 3].
        method: the largest absolute value over all pictures, or the largest of each batch's
            percentile, which lets a few outliers saturate.
        percentile: 0 to 100, for `percentile`.
        advance: is told how many pictures are done.

    Returns:
        By activation; 0 for one that is dead, which no scale has.

    Raises:
        InputError: the percentile is none.
    """
    require_percentile(percentile)
    model = onnx.load_from_string(data)
    names = quantised_inputs(model)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    entry = session.get_inputs()[0].name
    largest = dict.fromkeys(names, 0.0)
    for start in range(0, len(pictures), _BATCH):
        some = pictures[start : start + _BATCH]
        for name, values in zip(names, session.run(names, {entry: some}), strict=True):
            sizes = np.abs(values)
            top = sizes.max() if method == "minmax" else np.percentile(sizes, percentile)
            largest[name] = max(largest[name], float(top))
        advance(len(some))
    return largest


def require_percentile(percentile: float) -> None:
    """Raise `InputError` for what is no percentile, before anything slow is done."""
    if not 0 < percentile <= 100:
        raise InputError(f"--percentile {percentile}: above 0 and up to 100 are possible")


def as_json(
    pictures: Pictures,
    ranges: Mapping[str, float],
    method: Method,
    percentile: float,
    kept: Mapping[str, str],
) -> dict[str, Any]:
    """What `int8-ranges.json` says: which pictures, how, what came out, and what stayed in float.

    Args:
        pictures: that were used.
        ranges: of `measure`.
        method: see there.
        percentile: see there.
        kept: Linears that are not in int8, by their name for people: why.
    """
    return {
        "pictures": len(pictures.listed),
        "pictures_sha256": pictures.sha256,
        "listed": list(pictures.listed),
        "method": method,
        "percentile": percentile if method == "percentile" else None,
        "ranges": dict(ranges),
        "kept_in_float": dict(kept),
    }
