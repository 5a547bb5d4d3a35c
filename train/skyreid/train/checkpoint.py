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

from torch import Tensor, nn

from skyreid.contract import files
from skyreid.contract.errors import InputError, reason
from skyreid.contract.input_spec import InputSpec

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


SUFFIX = ".safetensors"
"""By which commands that take checkpoints and bundles tell them apart."""


def require_name(path: Path) -> None:
    """Refuse a name that no command would take for a checkpoint's, before the work.

    Raises:
        InputError: saying so.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: a checkpoint's name ends in {SUFFIX}")


def save(
    path: Path,
    *,
    kind: Kind,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    input_spec: InputSpec,
) -> None:
    """Write a checkpoint; `path` holds the old or the new one, never half of one.

    Raises:
        InputError: it cannot be written.
    """
    metadata = {
        "format": "skyreid-checkpoint-1",
        "kind": kind,
        "config": json.dumps(config, sort_keys=True),
        "input_spec": input_spec.model_dump_json(),
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    with files.replacing(path) as partial:
        write_tensors(partial, tensors, metadata)
        _order(partial)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file without holding it in memory once more.

    Raises:
        OSError: it cannot be written; the library has an error of its own for it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


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


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file that may be larger than memory.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: when the file is missing, damaged or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        digest = sha256_of(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {reason(error, path)}") from error
    if metadata.get("format") != "skyreid-checkpoint-1":
        raise InputError(f"{path} is a safetensors file, but not written by skyreid-train fit")
    return Checkpoint(
        kind=cast(Kind, metadata["kind"]),
        config=json.loads(metadata["config"]),
        state=state,
        input_spec=InputSpec.model_validate_json(metadata["input_spec"]),
        sha256=digest,
    )


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `network` the weights of a checkpoint.

    Raises:
        InputError: naming every key that is missing, unexpected or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"the checkpoint's weights do not fit its config: {error}") from error
