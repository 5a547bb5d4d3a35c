"""Checkpoint to bundle, top to bottom. Nothing is written before every gate has passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle, write_bundle
from skyreid.bundle.manifest import Manifest, NumericFormat, ScorePrior, model_key
from skyreid.bundle.runner import OnnxRunner, self_test_all
from skyreid.contract.errors import BundleError, GateError, InputError
from skyreid.export import closeness, crops, fp16, golden, graph, parity, ranges, trace
from skyreid.export.quantize import embedded, quantised
from skyreid.train.data.catalogue import NOTHING, Told

Say = Callable[[str], None]

FORMATS: tuple[NumericFormat, ...] = ("fp32", "fp16", "int8")
_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")


@dataclass(frozen=True)
class RangePictures:
    """Crops of known people that the int8 ranges are measured on, and how.

    Attributes:
        directory: see `crops.read`; best of the training split.
        count: for the ranges; as many more, of other people, judge the numeric formats.
        method: see `ranges.measure`.
        percentile: for `percentile`.
        explain: see `keep.choose`.
        told: of `directory`, see `crops.read`.
    """

    directory: Path
    count: int = 256
    method: ranges.Method = "minmax"
    percentile: float = ranges.PERCENTILE
    explain: bool = False
    told: Told = NOTHING


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    view: trace.View,
    name: str,
    formats: tuple[str, ...] = ("fp32",),
    batch_max: int = 32,
    pictures_from: Path | None = None,
    range_pictures: RangePictures | None = None,
    form: Mapping[str, Any] | None = None,
    licence: str = "Apache-2.0",
    notes: str = "",
    score_priors: dict[str, ScorePrior] | None = None,
    say: Say = lambda line: None,
) -> Bundle:
    """Export a checkpoint and write its bundle.

    Args:
        checkpoint: what `skyreid-train fit` wrote.
        out: the bundle directory to make; it must not exist.
        view: which cameras the bundle serves.
        name: of the model, for people.
        formats: numeric formats; all are made from the fp32 graph, which is always made and held
            against the checkpoint.
        batch_max: the largest batch that is compared.
        pictures_from: directory of golden pictures; drawn ones where it is None.
        range_pictures: needed for int8; where given, fp16 is judged by them too.
        form: see `trace.load`.
        licence: SPDX expression of the weights.
        notes: for people, into the manifest.
        score_priors: measured cosine distributions by view pair.
        say: receives a line per stage.

    Raises:
        InputError: an argument, the checkpoint or a picture cannot be used.
        GateError: a check or a parity limit failed; nothing has been written.
    """
    wanted_formats = _formats(formats, range_pictures is not None)
    if not 1 <= batch_max <= trace.LARGEST_BATCH:
        raise InputError(f"--batch-max {batch_max}: 1 to {trace.LARGEST_BATCH} is possible")
    if range_pictures is not None:
        ranges.require_percentile(range_pictures.percentile)
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")

    say(f"read {checkpoint}")
    traced = trace.load(checkpoint, view, form=form)
    spec = traced.input_spec
    if traced.kind == "detector" and "int8" in wanted_formats:
        raise InputError(
            "--formats int8: a detector has no Linear, and INT8 quantises nothing else"
        )
    pictures = golden.draw(spec) if pictures_from is None else golden.read(pictures_from, spec)
    people = None
    if range_pictures is not None and traced.kind == "embedder":
        say(f"read pictures of {range_pictures.directory}")
        people = crops.read(
            range_pictures.directory, spec, range_pictures.count, view, range_pictures.told
        )

    say(f"export the {traced.kind} to ONNX, opset {graph.OPSET}")
    raw = trace.export(traced, pictures[:2])
    say("simplify and check the graph")
    simple = graph.simplify(raw)
    facts = graph.check(simple)

    batches = parity.batches(batch_max)
    say(f"compare torch, raw and simplified ONNX at batches {batches}")
    wanted = trace.ask(traced, pictures)
    measured = _measure_parity(traced, raw, simple, pictures, batches)
    dim = _embedding_dim(wanted) if traced.kind == "embedder" else 0
    proof: dict[str, object] = {
        "gates": measured,
        "nodes": facts["nodes"],
        "operators": facts["operators"],
    }
    models: dict[NumericFormat, bytes] = {}
    extra: dict[str, bytes] = {}
    if "fp32" in wanted_formats:
        models["fp32"] = simple
    if "fp16" in wanted_formats:
        say("convert to fp16")
        models["fp16"] = half = fp16.convert(simple)
        proof["fp16"] = _judge_fp16(simple, half, traced.kind, pictures, people)
    if "int8" in wanted_formats:
        assert people is not None
        assert range_pictures is not None
        say("quantise to int8")
        made = quantised(
            simple,
            people,
            method=range_pictures.method,
            percentile=range_pictures.percentile,
            explain=range_pictures.explain,
            say=say,
        )
        models["int8"], proof["int8"] = made.model, made.measured
        extra |= made.extra

    manifest = Manifest(
        kind=traced.kind,
        name=name,
        model_key=model_key(traced.checkpoint_sha256, spec, dim) if dim else "",
        view=view,
        input=spec,
        embedding_dim=dim,
        formats=wanted_formats,
        opset=facts["opset"],
        batch_max=batch_max,
        checkpoint_sha256=traced.checkpoint_sha256,
        tools={tool: version(tool) for tool in _TOOLS},
        licence=licence,
        detector=traced.detector,
        score_priors=score_priors or {},
        notes=notes,
    )
    say(f"write {out}")
    return write_bundle(
        out,
        manifest,
        models,
        golden_pictures=pictures,
        golden_outputs=wanted,
        parity=proof,
        extra=extra,
        check=self_test_all,
    )


def _formats(asked: tuple[str, ...], has_pictures: bool) -> tuple[NumericFormat, ...]:
    """Numeric formats in the order of FORMATS; raises `InputError` for what cannot be made."""
    unknown = [one for one in asked if one not in FORMATS]
    if unknown or not asked:
        raise InputError(f"--formats {','.join(asked)}: known are {', '.join(FORMATS)}")
    if "int8" in asked and not has_pictures:
        raise InputError(
            "--formats int8 needs --pictures: a directory of people's crops, of the training split"
        )
    return tuple(one for one in FORMATS if one in asked)


def _judge_fp16(
    fp32: bytes,
    half: bytes,
    kind: trace.Kind,
    pictures: NDArray[np.uint8],
    people: crops.Pictures | None,
) -> dict[str, object]:
    """Hold fp16 against fp32 on people's crops, or on the golden pictures; raises `GateError`.

    A detector's peaks are held by the self-test of the bundle: neighbours that are as good as equal
    may swap theirs.
    """
    counts = fp16.check(half)
    if kind == "detector":
        return {**counts}
    shown = pictures if people is None else people.judge.images
    known = None if people is None else people.judge.people
    close = closeness.distance(embedded(half, "fp16", shown), embedded(fp32, "fp32", shown), known)
    closeness.require(close, "fp16")
    many = 0 if known is None else len(set(known.tolist()))
    return {**close, **counts, "pictures": len(shown), "people": many}


def _measure_parity(
    traced: trace.Traced,
    raw: bytes,
    simple: bytes,
    pictures: NDArray[np.uint8],
    batches: tuple[int, ...],
) -> dict[str, dict[str, object]]:
    """Run the gates; a detector is also held at a second size, since its sides are dynamic."""
    pictures = np.resize(pictures, (max(batches), *pictures.shape[1:]))  # over and over
    sizes = {"": pictures}
    if traced.align:
        half = [size // 2 // traced.align * traced.align for size in pictures.shape[1:3]]
        sizes[f", {half[1]} x {half[0]} pixels"] = pictures[:, : half[0], : half[1]]
    measured: dict[str, dict[str, object]] = {}
    with OnnxRunner(raw, name="raw") as before, OnnxRunner(simple, name="simplified") as after:
        for batch in batches:
            for suffix, shown in sizes.items():
                some = np.ascontiguousarray(shown[:batch])
                found, label = after.run(some), f"batch {batch}{suffix}"
                wanted = trace.reference(traced, some)
                to_torch = parity.distance(found, wanted, traced.family)
                to_raw = parity.distance(found, {**wanted, **before.run(some)}, traced.family)
                parity.require(
                    f"ONNX Runtime against torch at {label}", to_torch, parity.TORCH_LIMIT
                )
                parity.require(
                    f"simplified against raw at {label}", to_raw, parity.SIMPLIFIED_LIMIT
                )
                measured[label] = {"torch": to_torch, "raw": to_raw}
    return measured


def _embedding_dim(outputs: trace.Outputs) -> int:
    """Columns of the embedding; raises `GateError` where rows are not of unit length."""
    embedding = outputs["embedding"]
    off = float(np.abs(np.linalg.norm(embedding, axis=1) - 1).max())
    if not off <= 1e-4:
        raise GateError(f"embeddings are not L2-normalised: a length is off by {off:.2e}")
    return int(embedding.shape[1])
