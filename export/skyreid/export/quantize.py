"""An INT8 variant for a bundle that has fp32: measured on real pictures, judged on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.archive import Bundle, open_bundle, write_bundle
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.runner import OnnxRunner, self_test, start
from skyreid.contract.errors import BundleError, GateError, InputError
from skyreid.export import int8, ranges

MEAN_COSINE, MIN_COSINE, PAIR_ERROR = 0.995, 0.98, 0.03
"""Limits of int8 against fp32 on pictures that the ranges never saw; the last is the largest
change of the similarity of two pictures."""
RANGES = "int8-ranges.json"

Floats = NDArray[np.float32]


def quantize(
    source: Path,
    pictures_from: Path,
    out: Path,
    *,
    method: ranges.Method = "minmax",
    percentile: float = ranges.PERCENTILE,
    count: int = 256,
    say: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """Write a bundle like `source` that has an int8 model as well.

    The new bundle has the model key of the old one, other sums, and no signature.

    Args:
        source: an embedder bundle with an fp32 model.
        pictures_from: directory of pictures of people, best of the training split.
        out: the bundle directory to make; it must not exist.
        method: how ranges are taken, see `ranges.measure`.
        percentile: for `percentile`.
        count: pictures for the ranges; as many more judge the result.
        say: receives a line per stage.

    Raises:
        InputError: the bundle has no Linear or no fixed input, or the pictures will not do.
        BundleError: `source` cannot be used, or `out` exists.
        GateError: int8 is too far from fp32; nothing has been written.
    """
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    old = open_bundle(source)
    spec = old.manifest.input
    if not (spec.height and spec.width):
        raise InputError(f"{source} is a {old.manifest.kind}: only embedders are quantised")
    say(f"read pictures of {pictures_from}")
    pictures = ranges.read(pictures_from, spec, count)
    fp32 = old.model("fp32")
    with tqdm(total=len(pictures.ranges), unit="picture", disable=None) as bar:
        found = ranges.measure(fp32, pictures.ranges, method, percentile, bar.update)
    quantised = int8.quantise(fp32, found)
    counts = int8.check(quantised)
    say(f"{counts['linears']} Linears in int8, {len(quantised):,} bytes (fp32 {len(fp32):,})")
    with OnnxRunner(fp32, name="fp32") as exact:
        wanted = _embedded(exact, pictures.judge)
    with OnnxRunner(quantised, name="int8", quantised=True) as rounded:
        measured = distance(_embedded(rounded, pictures.judge), wanted)
    say(", ".join(f"{name} {value:.4f}" for name, value in measured.items()))
    require(measured)

    formats: tuple[NumericFormat, ...] = tuple(dict.fromkeys((*old.manifest.formats, "int8")))
    golden_pictures, golden_outputs = old.golden()
    models = {f: old.model(f) for f in old.manifest.formats}
    written = write_bundle(
        out,
        old.manifest.model_copy(update={"formats": formats}),
        {**models, "int8": quantised},
        golden_pictures=golden_pictures,
        golden_outputs=golden_outputs,
        parity={**json.loads(old.files["parity.json"]), "int8": {**measured, **counts}},
        extra={RANGES: _ranges_file(pictures, found, method, percentile)},
    )
    with start(written, numeric_format="int8") as runner:
        self_test(written, runner)
    return written


def distance(found: Floats, wanted: Floats) -> dict[str, float]:
    """How far int8 embeddings [N, D] are from fp32 ones, all rows of unit length.

    Returns:
        `mean_cosine` and `min_cosine` of each picture with itself; `pair_error`, the largest change
        of the similarity of two pictures; `rank1_agreement` and `rank5_agreement`, the share of the
        pictures whose nearest other is the same, or is among the five nearest.
    """
    cosines = (found.astype(np.float64) * wanted).sum(1)
    before, after = wanted @ wanted.T, found @ found.T
    error = float(np.abs(after - before).max())
    for similarity in (before, after):
        np.fill_diagonal(similarity, -2)
    nearest = before.argmax(1)
    five = np.argsort(-after, axis=1, kind="stable")[:, :5]
    return {
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
        "pair_error": error,
        "rank1_agreement": float((five[:, 0] == nearest).mean()),
        "rank5_agreement": float((five == nearest[:, None]).any(1).mean()),
    }


def require(measured: dict[str, float]) -> None:
    """Raise `GateError` where a distance is over its limit (or not a number)."""
    for name, limit in (("mean_cosine", MEAN_COSINE), ("min_cosine", MIN_COSINE)):
        if not measured[name] >= limit:
            raise GateError(f"int8 against fp32: {name} is {measured[name]:.4f}, limit {limit}")
    if not measured["pair_error"] <= PAIR_ERROR:
        raise GateError(
            f"int8 against fp32: similarities change by {measured['pair_error']:.4f}, "
            f"limit {PAIR_ERROR}; try the other --method, or more pictures"
        )


def _embedded(runner: OnnxRunner, pictures: NDArray[np.uint8]) -> Floats:
    rows = [runner.run(pictures[i : i + 16])["embedding"] for i in range(0, len(pictures), 16)]
    return np.concatenate(rows)


def _ranges_file(
    pictures: ranges.Pictures, found: dict[str, float], method: ranges.Method, percentile: float
) -> bytes:
    table = ranges.as_json(pictures, found, method, percentile)
    return (json.dumps(table, indent=1) + "\n").encode()
