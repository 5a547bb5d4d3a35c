"""Many pictures through a model, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.runner import OnnxRunner, Outputs

BATCH = 16  # where nothing depends on it


def run_all(
    run: Callable[[NDArray[np.uint8]], Outputs],
    pictures: NDArray[np.uint8],
    batch: int,
    *,
    what: str,
) -> Outputs:
    """Outputs of all pictures uint8 [N, H, W, 3], `batch` at a time; `what` is on the bar."""
    rows: list[Outputs] = []
    with tqdm(total=len(pictures), desc=what, unit="picture", disable=None) as bar:
        for first in range(0, len(pictures), batch):
            some = pictures[first : first + batch]
            rows.append(run(some))
            bar.update(len(some))
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def run_onnx(
    model: bytes,
    pictures: NDArray[np.uint8],
    *,
    name: str,
    quantised: bool,
    batch: int = BATCH,
    threads: int = 1,
) -> Outputs:
    """The same by ONNX Runtime.

    Args:
        model: serialised ONNX.
        pictures: uint8 [N, H, W, 3].
        name: of the model, on the bar and in messages.
        quantised: whether its Linears are int8.
        batch: pictures at a time.
        threads: of ONNX Runtime.
    """
    with OnnxRunner(model, name=name, threads=threads, quantised=quantised) as runner:
        return run_all(runner.run, pictures, batch, what=f"{name}, batch {batch}")
