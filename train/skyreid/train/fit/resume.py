"""All that decides the rest of a run, in one file, so that a killed run goes on as if it were not.

One safetensors file: tensors, and in its metadata JSON. Neither holds code, so a state that comes
from elsewhere can do no more than train badly. A state is written before the checkpoint of its
step: at any moment `best` and `last` are those of the state, or are made anew from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from skyreid.contract import files
from skyreid.contract.errors import InputError, SettingsError, reason
from skyreid.train import checkpoint
from skyreid.train.checkpoint import sha256_of
from skyreid.train.fit.ema import Average
from skyreid.train.fit.optimise import laid_out
from skyreid.train.options import Options

FORMAT = "skyreid-run-2"
FORMER = ("skyreid-run-1",)  # one chance for all pictures of a batch, and no plans


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps taken.
        seen: pictures seen.
        spent_s: seconds of training, over all its processes one after another.
        best_step: when `best` was taken.
        best_score: its value, a fraction; -1 before the first evaluation.
        notes: `Verdict.notes` of the latest evaluation.
    """

    step: int = 0
    seen: int = 0
    spent_s: float = 0.0
    best_step: int = 0
    best_score: float = -1.0
    notes: dict[str, Any] = field(default_factory=dict)


class Drawn(Protocol):
    """What batches are drawn from; see `Prefetch`."""

    def state(self) -> dict[str, Any]:
        """JSON-able: all that decides the batches to come."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another was when it gave `state`."""


@dataclass(frozen=True)
class Parts:
    """What changes while a run goes on.

    Attributes:
        trained: what the optimiser works on.
        average: of its network.
        optimiser: with its momenta.
        scaler: of the loss, in fp16.
        drawn: of the batches.
    """

    trained: nn.Module
    average: Average
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    drawn: Drawn


def fingerprint(
    recipe: Options, pictures: str, files: Mapping[str, Sequence[Path]]
) -> dict[str, Any]:
    """What a run is of, JSON-able: with another fingerprint it would be another run.

    Args:
        recipe: of the run.
        pictures: that are trained on, in words.
        files: by the option that names them, whatever else is read; nothing but their content
            counts, nor where they lie.

    Raises:
        InputError: when one of `files` cannot be read.
    """
    made = {
        "recipe": recipe.model_dump(mode="json"),
        "pictures": pictures,
        "files": {name: [_sha256(path) for path in paths] for name, paths in files.items()},
    }
    read: dict[str, Any] = json.loads(json.dumps(made))
    return read


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def save(path: Path, mark: Mapping[str, Any], progress: Progress, parts: Parts) -> None:
    """Write the state of a run.

    Args:
        path: of the file.
        mark: the run's `fingerprint`.
        progress: how far it is.
        parts: all that changes.
    """
    tensors = {f"trained.{name}": value for name, value in _values(parts.trained).items()}
    tensors |= {f"average.{name}": v for name, v in parts.average.network.state_dict().items()}
    moments = parts.optimiser.state_dict()["state"]
    for number, values in moments.items():
        for name, value in values.items():
            if value is not None:  # a momentum that has not begun
                tensors[f"optimiser.{number}.{name}"] = torch.as_tensor(value)
    tensors["rng.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    metadata = {
        "format": FORMAT,
        "mark": json.dumps(mark),
        "progress": json.dumps(asdict(progress)),
        "updates": json.dumps(parts.average.updates),
        "scaler": json.dumps(parts.scaler.state_dict()),
        "drawn": json.dumps(parts.drawn.state()),
    }
    copies = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with files.replacing(path) as partial:
        checkpoint.write_tensors(partial, copies, metadata)


@dataclass(frozen=True)
class Found:
    """A state that was read and is of this run."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def find(path: Path, mark: Mapping[str, Any]) -> Found | None:
    """The state at `path`, or None where there is none.

    Raises:
        InputError: when it cannot be read.
        SettingsError: when it is of another run.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot read the run's state {path}: {reason(error, path)}; remove it to begin anew"
        ) from error
    if metadata.get("format") in FORMER:
        raise InputError(
            f"{path} is of a run of an older release, which drew its pictures otherwise; end it "
            "with that release, or give --out another folder"
        )
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is not the state of a run; give --out another folder")
    changed = _changes(json.loads(metadata["mark"]), mark)
    if changed:
        raise SettingsError(
            f"{path} is the state of another run: {', '.join(changed[:4])}"
            f"{', ...' if len(changed) > 4 else ''}; "
            "give --out another folder, or remove the file to begin anew"
        )
    return Found(tensors, metadata)


def restore(found: Found, parts: Parts) -> Progress:
    """Make of freshly built `parts` what they were when the state was written.

    Raises:
        InputError: when the state does not fit them.
    """
    try:
        _set_values(parts.trained, _below(found.tensors, "trained."))
        parts.average.network.load_state_dict(_below(found.tensors, "average."))
        whole = parts.optimiser.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        trained = [p for group in parts.optimiser.param_groups for p in group["params"]]
        for key, value in _below(found.tensors, "optimiser.").items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = laid_out(value, trained[int(number)])
        # Rates and decays follow from the recipe and the step; the momenta are what was learnt.
        parts.optimiser.load_state_dict({**whole, "state": moments})
        torch.set_rng_state(found.tensors["rng.torch"])
        if torch.cuda.is_available() and "rng.cuda" in found.tensors:
            torch.cuda.set_rng_state(found.tensors["rng.cuda"])
        parts.scaler.load_state_dict(json.loads(found.metadata["scaler"]))
        parts.drawn.restore(json.loads(found.metadata["drawn"]))
        parts.average.updates = int(json.loads(found.metadata["updates"]))
        return Progress(**json.loads(found.metadata["progress"]))
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the run's state does not fit the network it is of: {error}") from error


def _values(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, also those that no checkpoint keeps."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def _set_values(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """The reverse of `_values`; a buffer may have been None."""
    parameters = dict(module.named_parameters())
    if missing := sorted(parameters.keys() - values.keys()):
        raise KeyError(f"no value of {missing[0]}")
    for name, value in values.items():
        if name in parameters:
            parameters[name].copy_(value)
            continue
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        device = next(module.parameters()).device
        setattr(owner, leaf, value.to(device))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _changes(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two fingerprints, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for key in sorted(old.keys() | new.keys()):
            below = key if name in ("", "recipe", "files") else f"{name}.{key}"
            found += _changes(old.get(key), new.get(key), below)
        return found
    if old == new:
        return []
    if name.startswith("--"):
        return [f"{name} names another file"]
    return [f"{name} was {json.dumps(old)} and is {json.dumps(new)}"]
