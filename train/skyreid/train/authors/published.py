"""Weight files that other people wrote: opened without running their code, unwrapped, recognised.

A pickle may hold code. Nothing here loads one with anything but `weights_only`; what that refuses
is refused, with the line that turns such a file into plain tensors where it can be trusted.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from skyreid.contract.errors import InputError, reason
from skyreid.train.models.registry import methods

Origin = Literal["authors", "imagenet", "clip"]

WRAPPERS = ("model", "state_dict")
"""Under which training scripts keep the weights beside their optimiser."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""That DataParallel, torch.compile, Lightning and the like put before all names."""

PLAIN_TENSORS = (
    "import torch; x = torch.load(FILE, map_location='cpu', weights_only=False); "
    "x = x if isinstance(x, dict) else x.state_dict(); "
    "x = next((x[k] for k in ('model', 'state_dict') if k in x), x); "
    "x = x if isinstance(x, dict) else x.state_dict(); "
    "torch.save({k: v for k, v in x.items() if torch.is_tensor(v)}, 'weights.pt')"
)
"""Turns any file of torch.save that can be trusted into one that is opened here."""

_NOT_OURS = {"base.": "TransReID's or of its kind (base.*), which no method here computes"}


@dataclass(frozen=True)
class Published:
    """A foreign state_dict.

    Attributes:
        state: tensors by name; floating-point ones are float32, `module.` prefixes are gone.
        set_aside: entries of the file beside the weights, an optimiser's for example, and what
            was taken off all names.
        widened: how many tensors were stored in another floating-point type than float32.
        sha256: hex digest of the file.
    """

    state: dict[str, Tensor]
    set_aside: tuple[str, ...]
    widened: int
    sha256: str


def read(path: Path, key: str | None = None) -> Published:
    """Read a `.safetensors` file or a `torch.save`d one.

    Args:
        path: of the file.
        key: which of its entries holds the weights, where several do, as `state_dict_ema`.

    Raises:
        InputError: when the file is missing, damaged, holds code, or no tensors, or numbers that
            are not finite; or when there are several weights and none is chosen.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {reason(error, path)}") from error
    digest = hashlib.sha256(content).hexdigest()
    if content[8:9] == b"{":  # 8 bytes of length and a JSON header
        whole = _safetensors(path, content)
    else:
        del content
        whole = _pickled(path)
    state, set_aside = _unwrapped(path, whole, key)
    other = [k for k, v in state.items() if v.is_floating_point() and v.dtype != torch.float32]
    state = {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in state.items()}
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise InputError(f"{path} holds numbers that are not finite, in {', '.join(broken)}")
    return Published(state, set_aside, len(other), digest)


def _safetensors(path: Path, content: bytes) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors: dict[str, Any] = load(content)
    except SafetensorError as error:
        raise InputError(f"cannot read the weights {path}: {error}") from error
    if str(metadata.get("format", "")).startswith("skyreid-checkpoint"):
        raise InputError(f"{path} is a checkpoint of ours already; use it as it is")
    return tensors


def _pickled(path: Path) -> Any:
    if _is_torchscript(path):
        raise InputError(
            f"{path} is a TorchScript archive, which holds code and is not opened; where you trust "
            'it, save its tensors alone: torch.save(torch.jit.load(FILE, map_location="cpu")'
            '.state_dict(), "weights.pt")'
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise InputError(f"cannot read the weights {path}: not a file of torch.save") from error
        raise InputError(
            f"{path} holds objects besides tensors ({found[1]}) and loading it would run code; "
            f"where you trust it, save its tensors alone: {PLAIN_TENSORS}"
        ) from error
    except EOFError as error:  # which says nothing
        raise InputError(
            f"cannot read the weights {path}: it is empty or ends too early; fetch it again"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"cannot read the weights {path}: {error}") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _unwrapped(
    path: Path, whole: Any, key: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The innermost state_dict, and the names of what lay beside it."""
    set_aside: list[str] = []
    while isinstance(whole, Mapping):
        inner = _chosen(path, whole, key)
        if inner is None:
            break
        set_aside += [
            f"{name}, weights too: --key {name} takes them" if _are_weights(value) else str(name)
            for name, value in whole.items()
            if name != inner
        ]
        whole, key = whole[inner], None
    if key is not None:
        raise InputError(f"--key {key}: {path} has no entries but tensors")
    if not isinstance(whole, Mapping) or not whole:
        raise InputError(f"{path} holds no state_dict, but {type(whole).__name__}")
    foreign = [str(name) for name, value in whole.items() if not isinstance(value, Tensor)]
    if foreign:
        raise InputError(f"{path}: not tensors but something else: {', '.join(foreign)}")
    state = {str(name).removeprefix("module."): value for name, value in whole.items()}
    if len(state) != len(whole):
        raise InputError(f"{path} holds the same tensor with and without the prefix `module.`")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), ""):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        set_aside.append(f"{prefix} before all names")
    return state, tuple(set_aside)


def _chosen(path: Path, whole: Mapping[Any, Any], key: str | None) -> Any:
    """Which entry of a file holds the weights; None where it holds them itself.

    Raises:
        InputError: when `key` is none of its entries, or several hold weights.
    """
    if key is not None:
        if not isinstance(whole.get(key), Mapping):
            there = ", ".join(str(n) for n, v in whole.items() if isinstance(v, Mapping))
            raise InputError(f"--key {key}: {path} has no such weights; it has {there or 'none'}")
        return key
    for name in WRAPPERS:
        if isinstance(whole.get(name), Mapping):
            return name
    some = [name for name, value in whole.items() if _are_weights(value)]
    if len(some) > 1:
        raise InputError(
            f"{path} holds several weights: choose with --key {' or --key '.join(map(str, some))}"
        )
    return some[0] if some else None


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def recognised(state: Mapping[str, Tensor], path: Path) -> Origin:
    """Whose weights these are, by their names.

    Raises:
        InputError: when they are nobody's that is known here.
    """
    declared = [method.declaration for method in methods().values()]
    for refused in (*(one.superseded for one in declared), _NOT_OURS):
        for prefix, what in refused.items():
            if any(key.startswith(prefix) for key in state):
                raise InputError(f"{path} is {what}")
    if any(key.startswith("visual.") for key in state):
        return "clip"
    if _is_encoder(state):
        return "imagenet"
    if any(_has(state, mark) for one in declared for mark in one.marks):
        return "authors"
    if "cls_token" in state and any(key.startswith("blocks.") for key in state):
        return "imagenet"
    raise InputError(
        f"{path}: the weights are neither a method's authors' (nothing in them is called like "
        f"{', '.join(sorted({mark for one in declared for mark in one.marks}))}) nor timm's ViT "
        "(cls_token, blocks.*) nor OpenAI's CLIP (visual.*); they begin with "
        f"{', '.join(sorted(state)[:5])}"
    )


def _is_encoder(state: Mapping[str, Tensor]) -> bool:
    """Whether it is a ViT alone under the name `backbone`, as self-supervised training keeps it."""
    return "backbone.cls_token" in state and not any(
        key.startswith(("heads", "backbone.view_token")) for key in state
    )


def _has(state: Mapping[str, Tensor], mark: str) -> bool:
    return any(mark in key for key in state)


def _whose(state: Mapping[str, Tensor]) -> str:
    """The method whose marks a state_dict has, all of them; of several the one with the most."""
    found = [
        (len(method.declaration.marks), name)
        for name, method in methods().items()
        if method.declaration.marks and all(_has(state, m) for m in method.declaration.marks)
    ]
    return max(found)[1] if found else "no method here"


def described(state: Mapping[str, Tensor]) -> str:
    """What the names and shapes look like, for a message: method, width, depth, positions."""
    positions = _positions(state)
    blocks = {int(m[1]) for key in state if (m := re.search(r"blocks\.(\d+)\.", key))}
    size = (
        "" if positions is None else f" {positions.shape[-1]} wide with {len(positions)} positions"
    )
    return f"its names are those of {_whose(state)}{size} and {len(blocks)} blocks"


def people(state: Mapping[str, Tensor], per_person: Iterable[str]) -> int | None:
    """Rows of the first of the entries with one for each person; None where none is there."""
    found = [state[key] for key in sorted(per_person) if key in state and state[key].ndim]
    return int(found[0].shape[0]) if found else None


def patches(state: Mapping[str, Tensor]) -> int | None:
    """Patch tokens the position embedding of an author's trunk was made for."""
    positions = _positions(state)
    if positions is None:
        return None
    return len(positions) - (2 if any(".view_token" in key for key in state) else 1)


def statistics(state: dict[str, Tensor], name: str) -> tuple[float, float, float] | None:
    """Take `pixel_mean` or `pixel_std` out of `state`, where an older checkpoint has it.

    Raises:
        InputError: when it is not one number per channel.
    """
    if name not in state:
        return None
    values = state.pop(name).flatten().tolist()
    if len(values) != 3:
        raise InputError(f"{name} holds {len(values)} numbers, a colour picture needs 3")
    return values[0], values[1], values[2]


def _positions(state: Mapping[str, Tensor]) -> Tensor | None:
    """The trunk's position embedding [N, D]."""
    ours = {p for method in methods().values() for p in method.declaration.pretrained.values()}
    for prefix in (*ours, "", "visual."):
        for key in (f"{prefix}pos_embed", f"{prefix}positional_embedding"):
            if key in state and state[key].ndim >= 2:
                return state[key].flatten(0, -2)
    return None
