"""The INT8 variants of an fp32 graph: measured on real pictures, judged on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.archive import INT8_FOR_ENGINES, Bundle, open_bundle, write_bundle
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.runner import self_test_all
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import BundleError, InputError
from skyreid.export import crops, int8, keep, ranges
from skyreid.export.batched import run_onnx
from skyreid.export.int8_trial import Judge
from skyreid.export.report import for_json
from skyreid.train.data.catalogue import NOTHING, Told

RANGES = "int8-ranges.json"

Floats = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Quantised:
    """What int8 adds to a bundle.

    Attributes:
        model: for a CPU, float32 around the Linears.
        extra: the variant for engines and the file of the ranges, by name.
        measured: closeness to fp32 of `model`, what it costs a search, how many Linears it has and
            which stayed in float and why, what its routers choose; under `engines` the closeness
            of the other variant.
    """

    model: bytes
    extra: dict[str, bytes]
    measured: dict[str, object]


def quantised(
    fp32: bytes,
    pictures: crops.Pictures,
    *,
    method: ranges.Method = "minmax",
    percentile: float = ranges.PERCENTILE,
    explain: bool = False,
    say: Say = lambda line: None,
) -> Quantised:
    """Both int8 variants of an embedder's fp32 graph.

    Args:
        fp32: serialised ONNX.
        pictures: for the ranges, and others to judge by.
        method: how ranges are taken, see `ranges.measure`.
        percentile: for `percentile`.
        explain: see `keep.choose`.
        say: receives a line per variant, and for every Linear that stays in float.

    Raises:
        InputError: the graph has no Linear.
        GateError: a variant is too far from fp32.
    """
    if pictures.left_out:
        say(f"pictures left out: {pictures.left_out}")
    shown = pictures.ranges.images
    with tqdm(total=len(shown), desc="ranges", unit="picture", disable=None) as bar:
        found = ranges.measure(fp32, shown, method, percentile, bar.update)
    judge = Judge(fp32, pictures.judge)
    kept = keep.choose(judge, found, explain=explain, say=say)
    trial, names = kept.trial, int8.named(judge.model)
    counts = int8.check(trial.for_cpu, kept.reasons.keys())
    say(
        f"{counts['linears']} of {len(names)} Linears in int8, {len(trial.for_cpu):,} bytes "
        f"(fp32 {len(fp32):,})"
    )
    reasons = {names[output]: reason for output, reason in kept.reasons.items()}
    table = ranges.as_json(pictures, found, method, percentile, reasons)
    measured: dict[str, object] = {
        **counts,
        **trial.facts["int8"],
        "engines": trial.facts["int8-fp16"],
        "pictures": len(pictures.judge.records),
        "people": len(set(pictures.judge.people.tolist())),
        "kept_in_float": reasons,
        "experts": {m: [asdict(one) for one in rows] for m, rows in trial.choices.items() if rows},
        "noise_of_each": for_json({names[output]: value for output, value in kept.noise.items()}),
    }
    provenance = (json.dumps(table, indent=1) + "\n").encode()
    return Quantised(
        trial.for_cpu, {INT8_FOR_ENGINES: trial.for_engines, RANGES: provenance}, measured
    )


def quantize(
    source: Path,
    pictures_from: Path,
    out: Path,
    *,
    method: ranges.Method = "minmax",
    percentile: float = ranges.PERCENTILE,
    count: int = 256,
    explain: bool = False,
    told: Told = NOTHING,
    trust: Trust = ANYONE,
    say: Say = lambda line: None,
) -> Bundle:
    """Write a bundle like `source` that has an int8 model as well.

    The new bundle has the model key of the old one, other sums, and no signature. What a `verify`
    of the old one found is not taken along.

    Args:
        source: an embedder bundle with an fp32 model.
        pictures_from: see `crops.read`, best of the training split.
        out: the bundle directory to make; it must not exist.
        method: how ranges are taken, see `ranges.measure`.
        percentile: for `percentile`.
        count: pictures for the ranges; as many more, of other people, judge the result.
        explain: see `keep.choose`.
        told: of the pictures, see `crops.read`.
        trust: whose bundles are accepted.
        say: receives a line per stage.

    Raises:
        InputError: the bundle has no Linear or no fixed input, or the pictures will not do.
        BundleError: `source` cannot be used, or `out` exists.
        GateError: int8 is too far from fp32; nothing has been written.
    """
    ranges.require_percentile(percentile)
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    old = open_bundle(source, trust)
    spec = old.manifest.input
    if not (spec.height and spec.width):
        raise InputError(f"{source} is a {old.manifest.kind}: only embedders are quantised")
    say(f"read pictures of {pictures_from}")
    pictures = crops.read(pictures_from, spec, count, old.manifest.view, told)
    made = quantised(
        old.model("fp32"),
        pictures,
        method=method,
        percentile=percentile,
        explain=explain,
        say=say,
    )

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
