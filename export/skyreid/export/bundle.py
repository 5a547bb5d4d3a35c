"""Checkpoint to bundle, top to bottom. Nothing is written before every gate has passed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle, write_bundle
from skyreid.bundle.manifest import DetectorSpec, Manifest, ScorePrior, model_key
from skyreid.bundle.runner import OnnxRunner, self_test, start
from skyreid.contract.errors import BundleError, GateError, InputError
from skyreid.export import golden, graph, parity, trace

Say = Callable[[str], None]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    view: trace.View,
    name: str,
    formats: tuple[str, ...] = ("fp32",),
    pictures_from: Path | None = None,
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
        formats: numeric formats; only ``fp32`` can be made so far.
        pictures_from: directory of golden pictures; drawn ones where it is None.
        licence: SPDX expression of the weights.
        notes: for people, into the manifest.
        score_priors: measured cosine distributions by view pair.
        say: receives a line per stage.

    Raises:
        InputError: an argument, the checkpoint or a golden picture cannot be used.
        GateError: a check or a parity limit failed; nothing has been written.
    """
    if formats != ("fp32",):
        raise InputError(f"--formats {','.join(formats)}: only fp32 can be exported so far")
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")

    say(f"read {checkpoint}")
    traced = trace.load(checkpoint, view)
    spec = traced.input_spec
    pictures = golden.draw(spec) if pictures_from is None else golden.read(pictures_from, spec)

    say(f"export the {traced.kind} to ONNX, opset {trace.OPSET}")
    raw = trace.export(traced, pictures[:2])
    say("simplify and check the graph")
    simple = graph.simplify(raw)
    facts = graph.check(simple)

    say(f"compare torch, raw and simplified ONNX at batches {parity.BATCHES}")
    wanted = trace.ask(traced, pictures)
    measured = _measure_parity(traced, raw, simple, pictures)
    dim = _embedding_dim(wanted) if traced.kind == "embedder" else 0

    manifest = Manifest(
        kind=traced.kind,
        name=name,
        model_key=model_key(traced.checkpoint_sha256, spec, dim) if dim else "",
        view=view,
        input=spec,
        embedding_dim=dim,
        formats=("fp32",),
        opset=facts["opset"],
        checkpoint_sha256=traced.checkpoint_sha256,
        tools={tool: version(tool) for tool in _TOOLS},
        licence=licence,
        detector=_detector_spec(traced) if traced.kind == "detector" else None,
        score_priors=score_priors or {},
        notes=notes,
    )
    say(f"write {out}")
    bundle = write_bundle(
        out,
        manifest,
        {"fp32": simple},
        golden_pictures=pictures,
        golden_outputs=wanted,
        parity={"gates": measured, "nodes": facts["nodes"], "operators": facts["operators"]},
    )
    with start(bundle) as runner:
        self_test(bundle, runner)
    return bundle


def _measure_parity(
    traced: trace.Traced, raw: bytes, simple: bytes, pictures: NDArray[np.uint8]
) -> dict[str, dict[str, object]]:
    """Run the gates; a detector is also held at a second size, since its sides are dynamic."""
    sizes = {"": pictures}
    if traced.align:
        half = [size // 2 // traced.align * traced.align for size in pictures.shape[1:3]]
        sizes[f", {half[1]} x {half[0]} pixels"] = pictures[:, : half[0], : half[1]]
    measured: dict[str, dict[str, object]] = {}
    with OnnxRunner(raw, name="raw") as before, OnnxRunner(simple, name="simplified") as after:
        for batch in parity.BATCHES:
            for suffix, shown in sizes.items():
                some = np.ascontiguousarray(shown[:batch])
                found, label = after.run(some), f"batch {batch}{suffix}"
                surface = trace.surface(traced, some)
                to_torch = parity.distance(found, trace.ask(traced, some), surface)
                to_raw = parity.distance(found, before.run(some), surface)
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


def _detector_spec(traced: trace.Traced) -> DetectorSpec:
    return DetectorSpec(
        stride=traced.stride,
        align=traced.align,
        score_min=float(traced.config.get("score_min", 0.3)),
    )
