"""Checkpoint to raw ONNX, and the reference outputs: the only file of this role with torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skyreid.bundle.archive import Bundle
from skyreid.bundle.family import Family, family_of
from skyreid.bundle.heatmap import SURFACE
from skyreid.bundle.manifest import DetectorSpec
from skyreid.contract.errors import GateError, InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export.graph import INPUT, OPSET
from skyreid.train import checkpoint, serving

Outputs = dict[str, NDArray[np.float32]]
Kind = Literal["embedder", "detector"]
View = Literal["aerial", "ground", "any"]

LARGEST_BATCH = 256
"""That a graph takes at all."""
MAX_GRAPH_BYTES = (1 << 31) - 1
"""Of an ONNX file that carries its weights: protobuf serialises no larger message."""
_LARGEST_SIDE = 8192


@dataclass(frozen=True)
class Traced:
    """A checkpoint's network, ready to be exported or asked."""

    kind: Kind
    module: nn.Module
    input_spec: InputSpec
    config: dict[str, Any]
    checkpoint_sha256: str
    detector: DetectorSpec | None = None
    """How a detector's outputs are read; None for an embedder."""

    @property
    def family(self) -> Family | None:
        """Of a detector."""
        return family_of(self.detector) if self.detector else None

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the order of the network's outputs."""
        return self.family.outputs if self.family else ("embedding",)

    @property
    def align(self) -> int:
        """Height and width must be multiples of it; 0 where both are fixed."""
        return self.detector.align if self.detector else 0


def load(path: Path, view: View, *, form: Mapping[str, Any] | None = None) -> Traced:
    """Read a checkpoint and build its network for the cameras of one view, or of any.

    Args:
        path: what `skyreid-train fit` wrote.
        view: of the cameras.
        form: options of the method's export form, see `serving.in_form`.

    Raises:
        InputError: the checkpoint cannot be read, embeds the views differently and `view` is
            `any`, or its form has no such option.
    """
    read = serving.in_form(checkpoint.load(path), form or {})
    served = serving.build(read, None if view == "any" else view)
    module = served.eval().requires_grad_(False)
    kind: Kind = "detector" if read.kind == "detector" else "embedder"
    detector = None
    if kind == "detector":
        from skyreid.train.detector.inference import halving, spec_of

        detector = spec_of(float(read.config["score_min"]), *halving(read.config))
    elif not (read.input_spec.height and read.input_spec.width):
        raise InputError(f"{path}: an embedder needs a fixed input size, this one has none")
    return Traced(kind, module, read.input_spec, dict(read.config), read.sha256, detector)


def load_for(bundle: Bundle, path: Path) -> Traced:
    """The network that a bundle was exported from, for the bundle's view.

    Raises:
        InputError: as `load`, or the bundle was exported from another checkpoint.
    """
    traced = load(path, bundle.manifest.view)
    if traced.checkpoint_sha256 != bundle.manifest.checkpoint_sha256:
        raise InputError(
            f"{bundle.path} was not exported from {path}, whose SHA-256 is "
            f"{traced.checkpoint_sha256[:16]}... and not "
            f"{bundle.manifest.checkpoint_sha256[:16]}..."
        )
    return traced


def ask(traced: Traced, pictures: NDArray[np.uint8]) -> Outputs:
    """The network's own float32 outputs for uint8 [N, H, W, 3] pictures, by name."""
    with torch.inference_mode():
        found = traced.module(torch.from_numpy(pictures))
    tensors = (found,) if isinstance(found, Tensor) else tuple(found)
    return {
        name: value.numpy().astype(np.float32)
        for name, value in zip(traced.output_names, tensors, strict=True)
    }


def reference(traced: Traced, pictures: NDArray[np.uint8]) -> Outputs:
    """What a graph is held against: `ask`, and what a detector's family compares with beside it."""
    from skyreid.train.models.heatmap import PersonDetector

    wanted = ask(traced, pictures)
    if isinstance(traced.module, PersonDetector):
        with torch.inference_mode():
            logits, _ = traced.module.raw(torch.from_numpy(pictures))
        wanted[SURFACE] = logits.sigmoid().numpy()
    return wanted


def export(traced: Traced, example: NDArray[np.uint8]) -> bytes:
    """Raw ONNX with a dynamic batch; a detector's height and width are dynamic too.

    Args:
        traced: what to export.
        example: uint8 [N, H, W, 3] with N >= 2 (a batch of 1 would be burnt in as a constant).

    Raises:
        GateError: the exporter refused the network, or it is larger than one file may be.
    """
    weights = (*traced.module.parameters(), *traced.module.buffers())
    held = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    if held > MAX_GRAPH_BYTES:
        raise GateError(
            f"this {traced.kind} holds {held / 1e9:.1f} GB of weights, and one ONNX file holds "
            f"{MAX_GRAPH_BYTES / 1e9:.1f} GB at most: export a smaller one"
        )
    shape: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}
    if traced.align:
        most = _LARGEST_SIDE // traced.align
        shape[1] = traced.align * torch.export.Dim("rows", min=2, max=most)
        shape[2] = traced.align * torch.export.Dim("columns", min=2, max=most)
    # The exporter talks on stdout and through warnings about its own internals.
    noise = logging.getLogger("torch.onnx")
    before = noise.level
    noise.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.inference_mode(),
        ):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                traced.module,
                (torch.from_numpy(example),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(traced.output_names),
                dynamic_shapes=(shape,),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever went wrong in trees of its own
        raise GateError(f"torch.onnx cannot export this {traced.kind}: {error}") from error
    finally:
        noise.setLevel(before)
    assert program is not None
    serialised: bytes = program.model_proto.SerializeToString()
    return serialised
