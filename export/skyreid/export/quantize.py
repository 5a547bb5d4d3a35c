"""The INT8 variants of an fp32 graph: measured on real pictures, judged on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.archive import INT8_FOR_ENGINES, Bundle, open_bundle, write_bundle
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.runner import self_test_all
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import BundleError, InputError
from skyreid.export import closeness, fp16, int8, ranges
from skyreid.export.batched import run_onnx

RANGES = "int8-ranges.json"

Floats = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Quantised:
    """What int8 adds to a bundle.

    Attributes:
        model: for a CPU, float32 around the Linears.
        extra: the variant for engines and the file of the ranges, by name.
        measured: closeness to fp32 of `model`, how many Linears it has, and under `engines` the
            closeness of the other variant.
    """

    model: bytes
    extra: dict[str, bytes]
    measured: dict[str, object]


def quantised(
    fp32: bytes,
    pictures: ranges.Pictures,
    *,
    method: ranges.Method = "minmax",
    percentile: float = ranges.PERCENTILE,
    say: Say = lambda line: None,
) -> Quantised:
    """Both int8 variants of an embedder's fp32 graph.

    Args:
        fp32: serialised ONNX.
        pictures: for the ranges, and others to judge by.
        method: how ranges are taken, see `ranges.measure`.
        percentile: for `percentile`.
        say: receives a line per variant.

    Raises:
        InputError: the graph has no Linear.
        GateError: a variant is too far from fp32.
    """
    with tqdm(total=len(pictures.ranges), desc="ranges", unit="picture", disable=None) as bar:
        found = ranges.measure(fp32, pictures.ranges, method, percentile, bar.update)
    for_cpu = int8.quantise(fp32, found)
    counts = int8.check(for_cpu)
    for_engines = fp16.convert(for_cpu)
    fp16.check(for_engines)
    say(f"{counts['linears']} Linears in int8, {len(for_cpu):,} bytes (fp32 {len(fp32):,})")
    wanted = embedded(fp32, "fp32", pictures.judge)
    measured: dict[str, object] = {**counts}
    for part, model in (("", for_cpu), ("engines", for_engines)):
        close = closeness.distance(embedded(model, "int8", pictures.judge), wanted)
        say(f"{part or 'int8'}: " + ", ".join(f"{k} {v:.5f}" for k, v in close.items()))
        closeness.require(close, "int8")
        measured |= {part: close} if part else close
    table = ranges.as_json(pictures, found, method, percentile)
    provenance = (json.dumps(table, indent=1) + "\n").encode()
    return Quantised(for_cpu, {INT8_FOR_ENGINES: for_engines, RANGES: provenance}, measured)


def quantize(
    source: Path,
    pictures_from: Path,
    out: Path,
    *,
    method: ranges.Method = "minmax",
    percentile: float = ranges.PERCENTILE,
    count: int = 256,
    trust: Trust = ANYONE,
    say: Say = lambda line: None,
) -> Bundle:
    """Write a bundle like `source` that has an int8 model as well.

    The new bundle has the model key of the old one, other sums, and no signature. What a `verify`
    of the old one found is not taken along.

    Args:
        source: an embedder bundle with an fp32 model.
        pictures_from: directory of pictures of people, best of the training split.
        out: the bundle directory to make; it must not exist.
        method: how ranges are taken, see `ranges.measure`.
        percentile: for `percentile`.
        count: pictures for the ranges; as many more judge the result.
        trust: whose bundles are accepted.
        say: receives a line per stage.

    Raises:
        InputError: the bundle has no Linear or no fixed input, or the pictures will not do.
        BundleError: `source` cannot be used, or `out` exists.
        GateError: int8 is too far from fp32; nothing has been written.
    """
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    old = open_bundle(source, trust)
    spec = old.manifest.input
    if not (spec.height and spec.width):
        raise InputError(f"{source} is a {old.manifest.kind}: only embedders are quantised")
    say(f"read pictures of {pictures_from}")
    pictures = ranges.read(pictures_from, spec, count)
    made = quantised(old.model("fp32"), pictures, method=method, percentile=percentile, say=say)

    formats: tuple[NumericFormat, ...] = tuple(dict.fromkeys((*old.manifest.formats, "int8")))
    golden_pictures, golden_outputs = old.golden()
    parity = {**old.parity(), "int8": made.measured}
    parity.pop("verified", None)
    return write_bundle(
        out,
        old.manifest.model_copy(update={"formats": formats}),
        {**{f: old.model(f) for f in old.manifest.formats}, "int8": made.model},
        golden_pictures=golden_pictures,
        golden_outputs=golden_outputs,
        parity=parity,
        extra=made.extra,
        check=self_test_all,
    )


def embedded(model: bytes, numeric_format: NumericFormat, pictures: NDArray[np.uint8]) -> Floats:
    """Embeddings float32 [N, D] of pictures uint8 [N, H, W, 3], by ONNX Runtime."""
    quantised = numeric_format == "int8"
    return run_onnx(model, pictures, name=numeric_format, quantised=quantised)["embedding"]
