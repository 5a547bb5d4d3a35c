"""What training hands to export: weights and everything needed to build the network again.

One safetensors file; its metadata holds JSON for `kind`, `config` and `input_spec`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import durable
from skyreid.train.data.records import View
from skyreid.train.models.variants import construct

Kind = Literal["embedder", "detector"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        kind: what the network is for.
        config: how to build it; for an embedder `method`, `trunk`, `options` and `people`, beside
            notes of the training run that nothing depends on.
        state: the network's state_dict.
        input_spec: what it was trained to see.
        sha256: hex digest of the file, part of the model key.
    """

    kind: Kind
    config: dict[str, Any]
    state: dict[str, Tensor]
    input_spec: InputSpec
    sha256: str


def save(
    path: Path,
    *,
    kind: Kind,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    input_spec: InputSpec,
) -> None:
    """Write a checkpoint; `path` holds the old or the new one, never half of one."""
    from safetensors.torch import save_file

    metadata = {
        "format": "skyreid-checkpoint-1",
        "kind": kind,
        "config": json.dumps(config, sort_keys=True),
        "input_spec": input_spec.model_dump_json(),
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    with durable.replacing(path) as partial:
        save_file(tensors, partial, metadata)
        _order(partial)


def _order(path: Path) -> None:
    """Sort the keys of a safetensors file's header.

    The library writes metadata in the order of a hash map, which differs from call to call; the
    digest of a checkpoint is part of the model key and must follow from its content alone.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        content = json.loads(file.read(length))
        header = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        ordered = header.encode().ljust(length)  # padded with blanks, as the format has it
        assert len(ordered) == length, "the same JSON, as compact as the library writes it"
        file.seek(8)
        file.write(ordered)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: when the file is missing, damaged or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}") from error
    if metadata.get("format") != "skyreid-checkpoint-1":
        raise InputError(f"{path} is a safetensors file, but not written by skyreid-train fit")
    return Checkpoint(
        kind=cast(Kind, metadata["kind"]),
        config=json.loads(metadata["config"]),
        state=state,
        input_spec=InputSpec.model_validate_json(metadata["input_spec"]),
        sha256=digest,
    )


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
    skyreid.train.detector.

    Args:
        checkpoint: what to build.
        view: of the cameras an embedder serves; None serves both, where the method can.

    Raises:
        InputError: when the weights do not fit the configuration, or the method cannot serve both
            views with one network.
    """
    if checkpoint.kind == "detector":
        from skyreid.train.detector import model as detector

        return detector.build(checkpoint.config, checkpoint.state)
    spec = checkpoint.input_spec
    network = construct(checkpoint.config)
    fill(network, checkpoint.state)
    return Embedder(network.serving(view), spec).eval()


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `network` the weights of a checkpoint.

    Raises:
        InputError: naming every key that is missing, unexpected or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the checkpoint's weights do not fit its config: {error}") from error
