"""Our models against recorded outputs of the authors' code, without their checkpoints.

A folder of fixtures holds, per model, `NAME.keys.json` (the published state_dict's entries) and
`NAME.seedN.npz` (`images` uint8 [B, 256, 128, 3] RGB, `views` "Aerial" or "Ground", `embedding`
float32 [B, D]: the un-normalised evaluation output of the authors' code). The weights of both sides
are drawn from the keys and the seed, so the whole of a model is held, not its files.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from skyreid.contract.errors import InputError, reason
from skyreid.train.data.records import View
from skyreid.train.models import variants
from skyreid.train.models.method import AERIAL, GROUND, Method
from skyreid.train.models.registry import method_of, methods

Floats = NDArray[np.float32]

MAX_ABS = 1e-4
"""Largest difference allowed in one component; embeddings reach 10."""
MIN_COSINE = 0.999999

PEOPLE = 2500  # classes of CARGO's training split, as recorded

_CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)


@dataclass(frozen=True)
class Agreement:
    """How far two sets of embeddings [B, D] are apart."""

    max_abs: float
    min_cosine: float

    @property
    def holds(self) -> bool:
        """Whether both limits are kept; a NaN keeps none."""
        return self.max_abs <= MAX_ABS and self.min_cosine >= MIN_COSINE


@dataclass(frozen=True)
class Result:
    """One model's agreement in both of its forms."""

    training: Agreement
    export: Agreement

    @property
    def worst(self) -> Agreement:
        """The larger difference and the smaller cosine of the two forms."""
        return Agreement(
            max(self.training.max_abs, self.export.max_abs),
            min(self.training.min_cosine, self.export.min_cosine),
        )

    def as_json(self) -> dict[str, Any]:
        """`max_abs` and `min_cosine` over both forms, and of each."""
        return {**vars(self.worst), "training": vars(self.training), "export": vars(self.export)}


def fixtures() -> dict[str, str]:
    """The fixture of each method that has one; all are of base width."""
    declared = (method.declaration for method in methods().values())
    return {one.name: one.fixture for one in declared if one.fixture is not None}


def measure(folder: Path, seed: int) -> dict[str, Result]:
    """Run every method whose fixture is in `folder` for `seed`.

    Raises:
        InputError: when no fixture is there, or one cannot be read.
    """
    known = fixtures()
    found = [m for m, name in known.items() if (folder / f"{name}.seed{seed}.npz").is_file()]
    if not found:
        raise InputError(
            f"no fixture NAME.seed{seed}.npz in {folder}; names: {', '.join(known.values())}"
        )
    progress = tqdm(found, unit="model", disable=None)
    results: dict[str, Result] = {}
    for method in progress:
        progress.set_postfix_str(method)
        results[method] = measure_one(folder, method, seed)
    return results


def measure_one(folder: Path, method: str, seed: int) -> Result:
    """Both forms of one method against its fixture.

    Raises:
        InputError: when the fixture cannot be read or is of another model.
    """
    name = fixtures()[method]
    network = construct(folder, method, seed)
    fixture = folder / f"{name}.seed{seed}.npz"
    try:
        with np.load(fixture) as recorded:
            images = normalised(recorded["images"])
            words = [str(word) for word in recorded["views"]]
            wanted: Floats = recorded["embedding"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{fixture} is no fixture: {reason(error, fixture)}") from error
    views = torch.tensor([AERIAL if word == "Aerial" else GROUND for word in words])
    with torch.inference_mode():
        training = network(images, views)
        export = torch.empty_like(training)
        for rows, form in _serving(network, views):
            export[rows] = form(images[rows])
    return Result(agreement(training.numpy(), wanted), agreement(export.numpy(), wanted))


def construct(folder: Path, method: str, seed: int) -> Method:
    """The published configuration of `method` with the drawn weights of `seed`, in evaluation.

    Raises:
        InputError: when the fixture's keys are missing or are not the model's.
    """
    path = folder / f"{fixtures()[method]}.keys.json"
    try:
        keys = json.loads(path.read_text())
        state = draw(keys, seed, method_of(method).declaration.computed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of keys: {reason(error, path)}") from error
    network = variants.construct(
        variants.variant(f"{method}-base", height=256, width=128, people=PEOPLE)
    )
    own = network.state_dict()
    listed = {entry["key"] for entry in keys}
    missing, unexpected = sorted(set(own) - listed), sorted(listed - set(own))
    if missing or unexpected:
        raise InputError(
            f"{path} is not the model's state_dict: missing {missing}, unexpected {unexpected}"
        )
    network.load_state_dict({**own, **state})
    return network.eval()


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """Uint8 [B, H, W, 3] to float32 [B, 3, H, W] in -1 to 1, as all fixtures were recorded."""
    return ((torch.from_numpy(images).to(torch.float32) - 127.5) / 127.5).permute(0, 3, 1, 2)


def agreement(found: Floats, wanted: Floats) -> Agreement:
    """Compare embeddings [B, D], computing in float64."""
    if found.shape != wanted.shape:
        raise InputError(f"embeddings of shape {found.shape}, recorded ones {wanted.shape}")
    left, right = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return Agreement(
        float(np.abs(left - right).max()), float(((left * right).sum(1) / lengths).min())
    )


def draw(
    keys: Sequence[dict[str, Any]], seed: int, computed: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The weights that a list of `{"key", "shape", "dtype"}` stands for.

    Counters are zero; what has one of `computed` in its name is left out.
    """
    state: dict[str, Tensor] = {}
    for entry in keys:
        key, shape = entry["key"], tuple(entry["shape"])
        if any(part in key for part in computed):
            continue
        if entry["dtype"].startswith("float"):
            state[key] = torch.from_numpy(np.asarray(_tensor(key, shape, seed), np.float32))
        else:
            state[key] = torch.zeros(shape, dtype=torch.int64)
    return state


def _tensor(key: str, shape: tuple[int, ...], seed: int) -> Floats:
    """Values that depend on (key, shape, seed) alone, scaled so that activations stay sensible.

    The rule is the fixtures' own and can only be followed: normal draws of NumPy's PCG64, seeded
    by the CRC-32 of the key plus the seed.
    """
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()) + seed))
    values: Floats = generator.standard_normal(shape, dtype=np.float32)
    if key.endswith(".tps.src_points"):
        return _CORNERS + np.float32(0.1) * values
    if key.endswith(".tps.angle_predictor.6.weight"):  # keeps angles within 75 degrees
        return values * np.float32(0.08 / math.sqrt(shape[-1]))
    if key.endswith("running_var"):
        return np.abs(values) * np.float32(0.5) + np.float32(0.5)
    if key.endswith("running_mean"):
        return values * np.float32(0.1)
    if len(shape) <= 1:
        gain = key.endswith("weight")
        return 1 + np.float32(0.1) * values if gain else np.float32(0.05) * values
    if "patch_embed" in key or key.endswith("conv1.weight"):
        return values * np.float32(0.02)
    if shape[-1] > 3:
        return values * np.float32(0.8 / math.sqrt(shape[-1]))
    return values * np.float32(0.1)


def _serving(network: Method, views: Tensor) -> Iterator[tuple[Tensor, nn.Module]]:
    """The rows of a batch and the export form that serves them."""
    if not network.needs_view:
        yield torch.arange(len(views)), network.serving(None)
        return
    served: tuple[tuple[View, int], ...] = (("aerial", AERIAL), ("ground", GROUND))
    for word, label in served:
        rows = torch.nonzero(views == label)[:, 0]
        if rows.numel():
            yield rows, network.serving(word)


def table(results: dict[str, Result]) -> str:
    """A line per model: both forms, and whether the limits are kept."""
    lines = [f"{'':<10} {'training form':>22}  {'export form':>22}"]
    for method, result in results.items():
        cells = "  ".join(
            f"{a.max_abs:9.2e} {a.min_cosine:.9f}  " for a in (result.training, result.export)
        )
        lines.append(f"{method:<10} {cells}{'ok' if result.worst.holds else 'DIFFERS'}")
    lines.append(f"columns: max |difference| (limit {MAX_ABS:g}), min cosine (limit {MIN_COSINE})")
    return "\n".join(lines)
