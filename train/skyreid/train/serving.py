"""Networks as they are served: uint8 pictures in, L2-normalised embeddings (or heatmaps) out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train.checkpoint import Checkpoint, fill
from skyreid.train.data.records import View
from skyreid.train.models import heatmap
from skyreid.train.models.registry import method_of
from skyreid.train.models.variants import construct


class Embedder(nn.Module):
    """A method's serving form with its pre-processing: bytes in, unit vectors out."""

    gain: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network = network
        # Buffers, not constants of the graph, so that `.to(device)` moves them; not persistent,
        # because the input spec is where they are written down.
        std = torch.tensor(spec.std, dtype=torch.float32)
        offset = -torch.tensor(spec.mean) / std
        self.register_buffer("gain", (1 / std).view(3, 1, 1), persistent=False)
        self.register_buffer("offset", offset.view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Uint8 [N, H, W, 3] RGB to L2-normalised float32 [N, D]."""
        # The cast comes first: TensorRT refuses a transpose of uint8. Gain and offset come last:
        # ONNX Runtime handles whole planes several times faster than three channels at a time.
        planes = images.to(torch.float32).permute(0, 3, 1, 2)
        features: Tensor = self.network(planes * self.gain + self.offset)
        return F.normalize(features, dim=1)


def build(checkpoint: Checkpoint, view: View | None = None) -> nn.Module:
    """The network as it is served.

    An embedder maps uint8 [N, H, W, 3] RGB to L2-normalised float32 [N, D]; for a detector see
    `skyreid.train.models.heatmap.PersonDetector`.

    Args:
        checkpoint: what to build.
        view: of the cameras an embedder serves; None serves both, where the method can.

    Raises:
        InputError: when the weights do not fit the configuration, or the method cannot serve both
            views with one network.
    """
    if checkpoint.kind == "detector":
        return heatmap.build(checkpoint.config, checkpoint.state)
    spec = checkpoint.input_spec
    network = construct(checkpoint.config)
    fill(network, checkpoint.state)
    return Embedder(network.serving(view), spec).eval()


def in_form(checkpoint: Checkpoint, form: Mapping[str, Any]) -> Checkpoint:
    """The same checkpoint, whose export form computes the same by other operators.

    Args:
        checkpoint: an embedder's.
        form: fields of the method's options that it declares as those of its export form.

    Raises:
        InputError: naming those that are none.
    """
    if not form:
        return checkpoint
    name = str(checkpoint.config.get("method", checkpoint.kind))
    known = method_of(name).declaration.form if checkpoint.kind == "embedder" else ()
    for key in form:
        if key not in known:
            has = f"that of {name} has {', '.join(known)}" if known else f"that of {name} has none"
            raise InputError(f"--form {key}: no option of the export form; {has}")
    options = {**checkpoint.config.get("options", {}), **form}
    return replace(checkpoint, config={**checkpoint.config, "options": options})
